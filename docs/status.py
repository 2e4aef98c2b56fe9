"""Write docs/status.md: which of the capabilities in docs/capabilities.yaml have tests, and which are absent.

    python docs/status.py

Tests are found by their marker, read from the source: nothing is imported or run. That they pass is what
`make test` and `make test-slow` are for, and no change lands where they do not.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
CAPABILITIES = ROOT / "docs" / "capabilities.yaml"
STATUS = ROOT / "docs" / "status.md"
MARKER = "pytest.mark.capability"


@dataclass(frozen=True)
class Proof:
    """A test that carries the marker. `file`: relative to the repository."""

    capability: str
    file: str
    test: str


def promised() -> dict[str, dict[str, str]]:
    """Section -> name -> description. ValueError for a name that stands in two sections."""
    sections: dict[str, dict[str, str]] = yaml.safe_load(CAPABILITIES.read_text(encoding="utf-8"))
    names = [name for section in sections.values() for name in section]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{CAPABILITIES} has {', '.join(twice)} twice; keep one")
    return sections


def proofs(tests: Path = ROOT / "tests") -> list[Proof]:
    """Every marked test below `tests`, in order of files and lines."""
    return [proof for path in sorted(tests.rglob("test_*.py")) for proof in _in_file(path, tests.parent)]


def _in_file(path: Path, root: Path) -> Iterator[Proof]:
    module = ast.parse(path.read_text(encoding="utf-8"), str(path))
    of_file: list[str] = []
    for node in module.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in node.targets):
            marks = node.value.elts if isinstance(node.value, ast.List | ast.Tuple) else [node.value]
            of_file += [name for mark in marks for name in _named(mark, path)]
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            own = [name for mark in node.decorator_list for name in _named(mark, path)]
            for name in dict.fromkeys([*of_file, *own]):
                yield Proof(name, path.relative_to(root).as_posix(), node.name)


def _named(mark: ast.expr, path: Path) -> list[str]:
    """The capabilities that a mark names; ValueError unless they are written out."""
    if not isinstance(mark, ast.Call) or ast.unparse(mark.func) != MARKER:
        return []
    names = [argument.value for argument in mark.args if isinstance(argument, ast.Constant)]
    if not names or len(names) < len(mark.args) or mark.keywords:
        raise ValueError(f"{path}:{mark.lineno}: {MARKER} takes the names of capabilities, as literals")
    return [str(name) for name in names]


def status(sections: dict[str, dict[str, str]], found: list[Proof]) -> str:
    """The page. ValueError for a marker that names no capability."""
    tests: dict[str, list[Proof]] = defaultdict(list)
    for proof in found:
        tests[proof.capability].append(proof)
    known = {name for section in sections.values() for name in section}
    for unknown in sorted(tests.keys() - known):
        first = tests[unknown][0]
        raise ValueError(f"{first.file}: {first.test} names {unknown!r}, which {CAPABILITIES.name} has not")
    lines = [
        "# Status",
        "",
        "Written by `python docs/status.py` from [capabilities.yaml](capabilities.yaml), which lists what latentbrush",
        "promises, and from the tests that are marked to prove it. No change lands unless they pass. Absent is what",
        "no test proves: most of it is not built yet.",
        "",
        f"**{len(tests)} of {len(known)} capabilities have tests; the other {len(known) - len(tests)} are absent.**",
    ]
    for title, section in sections.items():
        have = sum(name in tests for name in section)
        lines += ["", f"## {title}: {have} of {len(section)}", "", "| capability | | tests |", "|---|---|---|"]
        lines += [
            f"| {_cell(text)} | {_state(tests[name])} | {_links(tests[name])} |" for name, text in section.items()
        ]
    return "\n".join(lines) + "\n"


def _state(tests: list[Proof]) -> str:
    """No test is run here; one that is skipped counts, too."""
    return "tested" if tests else "absent"


def _cell(text: str) -> str:
    """As a cell of a table in Markdown, where a bar would end it."""
    return text.replace("|", "\\|")


def _links(tests: list[Proof]) -> str:
    """How many tests in which files."""
    counts: dict[str, int] = defaultdict(int)
    for proof in tests:
        counts[proof.file] += 1
    return ", ".join(f"[{Path(file).stem}](../{file}) ({count})" for file, count in counts.items())


def main() -> None:
    STATUS.write_text(status(promised(), proofs()), encoding="utf-8")
    print(STATUS)


if __name__ == "__main__":
    main()
