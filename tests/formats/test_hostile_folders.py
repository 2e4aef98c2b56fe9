"""Model folders that mean harm: refused in one line before much time or memory is spent, and nothing else is read."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from latentbrush import files
from latentbrush.conditioning import Tokenizer
from latentbrush.errors import LONGEST, UserError
from latentbrush.formats import folder as folder_format
from latentbrush.formats import load_autoencoder, load_clip, load_model
from latentbrush.formats import network as network_format
from latentbrush.model import LatentDiffusion

pytestmark = pytest.mark.capability("hostile-models")

UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
JSON = (
    *("model_index.json", "latentbrush.json", "scheduler/scheduler_config.json"),
    *("unet/config.json", "vae/config.json", "text_encoder/config.json"),
    *("tokenizer/vocab.json", "tokenizer/tokenizer_config.json", "tokenizer/special_tokens_map.json"),
)


def refusal(folder: Path, *parts: str, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        load_model(folder, **options)
    line = str(caught.value)
    for part in parts:
        assert part in line
    assert line.isprintable()  # on one line, and no control character either
    assert len(line) < LONGEST + 10
    return line


@pytest.mark.parametrize("file", JSON)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"a": ' * 40 + "1" + "}" * 40, "more than 32 levels"),
        ('{"a": ' * 100_000, "recursion"),
        ('{"a": ' + "9" * 5000 + "}", "digits"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "states 'c' twice"),
        ('{"a": "\\ud83d"}', "surrogates not allowed"),
        ('{"a": 1} {"b": 2}', "Extra data"),
        ("NaN", "a JSON float, needed is an object"),
        ('"text"', "a JSON str, needed is an object"),
    ],
    ids=["deep", "endless", "digits", "twice", "half a letter", "two", "nan", "text"],
)
def test_hostile_json(file: str, content: str, said: str, folder: Path) -> None:
    if file.endswith("special_tokens_map.json"):  # read only where no newer file says it all
        spoil(folder / "tokenizer/tokenizer_config.json", lambda config: config.pop("added_tokens_decoder"))
    (folder / file).write_text(content)
    refusal(folder, str(folder / file), said, "again")


def test_a_letter_in_two_escapes_is_one(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": "\\ud83d\\ude00"}')
    assert files.read_json(tmp_path / "a.json") == {"a": "😀"}


def test_a_file_too_large_to_read_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_TEXT", 50_000)
    for file in ("unet/config.json", "tokenizer/merges.txt"):
        path = folder / file
        whole = path.read_text()
        path.write_text(whole + " " * 50_000)
        refusal(folder, str(path), f"it has {len(whole) + 50_000} bytes, at most 50000 are read")
        path.write_text(whole)


def test_pipes_are_not_waited_for(folder: Path) -> None:
    for file in ("unet/config.json", "tokenizer/merges.txt"):
        path = folder / file
        path.unlink()
        os.mkfifo(path)
        refusal(folder, str(path), "no regular file")
        path.unlink()
        path.touch()


def spoil(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# Of each kind one that would once have ended in a traceback, an endless loop or a full memory.
HOSTILE: list[Any] = [
    *(None, True, -1, 10**9, 10**400, 0.5, float("nan")),
    *("x" * 100_000, "\x1b[2J\n\u202e", [], [None], [10**12], {"a": {}}),
]


@pytest.fixture
def without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are made of their configs, but not filled; for what is asked of the files beside that, it is quick."""
    monkeypatch.setattr(network_format, "load_weights", lambda *_: None)
    monkeypatch.setattr(folder_format, "stored_dtype", lambda *_: torch.float32)
    monkeypatch.setattr(LatentDiffusion, "to", lambda self, *_: self)
    monkeypatch.setattr(nn.Module, "eval", lambda self: self)


