"""BERT's tokeniser: lower-cased words -> the longest word pieces of a vocabulary (Devlin et al. 2019, section 3;
Wu et al. 2016, section 4.1).

The rules are those of `transformers.BertTokenizer`, to the last token: clean text, Chinese letters apart, accents
stripped, words and punctuation apart; a word of more than 100 letters, or without pieces, is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from latentbrush.conditioning.prompt_tokenizer import PromptTokenizer
from latentbrush.conditioning.tokenizer_files import MAX_NUMBER, SpecialTokens
from latentbrush.errors import UserError, short
from latentbrush.files import read_json, small_text, write_json

__all__ = ["WordPieceTokenizer", "has_vocabulary"]

PREFIX = "##"
NAMES = {"bos": "cls_token", "eos": "sep_token", "pad": "pad_token", "unk": "unk_token"}
"""Ours and BERT's for the four special tokens."""
USUAL = SpecialTokens(bos="[CLS]", eos="[SEP]", pad="[PAD]", unk="[UNK]")
MASK = "[MASK]"
VOCABULARY, TOGETHER, CONFIG = "vocab.txt", "tokenizer.json", "tokenizer_config.json"


class WordPieceTokenizer(PromptTokenizer):
    """BERT's. `vocab`: piece -> id, pieces that go on with a word begin with ##. `max_length`, `special`: as
    `PromptTokenizer` has them. `lower_case`: is all text lower-cased? `strip_accents`: None for so, too, then.
    `chinese`: is every Chinese letter a word? `mask`: a further special token, which BERT was trained with.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        *,
        max_length: int,
        special: SpecialTokens = USUAL,
        lower_case: bool = True,
        strip_accents: bool | None = None,
        chinese: bool = True,
        mask: str = MASK,
    ) -> None:
        self.lower_case, self.strip_accents, self.chinese, self.mask = lower_case, strip_accents, chinese, mask
        own = dict(vocab)
        backend = Backend(models.WordPiece(own, unk_token=special.unk, continuing_subword_prefix=PREFIX))
        backend.normalizer = normalizers.BertNormalizer(
            clean_text=True, handle_chinese_chars=chinese, strip_accents=strip_accents, lowercase=lower_case
        )
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        added = [AddedToken(mask, special=True)] if mask in own else []
        super().__init__(backend, own, max_length=max_length, special=special, added=added)

    @classmethod
    def from_folder(cls, directory: str | Path, *, max_length: int) -> WordPieceTokenizer:
        """Read tokenizer.json, or vocab.txt, with their configuration file. UserError for missing, broken or foreign
        files."""
        folder = Path(directory)
        normalizer: Any = None
        more: Any = []
        if (folder / TOGETHER).is_file():
            content = read_json(folder / TOGETHER)
            vocab, normalizer = _together(folder / TOGETHER, content), content.get("normalizer")
            more = content.get("added_tokens") or []
        elif (folder / VOCABULARY).is_file():
            vocab = _lines(folder / VOCABULARY)
        else:
            raise UserError(
                f"{folder} has no {VOCABULARY} and no {TOGETHER}; put BERT's vocabulary (bert-base-uncased) there"
            )
        path = folder / CONFIG
        config = read_json(path) if path.is_file() else {}
        for key in ("padding_side", "truncation_side"):
            if config.get(key, "right") != "right":
                raise UserError(f"{path}: {key} {short(config[key])} is not supported; only 'right' is")
        lower_case = _flag(path, config, "do_lower_case", True)
        assert lower_case is not None
        chinese = _flag(path, config, "tokenize_chinese_chars", True)
        assert chinese is not None
        strip_accents = _flag(path, config, "strip_accents", None)
        if isinstance(normalizer, dict):
            _check_rules(path, normalizer, lower_case, strip_accents, chinese)
        names = {name: _token(path, config, key, getattr(USUAL, name)) for name, key in NAMES.items()}
        mask = _token(path, config, "mask_token", MASK)
        for entries in (more, config.get("added_tokens_decoder") or {}):
            _refuse_more(folder, entries, vocab, {*names.values(), mask})
        return cls(
            vocab,
            max_length=max_length,
            special=SpecialTokens(**names),
            lower_case=lower_case,
            strip_accents=strip_accents,
            chinese=chinese,
            mask=mask,
        )

    def save(self, directory: str | Path) -> None:
        """Write vocab.txt and what `transformers.BertTokenizer` needs beside it; makes the folder."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        ordered = sorted(self.vocab, key=self.vocab.__getitem__)
        (folder / VOCABULARY).write_text("".join(f"{token}\n" for token in ordered), encoding="utf-8", newline="")
        special = {key: getattr(self.special, name) for name, key in NAMES.items()} | {"mask_token": self.mask}
        write_json(folder / "special_tokens_map.json", special)
        write_json(
            folder / CONFIG,
            {
                "tokenizer_class": "BertTokenizer",
                "model_max_length": self.max_length,
                "do_lower_case": self.lower_case,
                "strip_accents": self.strip_accents,
                "tokenize_chinese_chars": self.chinese,
                **special,
            },
        )


