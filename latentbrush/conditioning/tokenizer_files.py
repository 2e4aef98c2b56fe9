"""The files of a CLIP tokeniser: vocab.json and merges.txt, or tokenizer.json, and their configuration."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, cast

from tokenizers import AddedToken

from latentbrush.errors import UserError
from latentbrush.files import read_json, small_text, write_json

__all__ = [
    "SpecialTokens",
    "TokenizerFiles",
    "parse_merges",
    "read_tokenizer",
    "write_tokenizer",
]

# transformers writes 1e30 where a tokeniser knows no limit.
NO_LIMIT = 10**20
MAX_NUMBER = 2**20
"""Of a token; the largest published vocabularies have a quarter of it."""
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class SpecialTokens:
    """Begin, end, padding and what unknown bytes become. SD 1 pads with the end, SD 2 with '!'."""

    bos: str = "<|startoftext|>"
    eos: str = "<|endoftext|>"
    pad: str = "<|endoftext|>"
    unk: str = "<|endoftext|>"

    def names(self) -> tuple[str, ...]:
        return (self.bos, self.eos, self.unk, self.pad)


@dataclass(frozen=True)
class TokenizerFiles:
    """What a tokeniser's folder says. `max_length` is None where it states no limit."""

    vocab: dict[str, int]
    merges: list[tuple[str, str]]
    special: SpecialTokens = field(default_factory=SpecialTokens)
    added: tuple[AddedToken, ...] = ()
    max_length: int | None = None


def parse_merges(entries: Iterable[str | Sequence[str]]) -> list[tuple[str, str]]:
    """Merges as tokenizers writes them, pairs or (before 0.20) 'left right'. ValueError for others."""
    merges = [tuple(entry.split(" ") if isinstance(entry, str) else entry) for entry in entries]
    if set(map(len, merges)) - {2} or set(map(type, chain.from_iterable(merges))) - {str}:
        raise ValueError("a merge is no pair of tokens")
    return cast("list[tuple[str, str]]", merges)


def read_tokenizer(directory: Path) -> TokenizerFiles:
    """Read a tokeniser's folder with transformers' precedence; UserError names the file that is wrong."""
    together = directory / "tokenizer.json"
    in_file: dict[int, AddedToken] = {}
    if together.is_file():
        content = read_json(together)
        vocab, merges = _vocabulary(together, content.get("model"))
        in_file = _added_tokens(together, content.get("added_tokens") or [])
    elif (directory / "vocab.json").is_file():
        vocab, merges = _vocabulary(
            directory / "vocab.json",
            {
                "vocab": read_json(directory / "vocab.json"),
                "merges": _merges_lines(directory / "merges.txt"),
            },
        )
    else:
        raise UserError(f"{directory} has no vocab.json and no tokenizer.json; is it a tokeniser's folder?")
    return _with_configuration(directory, vocab, merges, in_file)


def _merges_lines(path: Path) -> list[str]:
    try:
        lines = small_text(path).split("\n")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); vocab.json needs its merges.txt beside it") from None
    return [line.rstrip("\r") for line in lines if line.strip() and not line.startswith("#version")]


