"""A UNet with an embedding of classes agrees with diffusers', in float64, alone and under guidance.

1e-9 relative to the largest number, as in test_networks.py: the same sums in another order.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_networks import close, noise, our_unet
from tiny import WIDTH, tiny_unet

from latentbrush.conditioning.tokenizer_files import read_json
from latentbrush.diffusion import ClassifierFree, Level, guided
from latentbrush.errors import UserError
from latentbrush.formats.configs import read_unet_config, write_unet_config
from latentbrush.formats.fields import Fields
from latentbrush.nn import Condition

pytestmark = pytest.mark.capability("class-embedding")

CLASSES = 5
LABELS, NONE = torch.tensor([3, 1]), torch.tensor([4, 4])


def test_labels_do_what_they_do_in_diffusers(tmp_path: Path) -> None:
    theirs = tiny_unet("sd1", num_class_embeds=CLASSES)
    ours = our_unet(theirs, tmp_path)
    theirs = theirs.double()
    x, context, t = noise(2, 4, 8, 8), noise(2, 6, WIDTH, seed=8), torch.tensor([981.0, 3.25], dtype=torch.float64)
    with torch.no_grad():
        found = ours(x, t, Condition(context, LABELS))
        close(found, theirs(x, t, context, class_labels=LABELS).sample)
        others = theirs(x, t, context, class_labels=NONE).sample
    assert (found - others).abs().max() > 1e-3 * found.abs().max()


def test_the_upscalers_unet(tmp_path: Path) -> None:
    """Seven channels, labels for the noise of three of them, and transformers that read the words alone."""
    changes = {"in_channels": 7, "num_class_embeds": CLASSES, "only_cross_attention": [True, True, False]}
    theirs = tiny_unet("sd2", **changes)
    ours = our_unet(theirs, tmp_path)
    theirs = theirs.double()
    x, picture, t = noise(2, 4, 8, 8), noise(2, 3, 8, 8, seed=9), torch.tensor([981.0, 3.25], dtype=torch.float64)
    context = noise(2, 6, WIDTH, seed=8)
    with torch.no_grad():
        found = ours(x, t, Condition(context, LABELS, channels=picture))
        close(found, theirs(torch.cat([x, picture], dim=1), t, context, class_labels=LABELS).sample)
    written = write_unet_config(ours.config)
    assert written["only_cross_attention"] == changes["only_cross_attention"]
    assert read_unet_config(Fields(tmp_path / "config.json", written)) == ours.config


def test_guidance_keeps_the_labels_of_every_branch(tmp_path: Path) -> None:
    theirs = tiny_unet("sd1", num_class_embeds=CLASSES)
    ours = our_unet(theirs, tmp_path)
    theirs = theirs.double()
    x, context, empty = noise(2, 4, 8, 8), noise(2, 6, WIDTH, seed=8), noise(2, 6, WIDTH, seed=9)
    methods = [ClassifierFree(Condition(empty, NONE), 3.0)]
    with torch.no_grad():
        found = guided(ours, Condition(context, LABELS), methods)(x, Level(0.6, 0.8, 321.0))
        u = theirs(x, 321.0, empty, class_labels=NONE).sample
        c = theirs(x, 321.0, context, class_labels=LABELS).sample
    close(found, u + 3.0 * (c - u))


def test_the_config_goes_both_ways(tmp_path: Path) -> None:
    tiny_unet("sd1", num_class_embeds=CLASSES).save_pretrained(tmp_path)
    content = read_json(tmp_path / "config.json")
    config = read_unet_config(Fields(tmp_path / "config.json", content))
    assert config.classes == CLASSES
    written = write_unet_config(config)
    assert written["num_class_embeds"] == CLASSES
    assert read_unet_config(Fields(tmp_path, written)) == config
    for foreign in ("timestep", "identity", "projection"):
        with pytest.raises(UserError, match=f"class_embed_type '{foreign}' is not supported"):
            read_unet_config(Fields(tmp_path, {**content, "class_embed_type": foreign}))
    with pytest.raises(UserError, match="classes 0 must be at least 1"):
        read_unet_config(Fields(tmp_path, {**content, "num_class_embeds": 0}))