def has_vocabulary(directory: Path) -> bool:
    """Is a tokeniser's vocabulary in a folder?"""
    return any((directory / name).is_file() for name in (VOCABULARY, TOGETHER))


def _lines(path: Path) -> dict[str, int]:
    """A token a line, numbered from 0. A line ends with LF alone: other ends may stand in a token."""
    try:
        lines = small_text(path).removesuffix("\n").split("\n")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); copy or download it again") from None
    vocab = {token: number for number, token in enumerate(lines)}
    if len(vocab) != len(lines) or len(vocab) > MAX_NUMBER:
        raise UserError(f"{path} has {len(lines)} lines of {len(vocab)} different tokens; copy or download it again")
    return vocab


def _together(path: Path, content: Mapping[str, Any]) -> dict[str, int]:
    model = content.get("model")
    if not isinstance(model, dict) or model.get("type") != "WordPiece":
        kind = model.get("type") if isinstance(model, dict) else model
        raise UserError(f"{path} holds a {short(kind)} tokeniser; needed is BERT's, WordPiece")
    if model.get("continuing_subword_prefix", PREFIX) != PREFIX:
        raise UserError(f"{path}: continuing_subword_prefix {short(model['continuing_subword_prefix'])}, needed is ##")
    vocab = model.get("vocab")
    whole = isinstance(vocab, dict) and all(type(number) is int for number in vocab.values())
    if not isinstance(vocab, dict) or not whole or sorted(vocab.values()) != list(range(len(vocab))):
        raise UserError(f"{path} has no vocabulary of tokens and their numbers, from 0 on; copy it again")
    return vocab


def _check_rules(
    path: Path, normalizer: Mapping[str, Any], lower_case: bool, strip_accents: bool | None, chinese: bool
) -> None:
    """UserError where tokenizer.json has other rules than the configuration, or its defaults: transformers goes by
    the latter and tokenizers by the former, and a prompt would become other tokens."""
    rules: tuple[tuple[str, str, bool | None], ...] = (
        ("do_lower_case", "lowercase", lower_case),
        ("strip_accents", "strip_accents", strip_accents),
        ("tokenize_chinese_chars", "handle_chinese_chars", chinese),
    )
    for key, theirs, value in rules:
        stated = normalizer.get(theirs, value)
        # Accents that are not spoken of go where capitals go.
        known, found = (lower_case if rule is None and key == "strip_accents" else rule for rule in (value, stated))
        if found is not known:
            raise UserError(
                f"{path}: {key} {value} is not what {TOGETHER} says, {theirs} {short(stated)}; correct one of them"
            )


def _flag(path: Path, config: Mapping[str, Any], key: str, default: bool | None) -> bool | None:
    value = config.get(key, default)
    if value is None and default is None:
        return None
    if not isinstance(value, bool):
        raise UserError(f"{path}: {key} is {short(value)}, needed is true or false; correct it in that file")
    return value


def _token(path: Path, config: Mapping[str, Any], key: str, usual: str) -> str:
    value = config.get(key, usual)
    content = value.get("content") if isinstance(value, dict) else value
    if not isinstance(content, str) or not content:
        raise UserError(f"{path}: {key} is {short(value)}, needed is a token of the vocabulary")
    return content


def _refuse_more(folder: Path, entries: Any, vocab: Mapping[str, int], known: set[str]) -> None:
    """Of added tokens only the special ones: a vocabulary that was enlarged is not BERT's. `entries`: a list of
    descriptions with their "id", or an object of numbers and descriptions."""
    try:
        pairs = [(e["id"], e) for e in entries] if isinstance(entries, list) else list(entries.items())
        found = [(int(number), entry["content"]) for number, entry in pairs]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(f"{folder} describes its added tokens in no known way; copy it again") from None
    for number, token in found:
        if token not in known or vocab.get(token) != number:
            raise UserError(
                f"{folder}: added token {short(token)} with number {number} is none of BERT's; "
                "take the tokeniser's folder of the model itself"
            )