@pytest.mark.usefixtures("without_weights")
@pytest.mark.parametrize("file", JSON)
def test_every_field_with_every_hostile_value(file: str, folder: Path) -> None:
    """What a field may not be is a UserError; what it may be, is loaded."""
    path = folder / file
    whole = json.loads(path.read_text())
    fields = [key for key in whole if not key.startswith("_")][: 3 if file.endswith("vocab.json") else None]
    refused: list[str] = []
    for i, key in enumerate([*fields, "a_new_one"]):
        for value in HOSTILE[i % 3 :: 3]:  # each with a third of them, for the sake of time
            path.write_text(json.dumps({**copy.deepcopy(whole), key: value}))
            try:
                if path.parent.name == "tokenizer":
                    Tokenizer.from_folder(path.parent, positions=8)
                else:
                    load_model(folder)
            except UserError as error:
                refused.append(str(error))
    assert all(line.isprintable() and len(line) < LONGEST + 10 for line in refused)
    assert len(refused) >= len(fields) or file.endswith("special_tokens_map.json"), refused


@pytest.mark.usefixtures("without_weights")
@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("unet/config.json", {"layers_per_block": 101}, "layers_per_block is 101, but at most 100 is read"),
        (
            "unet/config.json",
            {"layers_per_block": 100, "transformer_layers_per_block": 100},
            "layers_per_block 100 times transformer_layers_per_block [100, 100] make more than the 1000 blocks",
        ),
        ("unet/config.json", {"cross_attention_dim": 2**21}, "at most 1048576 is read"),
        ("vae/config.json", {"layers_per_block": 200}, "layers_per_block is 200, but at most 100 is read"),
        ("vae/config.json", {"block_out_channels": [8] * 17}, "needed is at most 16 numbers"),
        ("text_encoder/config.json", {"num_hidden_layers": 10**6}, "but at most 100 is read"),
        ("latentbrush.json", {"width": 2**15}, "default size is 32768x24; choose at most 16384 a side"),
        ("tokenizer/vocab.json", {"zz": 2**21}, "numbers, 0 to 1048576"),
        ("tokenizer/tokenizer_config.json", {"bos_token": ""}, "bos_token is ''"),
        ("tokenizer/tokenizer_config.json", {"added_tokens_decoder": [3]}, "its added tokens in no known way"),
        ("scheduler/scheduler_config.json", {"trained_betas": [10**400]}, "trained_betas"),
    ],
)
def test_more_than_a_network_can_have(file: str, changes: dict[str, Any], said: str, folder: Path) -> None:
    spoil(folder / file, lambda content: content.update(changes))
    refusal(folder, str(folder / file) if "latentbrush" not in file else "", said)


def with_tensor(path: Path, key: str, change: Callable[[Tensor], Tensor]) -> None:
    state = {name: tensor.clone() for name, tensor in load_file(path).items()}
    state[key] = change(state[key])
    save_file(state, path)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_numbers_that_are_not_finite(number: float, dtype: torch.dtype, folder: Path) -> None:
    def spoilt(tensor: Tensor) -> Tensor:
        tensor = tensor.to(dtype)
        tensor[1, 2, 0, 1] = number
        return tensor

    with_tensor(folder / UNET_WEIGHTS, "conv_in.weight", spoilt)
    refusal(folder, str(folder / UNET_WEIGHTS), "conv_in.weight holds numbers that are not finite", "again")


def test_numbers_that_the_chosen_type_cannot_hold(folder: Path) -> None:
    with_tensor(folder / UNET_WEIGHTS, "conv_in.weight", lambda tensor: tensor * 1e7)
    load_model(folder)
    load_model(folder, dtype="bfloat16")
    refusal(folder, "conv_in.weight holds numbers too large for float16; load it as float32", dtype="float16")


