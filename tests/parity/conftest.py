"""The two oracles of the sampler tests."""

import pytest
from published import EXACT, PUBLISHED, exactly


@pytest.fixture(params=[(exactly, EXACT), (lambda s: s, PUBLISHED)], ids=["exact", "published"])
def judge(request):
    """(what makes the scheduler this oracle, the tolerance)."""
    return request.param


def pytest_configure(config):
    # numpy's complaints about how diffusers turns its tables into arrays
    config.addinivalue_line("filterwarnings", "ignore:__array_wrap__ must accept:DeprecationWarning")
    config.addinivalue_line("filterwarnings", "ignore:__array__ implementation:DeprecationWarning")
