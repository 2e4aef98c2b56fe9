"""docs/status.md says what the tests' markers say, and the markers are read as pytest reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts import ROOT, load_script

status = load_script("docs/status.py")


def test_the_page_is_up_to_date() -> None:
    written = (ROOT / "docs" / "status.md").read_text(encoding="utf-8")
    assert written == status.status(status.promised(), status.proofs()), "run `python docs/status.py`"


def test_markers_are_read_as_pytest_reads_them(request: pytest.FixtureRequest) -> None:
    """Of all tests that this run has collected, be they few or all."""
    read: dict[tuple[str, str], set[str]] = {}
    for proof in status.proofs():
        read.setdefault((proof.file, proof.test), set()).add(proof.capability)
    for item in request.session.items:
        assert isinstance(item, pytest.Function)
        names = {name for mark in item.iter_markers("capability") for name in mark.args}
        assert names == read.get((item.path.relative_to(ROOT).as_posix(), item.originalname), set()), item.nodeid


def page(tmp_path: Path, test: str) -> str:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(test)
    text: str = status.status(
        {"Painting": {"ddim": "DDIM", "plms": "PLMS, ema|raw"}, "Serving": {"api": "An API"}},
        status.proofs(tmp_path / "tests"),
    )
    return text


def test_a_promise_is_tested_or_absent(tmp_path: Path) -> None:
    text = page(
        tmp_path,
        'pytestmark = [pytest.mark.slow, pytest.mark.capability("ddim")]\n\n\n'
        'def test_a(): ...\n\n\n@pytest.mark.capability("api", "ddim")\n@pytest.mark.slow\ndef test_b(): ...\n\n\n'
        '@pytest.mark.capability("plms")\ndef not_a_test(): ...\n',
    )
    assert "| DDIM | tested | [test_it](../tests/test_it.py) (2) |" in text
    assert "| An API | tested | [test_it](../tests/test_it.py) (1) |" in text
    assert r"| PLMS, ema\|raw | absent |  |" in text
    assert "**2 of 3 capabilities have tests; the other 1 are absent.**" in text
    assert "## Painting: 1 of 2" in text


def test_a_marker_names_promises_in_so_many_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tests/test_it.py: test_a names 'dim', which capabilities.yaml has not"):
        page(tmp_path, '@pytest.mark.capability("dim")\ndef test_a(): ...\n')


@pytest.mark.parametrize("arguments", ["", "NAME", '"ddim", NAME', '*("ddim",)', 'name="ddim"'])
def test_a_computed_name_is_refused(arguments: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"test_it.py:1: pytest.mark.capability takes the names"):
        page(tmp_path, f"@pytest.mark.capability({arguments})\ndef test_a(): ...\n")