def lie(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the header of a safetensors file, and nothing behind it."""
    whole = path.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + size :])


def offsets(*values: int) -> Callable[[dict[str, Any]], None]:
    return lambda header: header["conv_in.weight"].update(data_offsets=list(values))


def overlap(header: dict[str, Any]) -> None:
    """Two tensors of one shape in one place."""
    header["conv_norm_out.bias"]["data_offsets"] = header["conv_norm_out.weight"]["data_offsets"]


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "beyond the file": offsets(10**6, 10**6 + 1152),
    "backwards": offsets(1152, 0),
    "negative": offsets(-1152, 0),
    "beyond all numbers": offsets(2**64 - 1152, 2**64),
    "overlapping": overlap,
    "a hole": lambda header: header.pop("conv_in.weight"),
    "another type": lambda header: header["conv_in.weight"].update(dtype="F64"),
    "no known type": lambda header: header["conv_in.weight"].update(dtype="PICKLE"),
    "more than there is": lambda header: header["conv_in.weight"].update(shape=[2**20, 2**20]),
    "more than can be": lambda header: header["conv_in.weight"].update(shape=[2**63, 2**63, 4]),
    "a negative shape": lambda header: header["conv_in.weight"].update(shape=[-8, -4, 3, 3]),
    "no shape": lambda header: header["conv_in.weight"].pop("shape"),
    "no object": lambda header: header.update({"conv_in.weight": 3}),
}


@pytest.mark.parametrize("change", LIES.values(), ids=LIES.keys())
def test_headers_that_lie(change: Callable[[dict[str, Any]], Any], folder: Path) -> None:
    path = folder / UNET_WEIGHTS
    lie(path, lambda header: None)
    load_model(folder)
    lie(path, change)
    refusal(folder, str(path), "is no sound safetensors file", "again")


def test_links_that_lead_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"password": "1234"}')
    for file in ("model_index.json", "unet/config.json", "tokenizer/merges.txt", UNET_WEIGHTS, "latentbrush.json"):
        path = folder / file
        kept = path.rename(tmp_path / "kept")
        path.symlink_to(secret)
        assert "1234" not in refusal(folder, f"{path} is a link to {secret}, which leads out of its folder; copy")
        path.unlink()
        kept.rename(path)
    (folder / "vae").rename(tmp_path / "vae")
    (folder / "vae").symlink_to(tmp_path / "vae")
    refusal(folder, f"{folder / 'vae'} is a link to")
    load_autoencoder(folder / "vae")  # a folder that the user herself names may be a link
    (tmp_path / "vae" / "config.json").rename(tmp_path / "config.json")
    (tmp_path / "vae" / "config.json").symlink_to("../config.json")
    with pytest.raises(UserError, match="leads out of its folder"):
        load_autoencoder(folder / "vae")
    with pytest.raises(UserError, match="leads out of its folder"):
        load_clip(tmp_path / "vae")


def test_links_in_circles(folder: Path) -> None:
    (folder / "unet/config.json").unlink()
    (folder / "unet/config.json").symlink_to("config.json")
    refusal(folder, str(folder / "unet/config.json"), "leads nowhere; copy the whole folder again")


def test_links_that_stay_are_followed(folder: Path, tmp_path: Path) -> None:
    """Within the folder; of the folder itself; and as the Hugging Face hub keeps its snapshots."""
    (folder / "shared.json").write_bytes((folder / "unet/config.json").read_bytes())
    (folder / "unet/config.json").unlink()
    (folder / "unet/config.json").symlink_to("../shared.json")
    (tmp_path / "link").symlink_to(folder)
    load_model(tmp_path / "link")

    cache = tmp_path / "models--her--cats"
    (cache / "snapshots").mkdir(parents=True)
    (cache / "blobs").mkdir()
    snapshot = folder.rename(cache / "snapshots" / "1a2b")
    for path in [path for path in snapshot.rglob("*") if path.is_file() and not path.is_symlink()]:
        blob = path.rename(cache / "blobs" / path.relative_to(snapshot).as_posix().replace("/", "-"))
        path.symlink_to(blob)
    load_model(snapshot)
    load_autoencoder(snapshot / "vae")
    (snapshot / "vae/config.json").unlink()
    (snapshot / "vae/config.json").symlink_to(tmp_path / "elsewhere")
    refusal(snapshot, "leads out of its folder")
