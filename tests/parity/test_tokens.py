"""Tokens agree with transformers' CLIPTokenizer, to the last one, in every kind of folder."""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer

from latentbrush.conditioning import SpecialTokens, Tokenizer, train_tokenizer

pytestmark = pytest.mark.capability("tokeniser")

TEXTS = [
    "a photo of an astronaut riding a horse on mars, 4k, highly detailed",
    "it's a dog's life, they'll say; we've been I'm you'd don't",
    "고양이 한 마리가 소파에 앉아 있다. 고양이는 귀엽다. 빨간 하트, 파란 하트",
    "the red heart and the blue heart; the red cat and the blue cat! the the the",
]
PROMPTS = [
    "",
    " ",
    "\n\t ",
    "a cat",
    "A PHOTO of a Cat!!! wow!",
    "한국어로 쓴 프롬프트, 소파 위의 고양이 두 마리와 빨간 하트",
    unicodedata.normalize("NFD", "한국어 카페 éàü ñ"),
    unicodedata.normalize("NFC", "한국어 카페 éàü ñ"),
    "👩🏽‍🚒 🧑🏿‍🤝‍🧑🏻 👨‍👩‍👧‍👦 🇰🇷🇫🇷 ❤️ ❤ 👍🏼 🏴󠁧󠁢󠁷󠁬󠁳󠁿 #️⃣",
    "ffi ligatures fi ﬂ Å Å ª ² ½ Ⅷ ⑤ 1234567 12,345.67 ٣٤٥ १२३ ４２",
    "combining: a\u0301\u0323 e\u0301 \u0301alone q\u0307\u0323 z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍a",
    "control\x00\x01\x07\x1b\x7f\x85 \u200b\u200d\u200e\ufeff\u00ad\u2028\u2029 end",
    "it's they'll WE'VE I'm you'd don't 'sup rock'n'roll 's 't ''''s ’s ’ll",
    "long " + " " * 500 + "white\u00a0\u3000\u2003space\r\n\r\n\t\ttabs",
    "<|startoftext|>a<|endoftext|> b <|endoftext|><|endoftext|>",
    "<|StartOfText|> <|ENDOFTEXT|> <| startoftext |> <|endoftext|x",
    "İstanbul ΑΣ ΣΑΣ straße ẞ ǅ ﬁ K Ω ſ",
    "𝕱𝖆𝖓𝖈𝖞 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 日本語の文章 中文字符 русский текст العربية עברית हिन्दी ไทย",
    "under_score-dash—em…dots (((weights:1.3))) [alt|ern] {x} a/b\\c @#$%^&*~`",
    "!",
    "!!! ! hello!world !a",
    "a" * 400,
    "word " * 300,
    "고양이" * 100,
    "🙂" * 90,
    "\ue000\uf8ff \U0010ffff \U000e0001 \ufffd",
]


def random_prompts(count: int, seed: int = 0) -> list[str]:
    """Strings of code points from everywhere but the surrogates, which no UTF-8 text holds."""
    draw = random.Random(seed)
    ranges = [(0x20, 0x7F), (0, 0x300), (0x300, 0x370), (0xAC00, 0xD7A4), (0x1F300, 0x1FB00), (0xE000, 0x110000)]
    return ["".join(chr(draw.randrange(*draw.choice(ranges))) for _ in range(draw.randrange(40))) for _ in range(count)]


def base(directory: Path) -> None:
    train_tokenizer(TEXTS * 3, 900, 77).save(directory)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def ours(directory: Path) -> None:
    base(directory)


