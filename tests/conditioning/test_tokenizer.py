"""The tokeniser by itself; that its tokens are transformers' is tested in tests/parity."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from latentbrush.conditioning import SpecialTokens, TextConditioner, Tokenizer, train_tokenizer
from latentbrush.errors import UserError
from latentbrush.nn import CLIPTextConfig, CLIPTextModel

pytestmark = pytest.mark.capability("tokeniser")

TEXTS = ["a red cat on a sofa", "a red dog", "a blue cat", "빨간 하트", "the cat's sofa, the dog's sofa"] * 3


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, 560, 8)


def test_the_vocabulary_is_laid_out_as_clips(tokenizer: Tokenizer) -> None:
    tokens = sorted(tokenizer.vocab, key=lambda token: tokenizer.vocab[token])
    assert tokens[0] == "!"
    assert tokens[256] == "!</w>"
    assert len(set(tokens[:256])) == 256
    assert [token + "</w>" for token in tokens[:256]] == tokens[256:512]
    assert tokens[512:-2] == list(dict.fromkeys(left + right for left, right in tokenizer.merges))
    assert tokens[-2:] == ["<|startoftext|>", "<|endoftext|>"]
    assert tokenizer.vocab_size == len(tokens) <= 560
    assert list(tokenizer.vocab.values()) == list(range(len(tokens)))


def test_a_vocabulary_has_the_size_that_is_asked_for_or_what_the_texts_hold() -> None:
    assert train_tokenizer(TEXTS, 520, 8).vocab_size == 520
    assert train_tokenizer(TEXTS, 50_000, 8).vocab_size < 600
    assert train_tokenizer([], 600, 8).vocab_size == 514
    with pytest.raises(UserError, match="vocab_size 513 is below 514"):
        train_tokenizer(TEXTS, 513, 8)


def test_every_byte_has_a_token_of_its_own(tokenizer: Tokenizer) -> None:
    """Else an unseen byte would be read as the end of the prompt."""
    for character in map(chr, [*range(33, 0x300), 0x3131, 0xD7A3, 0x1F600, 0x10FFFF]):
        if character.isspace():
            continue
        for prompt in (character, character * 2, f"a{character}b"):
            ids = [piece.id for piece in tokenizer.pieces(prompt)]
            assert ids
            assert tokenizer.eos_id not in ids, repr(character)


def test_training_is_the_same_in_another_process() -> None:
    """And for the texts in another order. Equally frequent pairs, of which there are many here, decide it."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyzäöü가나다", k=4)) for _ in range(300)] * 2
    code = (
        "import sys; from latentbrush.conditioning import train_tokenizer\n"
        f"t = train_tokenizer({words[::-1]!r}, 900, 8); sys.stdout.write(repr((t.vocab, t.merges)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = train_tokenizer(words, 900, 8)
    assert here.vocab_size == 900
    assert run.stdout == repr((here.vocab, here.merges))


def test_prompts_are_padded_and_cut_with_the_end_kept(tokenizer: Tokenizer) -> None:
    rows = tokenizer.encode(["", "a red cat", "red " * 20])
    assert rows.shape == (3, 8)
    assert rows.dtype == torch.int64
    bos, eos = tokenizer.bos_id, tokenizer.eos_id
    assert rows[0].tolist() == [bos] + [eos] * 7
    assert rows[1, 0] == bos
    assert rows[2, 0] == bos
    assert rows[2, -1] == eos
    assert eos not in rows[2, :-1]
    assert tokenizer.encode([]).shape == (0, 8)
    with pytest.raises(TypeError, match="a sequence of prompts"):
        tokenizer.encode("a red cat")


@pytest.mark.parametrize(
    ("prompt", "rest"),
    [
        ("", ""),
        ("red red red red red red", ""),
        ("red red red red red red cat  on", "cat  on"),
        ("  RED red red red red red   Cat on", "Cat on"),
        ("red red red red red 빨간 q\u0307 cat", "q\u0307 cat"),
        ("red red red red red 🍕 cat", "🍕 cat"),  # four bytes, of which one still fits
        ("red red red red red red<|endoftext|>", "<|endoftext|>"),
    ],
)
def test_what_does_not_fit_is_known(tokenizer: Tokenizer, prompt: str, rest: str) -> None:
    assert tokenizer.cut(prompt) == rest
    kept = prompt[: len(prompt) - len(rest)]
    assert torch.equal(tokenizer.encode([kept])[0, :6], tokenizer.encode([prompt])[0, :6])


def test_saving_and_reading_is_exact(tokenizer: Tokenizer, tmp_path: Path) -> None:
    other = Tokenizer(tokenizer.vocab, tokenizer.merges, max_length=9, special=SpecialTokens(pad="!"))
    other.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    assert (again.vocab, again.merges) == (other.vocab, other.merges)
    assert (again.special, again.max_length, again.pad_id) == (other.special, 9, 0)
    again.save(tmp_path / "again")
    for file in tmp_path.glob("*.*"):
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


@pytest.mark.parametrize("value", [None, 10**30, 1e30])
def test_without_a_length_the_towers_positions_decide(
    value: float | None, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path)
    edit(tmp_path / "tokenizer_config.json", model_max_length=value)
    assert Tokenizer.from_folder(tmp_path, positions=11).max_length == 11


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def nothing(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def no_merges(folder: Path) -> None:
    (folder / "merges.txt").unlink()


def no_json(folder: Path) -> None:
    (folder / "vocab.json").write_text("{")


def a_list(folder: Path) -> None:
    (folder / "vocab.json").write_text("[]")


def numbers_twice(folder: Path) -> None:
    edit(folder / "vocab.json", a=1)


def foreign_merges(folder: Path) -> None:
    (folder / "merges.txt").write_text("#version: 0.2\nzz qq</w>\n")


def merges_of_three(folder: Path) -> None:
    (folder / "merges.txt").write_text("#version: 0.2\na b c\n")


def left_padding(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", padding_side="left")


def no_room(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", model_max_length=2)


def length_in_words(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", model_max_length="long")


def endless(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", model_max_length=10**19)


def another_number(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", added_tokens_decoder={"9999": {"content": "<x>"}})


def word_pieces(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": {"type": "WordPiece", "vocab": {}}}')


def gpt2(folder: Path) -> None:
    model = {"type": "BPE", "vocab": {}, "merges": [], "end_of_word_suffix": ""}
    (folder / "tokenizer.json").write_text(json.dumps({"model": model}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (nothing, "has no vocab.json and no tokenizer.json"),
        (no_merges, "merges.txt cannot be read"),
        (no_json, r"vocab.json cannot be read as JSON"),
        (a_list, "holds a JSON list, needed is an object"),
        (numbers_twice, "gives one number to two tokens"),
        (foreign_merges, "lacks 'qq</w>', which its merges need"),
        (merges_of_three, "are not pairs of tokens"),
        (left_padding, "padding_side 'left' is not supported; only 'right' is"),
        (no_room, "max_length is 2, but must be at least 3"),
        (length_in_words, "model_max_length is 'long', needed is a number of tokens"),
        (endless, "model_max_length is 10000000000000000000, needed is a number of tokens such as 77, at most 1048576"),
        (another_number, "added token '<x>' has number 9999"),
        (word_pieces, "holds a WordPiece tokeniser; only CLIP's"),
        (gpt2, "ends words with ''"),
    ],
)
def test_broken_folders(spoil: Callable[[Path], None], message: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    spoil(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        Tokenizer.from_folder(tmp_path)
    assert "\n" not in str(caught.value)


def test_special_tokens_are_in_the_vocabulary(tokenizer: Tokenizer) -> None:
    special = SpecialTokens(eos="<end>")
    with pytest.raises(UserError, match=f"'<end>' is not among the {tokenizer.vocab_size} of the vocabulary"):
        Tokenizer(tokenizer.vocab, tokenizer.merges, max_length=8, special=special)


def tower(**changes: int) -> CLIPTextModel:
    shape = {"vocab_size": 560, "width": 16, "layers": 1, "heads": 2, "mlp_width": 8, "max_positions": 8}
    return CLIPTextModel(CLIPTextConfig(**{**shape, **changes})).eval()


def test_a_text_conditioner_reads_prompts(tokenizer: Tokenizer) -> None:
    text = TextConditioner(tokenizer, tower())
    condition = text(["a red cat", ""])
    assert condition.context.shape == (2, 8, text.width)
    assert torch.equal(condition.context, text.encoder(tokenizer.encode(["a red cat", ""])))
    assert text.cut("red " * 7) == "red "
    assert text.double()([""]).context.dtype == torch.float64
    assert len(text.state_dict()) == len(text.encoder.state_dict())


def test_a_tower_must_fit_its_tokeniser(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=f"knows {tokenizer.vocab_size} tokens, the text tower 520"):
        TextConditioner(tokenizer, tower(vocab_size=520))
    with pytest.raises(UserError, match="model_max_length 8 exceeds the text tower's 7 positions"):
        TextConditioner(tokenizer, tower(max_positions=7))
