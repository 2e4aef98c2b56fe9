"""YAML as recipes need it: values and nothing else, read in a time that grows with the file alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from latentbrush.files import small_text

__all__ = ["parse_yaml", "read_yaml"]

MOST = 2**20
"""Bytes; PyYAML reads about as many in a second, and a recipe has two thousand."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without what lets a short file say endlessly much, and without what it overlooks."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):  # a few of them, each of the one before, are more than any memory
            alias = self.peek_event()  # type: ignore[no-untyped-call]  # its stub leaves it untyped
            raise ComposerError(None, None, "aliases (*) are not read; write the value again", alias.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter((key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for (_, key), count in keys.items():
            if count > 1:  # of two, PyYAML would take the last without a word
                raise ConstructorError(None, None, f"it states {key!r} twice", node.start_mark)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """The one value that a text states, of YAML's own kinds. ValueError, on one line, for what is none."""
    try:
        return yaml.load(text, _Loader)  # it is a SafeLoader
    except (yaml.YAMLError, ValueError) as error:  # PyYAML reads 2024-13-45 as a date, and lets datetime's error out
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("it has too many levels") from None
    except (KeyError, IndexError, AttributeError) as error:  # what it makes of `!!bool x`, `!!int ""`, `!!timestamp x`
        raise ValueError("a value is not what its tag (!!) says") from error


def read_yaml(path: Path) -> Any:
    """The value in a file. OSError or ValueError for what is no regular file of YAML, or too large."""
    return parse_yaml(small_text(path, MOST))
