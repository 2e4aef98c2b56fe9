"""The x4 upscaler as a single file: both ways, beside diffusers' converter, and told by its keys."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionUpscalePipeline
from diffusers.loaders import single_file_utils as theirs
from safetensors.torch import load_file, save_file
from test_pictures import PUBLISHED, compare
from test_single_file_parity import equal, weights
from test_upscaler import asking, opened, ours, photo
from test_upscaler import theirs as theirs_of
from tiny_upscaler import LEVELS, tiny_upscaler

from latentbrush.conditioning import Augmentation
from latentbrush.errors import UserError
from latentbrush.formats import convert, load_model
from latentbrush.formats.families import UPSCALER, family_of, write_family
from latentbrush.formats.folder import outline_model
from latentbrush.formats.single import TABLES, layouts_of
from latentbrush.formats.weights import Entry
from latentbrush.nn import UNet

pytestmark = [
    pytest.mark.capability("x4-upscaler", "single-file"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

LABELS = "model.diffusion_model.label_emb.weight"


@pytest.mark.compatible("x4-upscaler", "file")
def test_both_ways_and_beside_diffusers(tmp_path: Path) -> None:
    folder, file = tmp_path / "pipeline", tmp_path / "one.safetensors"
    tiny_upscaler().save_pretrained(folder)
    convert(folder, file, to="single-file")
    convert(file, tmp_path / "again", to="diffusers")
    first, second = weights(folder), weights(tmp_path / "again")
    assert first.keys() == second.keys() == {"unet", "vae", "text_encoder"}
    assert all(equal(first[part], second[part]) for part in first)
    config = {"layers_per_block": 2, "num_class_embeds": LEVELS}
    assert equal(theirs.convert_ldm_unet_checkpoint(load_file(file), config), first["unet"])
    request, small = asking(2, 9.0, 100), photo((8, 8))
    found = [ours(load_model(path), request, small)[1] for path in (folder, file, tmp_path / "again")]
    assert all(np.array_equal(found[0], other) for other in found[1:])
    exactly = ours(load_model(tmp_path / "again", dtype=torch.float64), request, small)
    compare(exactly, theirs_of(opened(tmp_path / "again"), request, small), PUBLISHED)


def test_the_tables_of_both_schedules(tmp_path: Path) -> None:
    """Published files hold them as buffers; what they say is held against the settings."""
    folder, file = tmp_path / "pipeline", tmp_path / "one.safetensors"
    tiny_upscaler().save_pretrained(folder)
    convert(folder, file, to="single-file")
    table = Augmentation().schedule.alphas_cumprod.float()
    tables = {f"{inside}{name}": torch.zeros(1000) for inside in ("", "low_scale_model.") for name in TABLES}
    tables |= {"alphas_cumprod": table, "low_scale_model.alphas_cumprod": table}
    torch.save({"state_dict": load_file(file) | tables, "global_step": 1}, tmp_path / "one.ckpt")
    assert load_model(tmp_path / "one.ckpt", config=folder).task == "upscaling"
    wrong = {"low_scale_model.alphas_cumprod": table.flip(0)}
    save_file(load_file(file) | wrong, tmp_path / "wrong.safetensors")
    with pytest.raises(UserError, match=r"its low_scale_model.alphas_cumprod ends at 0\.99990"):
        load_model(tmp_path / "wrong.safetensors", config=folder)


class Header:
    """A file's header alone: the real one has 3.5 GB."""

    def __init__(self, entries: dict[str, Entry]) -> None:
        self.path, self.entries, self.metadata = Path("x4-upscaler-ema.ckpt"), entries, {}


@pytest.mark.compatible("x4-upscaler", "size")
def test_the_published_file_is_known_by_its_keys(tmp_path: Path) -> None:
    with torch.device("meta"):
        unet = UNet(UPSCALER.unet)
    shapes = {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items()}
    stored = layouts_of({"unet": unet})["unet"]
    header = Header({key: Entry(Path("x"), key, one.shapes(shapes)[0], "F32") for key, one in stored.items()})
    assert header.entries[LABELS].shape == (1000, 1024)
    # What diffusers tells it by, and what its UNet reads and writes there.
    assert theirs.CHECKPOINT_KEY_NAMES["upscale"] in header.entries
    assert header.entries["model.diffusion_model.input_blocks.0.0.weight"].shape == (256, 7, 3, 3)
    family = family_of(header, None)
    assert (family, family.prediction) == (UPSCALER, "v_prediction")
    write_family(family, tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert (index["_class_name"], index["max_noise_level"]) == ("StableDiffusionUpscalePipeline", 350)
    known = inspect.signature(StableDiffusionUpscalePipeline).parameters
    assert {key for key in index if not key.startswith("_")} <= set(known)
    names = sorted(path.parent.name for path in tmp_path.glob("*/scheduler_config.json"))
    assert names == ["low_res_scheduler", "scheduler"]
    with pytest.raises(UserError, match="safetensors is missing"):
        outline_model(tmp_path)
