"""Takes finished studies into the documentation: python docs/studies.py runs/study-zoo runs/study-steps

Each study's page (Markdown, with its pictures) and its figures (JSON) replace docs/studies/NAME.*.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

STUDIES = Path(__file__).parent / "studies"


def take(run: Path) -> Path:
    name = json.loads((run / "study.json").read_text(encoding="utf-8"))["study"]
    page, pictures = run / f"{name}.md", run / name
    STUDIES.mkdir(exist_ok=True)
    shutil.rmtree(STUDIES / name, ignore_errors=True)
    if pictures.is_dir():
        shutil.copytree(pictures, STUDIES / name)
    shutil.copy(run / "study.json", STUDIES / f"{name}.json")
    return Path(shutil.copy(page, STUDIES / f"{name}.md"))


def main() -> None:
    parser = argparse.ArgumentParser(description="take finished studies into the documentation")
    parser.add_argument("runs", type=Path, nargs="+", help="folders that `latentbrush study` filled")
    for run in parser.parse_args().runs:
        print(take(run))


if __name__ == "__main__":
    main()
