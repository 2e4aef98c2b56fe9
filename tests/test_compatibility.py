"""docs/compatibility.md says what the tests' marks say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from scripts import ROOT, load_script

compatibility = load_script("docs/compatibility.py")
ROWS = {"sd1": {"name": "Stable Diffusion 1", "use": "`txt2img`"}, "ddpm": {"name": "DDPM", "use": "`sample`"}}


@pytest.mark.slow
def test_the_page_is_up_to_date(tmp_path: Path) -> None:
    """In a process of its own, where no other test's options count."""
    code = (
        "import sys; sys.path.insert(0, 'docs'); import compatibility, pathlib; "
        f"compatibility.PAGE = pathlib.Path({str(tmp_path / 'page.md')!r}); compatibility.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    written = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    assert written == (tmp_path / "page.md").read_text(encoding="utf-8"), "run `python docs/compatibility.py`"


def test_a_cell_links_to_the_tests_that_show_it() -> None:
    page = compatibility.page(ROWS, {"sd1": {"folder": ["tests/parity/test_a.py", "tests/parity/test_a.py"]}})
    assert "| Stable Diffusion 1 | `txt2img` | – | [a](../tests/parity/test_a.py) | – | – | – |" in page
    assert "| DDPM | `sample` | – | – | – | – | – |" in page
    assert "| EulerDiscreteScheduler |  | `euler` | karras, exponential, beta | yes | – |" in page
    assert "| DPMSolverMultistepScheduler | `algorithm_type=sde-dpmsolver++`, `solver_order=1 or 2` |" in page


def test_a_mark_names_a_row_and_a_column() -> None:
    with pytest.raises(ValueError, match=r"compatible with 'sd9', which compatibility.yaml has not"):
        compatibility.page(ROWS, {"sd9": {"folder": ["tests/parity/test_a.py"]}})
    with pytest.raises(ValueError, match="a test shows speed of sd1; columns are size, folder"):
        compatibility.page(ROWS, {"sd1": {"speed": ["tests/parity/test_a.py"]}})