def padded_with_exclamation(directory: Path) -> None:
    """Stable Diffusion 2's folder: flags in special_tokens_map.json, padding with '!', id 0."""
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    base(directory)
    (directory / "special_tokens_map.json").write_text(
        json.dumps(
            {
                "bos_token": {"content": "<|startoftext|>", **flags},
                "eos_token": {"content": "<|endoftext|>", **flags},
                "pad_token": "!",
                "unk_token": {"content": "<|endoftext|>", **flags},
            }
        )
    )
    typed = {"__type": "AddedToken", **flags}
    (directory / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "CLIPTokenizer",
                "model_max_length": 77,
                "bos_token": {"content": "<|startoftext|>", **typed},
                "eos_token": {"content": "<|endoftext|>", **typed},
                "pad_token": "<|endoftext|>",
                "unk_token": {"content": "<|endoftext|>", **typed},
            }
        )
    )


def saved_by_transformers(directory: Path) -> None:
    """transformers 5 saves tokenizer.json alone."""
    base(directory / "base")
    CLIPTokenizer.from_pretrained(directory / "base").save_pretrained(directory)
    assert (directory / "tokenizer.json").is_file()
    assert not (directory / "vocab.json").is_file()


def with_added_tokens(directory: Path) -> None:
    """A learnt concept, as textual inversion adds it, and one that is not special."""
    base(directory / "base")
    theirs = CLIPTokenizer.from_pretrained(directory / "base")
    theirs.add_tokens(["<my-cat>", "supercalifragilistic"])
    theirs.save_pretrained(directory)


def with_added_tokens_file(directory: Path) -> None:
    base(directory)
    config = json.loads((directory / "tokenizer_config.json").read_text())
    del config["added_tokens_decoder"]
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    size = len(json.loads((directory / "vocab.json").read_text()))
    (directory / "added_tokens.json").write_text(json.dumps({"<my-cat>": size, "HORSE": size + 1}))


def bare(directory: Path) -> None:
    """Only the vocabulary, with its length."""
    base(directory)
    (directory / "special_tokens_map.json").unlink()
    (directory / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 20}))


FOLDERS = [ours, padded_with_exclamation, saved_by_transformers, with_added_tokens, with_added_tokens_file, bare]


@pytest.mark.parametrize("folder", FOLDERS)
def test_tokens_are_those_of_transformers(folder: Callable[[Path], None], tmp_path: Path) -> None:
    folder(tmp_path)
    ours, theirs = Tokenizer.from_folder(tmp_path), CLIPTokenizer.from_pretrained(tmp_path)
    prompts = [*PROMPTS, "a <my-cat> on a HORSE, horse <MY-CAT>supercalifragilistic", *random_prompts(300)]
    expected = theirs(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    found = ours.encode(prompts)
    assert found.dtype == torch.int64
    for prompt, a, b in zip(prompts, found, expected, strict=True):
        assert a.tolist() == b.tolist(), prompt
    assert ours.max_length == theirs.model_max_length
    assert ours.pad_id == theirs.pad_token_id


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_we_save_is_read_alike_by_both(folder: Callable[[Path], None], tmp_path: Path) -> None:
    folder(tmp_path)
    first = Tokenizer.from_folder(tmp_path)
    first.save(tmp_path / "again")
    again, theirs = Tokenizer.from_folder(tmp_path / "again"), CLIPTokenizer.from_pretrained(tmp_path / "again")
    prompts = [*PROMPTS, "a <my-cat> on a HORSE, horse <MY-CAT>supercalifragilistic", *random_prompts(100, 1)]
    assert torch.equal(first.encode(prompts), again.encode(prompts))
    expected = theirs(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    assert torch.equal(again.encode(prompts), expected)


def test_a_trained_vocabulary_with_another_padding_is_read_alike(tmp_path: Path) -> None:
    trained = train_tokenizer(TEXTS * 3, 700, 24)
    special = SpecialTokens(pad="!")
    Tokenizer(trained.vocab, trained.merges, max_length=24, special=special).save(tmp_path)
    theirs = CLIPTokenizer.from_pretrained(tmp_path)
    expected = theirs(PROMPTS, padding="max_length", truncation=True, return_tensors="pt").input_ids
    assert torch.equal(Tokenizer.from_folder(tmp_path).encode(PROMPTS), expected)
