"""Folders of diffusers with pickled weights (.bin) paint what the same folder paints with safetensors, and there.

Names, shards and variants as diffusers and transformers write or wrote them; both sides in float64, as in
test_pictures.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file
from test_pictures import PUBLISHED, compare, opened, ours, theirs, wanted
from tiny import save_tiny_pipeline

from latentbrush import load
from latentbrush.errors import UserError
from latentbrush.formats import convert, load_autoencoder, summarise
from latentbrush.model import LatentDiffusion

pytestmark = [
    pytest.mark.capability("pickled-folders"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

STEMS = {
    "unet": ("diffusion_pytorch_model", "diffusion_pytorch_model"),
    "vae": ("diffusion_pytorch_model", "diffusion_pytorch_model"),
    "text_encoder": ("model", "pytorch_model"),
}
"""Part -> what its safetensors and its pickles are called."""
REQUEST = wanted(2, 4.0, "a blue dog", 32, 32, count=2)


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("theirs")
    save_tiny_pipeline(folder)
    return folder


def pickled(safe: Path, folder: Path, write: Callable[[dict[str, torch.Tensor], Path, str], None]) -> Path:
    """A copy of the folder whose weights `write(state, part's folder, stem)` has written instead."""
    shutil.copytree(safe, folder)
    for part, (stem, old) in STEMS.items():
        path = folder / part / f"{stem}.safetensors"
        write(load_file(path), folder / part, old)
        path.unlink()
    return folder


def plain(state: dict[str, Any], folder: Path, stem: str) -> None:
    torch.save(state, folder / f"{stem}.bin")


def legacy(state: dict[str, Any], folder: Path, stem: str) -> None:
    torch.save(state, folder / f"{stem}.bin", _use_new_zipfile_serialization=False)


def half(state: dict[str, Any], folder: Path, stem: str) -> None:
    torch.save({key: tensor.half() for key, tensor in state.items()}, folder / f"{stem}.fp16.bin")


def sharded(state: dict[str, Any], folder: Path, stem: str) -> None:
    keys, places = sorted(state), {}
    for number, part in enumerate((keys[::2], keys[1::2]), 1):
        name = f"{stem}-{number:05}-of-00002.bin"
        torch.save({key: state[key] for key in part}, folder / name)
        places |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / f"{stem}.bin.index.json").write_text(json.dumps(index))


def equal(first: LatentDiffusion, second: LatentDiffusion) -> bool:
    pairs = [(m.unet, m.autoencoder, m.text) for m in (first, second)]
    return all(
        torch.equal(tensor, right.state_dict()[name])
        for left, right in zip(*pairs, strict=True)
        for name, tensor in left.state_dict().items()
    )


def test_what_diffusers_saved_without_safetensors(safe: Path, tmp_path: Path) -> None:
    """diffusers writes .bin for its own parts; of transformers' parts it depends on their version."""
    StableDiffusionPipeline.from_pretrained(safe).save_pretrained(tmp_path / "bin", safe_serialization=False)
    assert (tmp_path / "bin/unet/diffusion_pytorch_model.bin").is_file()
    assert not (tmp_path / "bin/unet/diffusion_pytorch_model.safetensors").exists()
    model = load(tmp_path / "bin", dtype=torch.float64)
    assert equal(model, load(safe, dtype=torch.float64))
    compare(ours(model, REQUEST), theirs(opened(tmp_path / "bin"), REQUEST), PUBLISHED)


@pytest.mark.capability("old-torch-files", "sharded-files")
@pytest.mark.parametrize("write", [plain, legacy, sharded])
def test_the_same_tensors(write: Any, safe: Path, tmp_path: Path) -> None:
    folder = pickled(safe, tmp_path / "bin", write)
    assert equal(load(folder), load(safe))
    assert {file.rpartition(".")[2] for part in summarise(folder).parts for file in part.files} == {"bin"}
    convert(folder, tmp_path / "converted", to="diffusers")
    assert equal(load(tmp_path / "converted"), load(safe))
    assert sorted(p.suffix for p in (tmp_path / "converted" / "unet").iterdir()) == [".json", ".safetensors"]
    vae = load_autoencoder(folder / "vae").state_dict()
    assert all(torch.equal(vae[name], tensor) for name, tensor in load(safe).autoencoder.state_dict().items())
    origin = load(folder).origin
    assert origin is not None
    assert all(".bin" in name for name in origin.weights)


def test_halves_as_a_variant(safe: Path, tmp_path: Path) -> None:
    model, whole = load(pickled(safe, tmp_path / "bin", half)), load(safe)
    weight = model.unet.conv_in.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, whole.unet.conv_in.weight.half().float())


def test_safetensors_come_first_and_content_decides(safe: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(safe, tmp_path / "both"))
    for part, (_, old) in STEMS.items():
        (folder / part / f"{old}.bin").write_bytes(b"no weights")
    assert equal(load(folder), load(safe))
    (folder / "unet/diffusion_pytorch_model.safetensors").rename(folder / "unet/diffusion_pytorch_model.bin")
    torch.save(
        load_file(safe / "vae/diffusion_pytorch_model.safetensors"), folder / "vae/diffusion_pytorch_model.safetensors"
    )
    assert equal(load(folder), load(safe))


def test_a_part_of_another_kind_is_refused(safe: Path, tmp_path: Path) -> None:
    folder = pickled(safe, tmp_path / "bin", plain)
    path = folder / "unet/diffusion_pytorch_model.bin"
    state = torch.load(path, weights_only=True)
    del state["conv_in.weight"]
    torch.save(state, path)
    with pytest.raises(UserError, match=r"diffusion_pytorch_model\.bin lacks 1 tensor: conv_in\.weight"):
        load(folder)
    path.write_bytes(b"\x80\x04cposix\nsystem\n(S'true'\ntR.")
    with pytest.raises(UserError, match="could run code"):
        load(folder)
