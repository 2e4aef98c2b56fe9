"""The distance that stands in for LPIPS: a distance, differentiable, and named for what it is."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from latentbrush.data.pixels import to_signed
from latentbrush.errors import UserError
from latentbrush.evaluation.clip_extractor import CLIPExtractor
from latentbrush.evaluation.perceptual import CLIPDistance, perceptual_distance, picture_distances
from latentbrush.formats import resolve_clip

pytestmark = pytest.mark.capability("lpips")


@pytest.fixture(scope="module")
def distance() -> CLIPDistance:
    return CLIPDistance()


def drawings(side: int = 32) -> Tensor:
    """uint8 (3, 3, side, side): a disc, a ring and stripes in colours, as drawn pictures are."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    radius = (x**2 + y**2).sqrt()
    inks = torch.stack([(radius < 0.7).float(), ((radius - 0.6).abs() < 0.15).float(), ((x * 8).sin() > 0).float()])
    colours = torch.tensor([[0.9, 0.1, 0.2], [0.1, 0.3, 0.8], [0.2, 0.7, 0.2]])
    pictures = 1 - inks[:, None] * (1 - colours[:, :, None, None])
    return (pictures * 255).round().to(torch.uint8)


def blurred(pictures: Tensor, width: int) -> Tensor:
    padded = F.pad(pictures, (width // 2,) * 4, mode="replicate")
    return F.avg_pool2d(padded, width, 1)


def test_the_equation_written_out(distance: CLIPDistance) -> None:
    """Through the extractor's own way from bytes, the tower's tokens, layer by layer."""
    originals, others = drawings(), drawings().flip(0)
    parts = CLIPExtractor().parts
    tower, total = parts.network.vision_model, torch.zeros(3, dtype=torch.float64)
    with torch.no_grad():
        for a, b in zip(
            tower.every_tokens(parts.pixels(others)), tower.every_tokens(parts.pixels(originals)), strict=True
        ):
            cosine = F.cosine_similarity(a.double(), b.double(), dim=2)
            total += (2 - 2 * cosine).mean(1)
    torch.testing.assert_close(picture_distances(distance, others, originals), total, rtol=1e-4, atol=1e-6)


def test_the_towers_tokens_end_with_what_it_says(distance: CLIPDistance) -> None:
    pictures = to_signed(drawings())
    every = list(distance.tower.every_tokens(pictures))
    assert len(every) == 1 + distance.tower.config.layers
    assert torch.equal(every[-1], distance.tower.tokens(pictures))


def test_the_same_is_at_0_and_what_is_done_to_it_takes_it_away(distance: CLIPDistance) -> None:
    original = to_signed(drawings())
    noise = torch.randn(original.shape, generator=torch.Generator().manual_seed(0))
    ways = [
        [original + share * noise for share in (0.0, 0.02, 0.1, 0.4)],
        [blurred(original, width) for width in (1, 3, 7, 13)],
        [original.roll(places, 3) for places in (0, 1, 3)],
    ]
    for way in ways:
        found = [distance(changed, original) for changed in way]
        assert found[0].abs().max() < 1e-6
        assert all((low < high).all() for low, high in pairwise(found))
        torch.testing.assert_close(found[-1], distance(original, way[-1]))


@pytest.mark.parametrize("side", [32, 48, 20])
def test_a_step_against_the_gradient_brings_the_picture_nearer(distance: CLIPDistance, side: int) -> None:
    original = to_signed(drawings(side))
    painted = blurred(original, 5).requires_grad_()
    before = distance(painted, original)
    (gradient,) = torch.autograd.grad(before.sum(), painted)
    assert gradient.isfinite().all()
    assert (gradient.flatten(1).norm(dim=1) > 0).all()
    step = gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert (distance(painted - 0.05 * step, original) < before).all()


def test_at_the_same_picture_the_gradient_is_finite(distance: CLIPDistance) -> None:
    painted = to_signed(drawings()).requires_grad_()
    (gradient,) = torch.autograd.grad(distance(painted, painted.detach()).sum(), painted)
    assert gradient.isfinite().all()


def test_its_own_weights_are_not_trained(distance: CLIPDistance) -> None:
    assert not any(parameter.requires_grad for parameter in distance.tower.parameters())


def test_a_batch_changes_nothing_but_roundings(distance: CLIPDistance) -> None:
    first, second = drawings(), drawings().roll(2, 2)
    alone = torch.cat([picture_distances(distance, first[i : i + 1], second[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(picture_distances(distance, first, second), alone, rtol=1e-4, atol=1e-6)


def test_pictures_are_brought_to_where_the_network_is() -> None:
    """A device that every machine has, and that refuses to compute with tensors of another."""
    pictures = to_signed(drawings(40))
    assert CLIPDistance(device="meta")(pictures, pictures).device.type == "meta"


def test_without_weights_it_is_clips_and_says_so() -> None:
    chosen = perceptual_distance()
    assert chosen.identity.name == "distance of clip emoji-clip's tokens"
    assert chosen.identity.digest == CLIPExtractor().identity.digest
    assert (chosen.identity.side, chosen.identity.precision) == (32, "float32")


def test_a_folder_of_shards_is_opened_and_known_by_all_of_them(tmp_path: Path) -> None:
    path = resolve_clip("emoji-clip")
    state = load_file(path / "model.safetensors")
    for file in path.iterdir():
        if file.name != "model.safetensors":
            shutil.copy(file, tmp_path)
    names, places = sorted(state), {}
    for place, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"model-{place:05}-of-00002.safetensors"
        save_file({name: state[name] for name in part}, tmp_path / shard)
        places |= dict.fromkeys(part, shard)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}), encoding="utf-8")
    sharded = CLIPDistance(str(tmp_path))
    assert sharded.identity.digest == CLIPExtractor(str(tmp_path)).identity.digest
    pictures = to_signed(drawings())
    torch.testing.assert_close(sharded(pictures, pictures.flip(0)), CLIPDistance()(pictures, pictures.flip(0)))


def test_what_cannot_be_compared_is_refused(distance: CLIPDistance) -> None:
    with pytest.raises(UserError, match="differ in number or size"):
        picture_distances(distance, drawings(32), drawings(40))
    with pytest.raises(ValueError, match="compare bytes"):
        picture_distances(distance, to_signed(drawings()), drawings())
    with pytest.raises(UserError, match="a classifier that is not given"):
        perceptual_distance(linear="vgg.pth")