def _vocabulary(path: Path, model: Any) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a BPE model with `</w>`; UserError unless they fit each other."""
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        kind = model.get("type") if isinstance(model, dict) else model
        raise UserError(f"{path} holds a {kind} tokeniser; only CLIP's byte-level BPE is read here")
    if model.get("end_of_word_suffix", "</w>") != "</w>":
        raise UserError(
            f"{path} ends words with {model['end_of_word_suffix']!r}; CLIP's tokeniser ends them with '</w>'"
        )
    vocab = model.get("vocab")
    if not isinstance(vocab, dict) or not _are_numbers(vocab.values()):
        raise UserError(f"{path} has no vocabulary of tokens and their numbers, 0 to {MAX_NUMBER}; copy it again")
    if len(set(vocab.values())) != len(vocab):
        raise UserError(f"{path} gives one number to two tokens; copy it again")
    try:
        merges = parse_merges(model.get("merges") or [])
    except (TypeError, ValueError):
        raise UserError(f"the merges beside {path} are not pairs of tokens; copy them again") from None
    # Sets, for these are tens of thousands, and whoever opens a model waits for them.
    lacking = {*map("".join, merges), *chain.from_iterable(merges)} - vocab.keys()
    if lacking:
        raise UserError(f"{path} lacks {min(lacking)!r}, which its merges need; the two are of unlike models")
    return vocab, merges


def _flags(entry: Mapping[str, Any]) -> dict[str, bool]:
    return {flag: bool(entry[flag]) for flag in FLAGS if flag in entry}


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_NUMBER


def _are_numbers(values: Collection[Any]) -> bool:
    """As `_is_number` of every one."""
    return not set(map(type, values)) - {int} and (not values or (min(values) >= 0 and max(values) <= MAX_NUMBER))


def _added_tokens(path: Path, entries: Any) -> dict[int, AddedToken]:
    """From a list of descriptions with their "id", or an object of numbers and descriptions."""
    added = {}
    try:
        for i, entry in [(e["id"], e) for e in entries] if isinstance(entries, list) else entries.items():
            number, content = int(i) if isinstance(i, str) else i, entry["content"]
            if not _is_number(number) or not isinstance(content, str) or not content:
                raise ValueError("no number, or no token")
            added[number] = AddedToken(content, **_flags(entry))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(f"{path} describes its added tokens in no known way; copy it again") from None
    return added


def _with_configuration(
    directory: Path, vocab: dict[str, int], merges: list[tuple[str, str]], in_file: dict[int, AddedToken]
) -> TokenizerFiles:
    """Add special tokens, added tokens and the length, each from the file that transformers asks."""
    path = directory / "tokenizer_config.json"
    config = read_json(path) if path.is_file() else {}
    for key in ("padding_side", "truncation_side"):
        if config.get(key, "right") != "right":
            raise UserError(f"{path}: {key} {config[key]!r} is not supported; only 'right' is")
    if config.get("split_special_tokens"):
        raise UserError(f"{path}: split_special_tokens true is not supported; only false is")
    if "added_tokens_decoder" in config:
        added = _added_tokens(path, config["added_tokens_decoder"])
    else:
        # Older folders keep their special tokens in a file of their own, which then has the last word.
        for name in ("special_tokens_map.json", "added_tokens.json"):
            if (directory / name).is_file():
                content = read_json(directory / name)
                config = {**config, **(content if name.startswith("special") else {"added_tokens": content})}
        added = _legacy_added(directory, config) | in_file
    special, flagged = _special_tokens(path, config)
    tokens = [token for _, token in sorted(added.items())]
    listed = {str(token.content) for token in tokens}
    tokens += [token for name, token in flagged.items() if name not in listed]
    _check_numbers(path, vocab, added)
    return TokenizerFiles(vocab, merges, special, tuple(tokens), _max_length(path, config))


def _legacy_added(directory: Path, config: Mapping[str, Any]) -> dict[int, AddedToken]:
    path = directory / "added_tokens.json"
    special = [_content(config.get(f"{name}_token")) for name in ("bos", "eos", "pad", "unk")]
    numbers = config.get("added_tokens") or {}
    if not isinstance(numbers, dict):
        raise UserError(f"{path} holds {numbers!r}, needed are tokens and their numbers; copy it again")
    entries = [
        {"id": i, "content": token, "special": token in special, "normalized": token not in special}
        for token, i in numbers.items()
    ]
    return _added_tokens(path, entries)


def _content(value: Any) -> Any:
    return value.get("content") if isinstance(value, dict) else value


def _special_tokens(path: Path, config: Mapping[str, Any]) -> tuple[SpecialTokens, dict[str, AddedToken]]:
    """The four names, and the tokens among them that the files describe with flags."""
    names: dict[str, str] = {}
    flagged: dict[str, AddedToken] = {}
    for name in ("bos", "eos", "unk", "pad"):
        value = config.get(f"{name}_token")
        if value is None:
            continue
        content = _content(value)
        if not isinstance(content, str) or not content:
            raise UserError(f"{path}: {name}_token is {value!r}, needed is a token of the vocabulary")
        names[name] = content
        if isinstance(value, dict):
            flagged.setdefault(content, AddedToken(content, **{**_flags(value), "special": True}))
        else:
            flagged.setdefault(content, AddedToken(content, special=True))
    return SpecialTokens(**names), flagged


def _check_numbers(path: Path, vocab: Mapping[str, int], added: Mapping[int, AddedToken]) -> None:
    """Added tokens outside the vocabulary are numbered on from its size; a file must not say otherwise."""
    following = len(vocab)
    for number, token in sorted(added.items()):
        expected = vocab.get(str(token.content), following)
        following += expected == following and str(token.content) not in vocab
        if number != expected:
            raise UserError(
                f"{path}: added token {token.content!r} has number {number}, but the vocabulary makes it "
                f"{expected}; vocabulary and configuration are of unlike models"
            )


def _max_length(path: Path, config: Mapping[str, Any]) -> int | None:
    value = config.get("model_max_length")
    if value is None:
        return None
    if not isinstance(value, bool) and isinstance(value, int | float):
        if value > NO_LIMIT:
            return None
        if 1 <= value <= MAX_NUMBER:
            return int(value)
    raise UserError(
        f"{path}: model_max_length is {value!r}, needed is a number of tokens such as 77, at most {MAX_NUMBER}"
    )


def write_tokenizer(
    directory: Path,
    *,
    vocab: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    special: SpecialTokens,
    added: Mapping[int, AddedToken],
    max_length: int,
) -> None:
    """Write the four files that transformers' and diffusers' CLIPTokenizer opens; makes the folder."""
    directory.mkdir(parents=True, exist_ok=True)
    ordered = dict(sorted(vocab.items(), key=lambda item: item[1]))
    (directory / "vocab.json").write_text(json.dumps(ordered, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (directory / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    named = {f"{name}_token": token for name, token in asdict(special).items()}
    flags = {
        str(i): {"content": str(token.content), **{flag: getattr(token, flag) for flag in FLAGS}}
        for i, token in sorted(added.items())
    }
    write_json(directory / "special_tokens_map.json", named)
    write_json(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": max_length,
            "add_prefix_space": False,
            "do_lower_case": True,
            "errors": "replace",
            "clean_up_tokenization_spaces": True,
            **named,
            "added_tokens_decoder": flags,
        },
    )
