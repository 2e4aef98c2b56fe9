"""FID's Inception agrees with torch-fidelity's, in float64, on drawn weights read from a file like the published one.

1e-9 relative to the largest number, as in test_networks.py; what torch-fidelity itself rounds to float32, 1e-6.
inception.py made the numbers.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from inception import EVERY, PATH, SIDES
from safetensors.torch import save_file
from tiny_inception import drawn_pictures, drawn_weights

from latentbrush.errors import UserError
from latentbrush.evaluation.resize import tensorflow_resized
from latentbrush.formats import load_inception
from latentbrush.nn import Inception

pytestmark = pytest.mark.capability("feature-extractors", "sfid")

THEIRS = json.loads(PATH.read_text())


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return drawn_weights()


@pytest.fixture(scope="module")
def network(weights: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Inception:
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    # torch's own norms count batches, and files may hold the counts.
    counts = {
        name.replace("running_var", "num_batches_tracked"): torch.tensor(0)
        for name in weights
        if name.endswith("running_var")
    }
    torch.save(weights | counts, path)
    return load_inception(path, dtype=torch.float64)


@pytest.mark.parametrize("size", SIDES)
@torch.inference_mode()
def test_features_are_those_of_torch_fidelity(size: str, network: Inception) -> None:
    pictures = tensorflow_resized(drawn_pictures(1, *SIDES[size]), 299, torch.float64)
    features = network((pictures - 128) / 128)
    assert [tuple(f.shape) for f in features] == [(1, 2048), (1, 2023), (1, 1008)]
    for name, tolerance in (("pooled", 1e-9), ("spatial", 1e-9), ("logits", 1e-6)):
        theirs = torch.tensor(THEIRS[size][name], dtype=torch.float64)
        ours = getattr(features, name).flatten()[::EVERY]
        assert theirs.std() > 0.1  # the drawn weights leave something to compare
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * float(theirs.abs().max()))


def test_the_resize_is_tensorflows() -> None:
    ours = tensorflow_resized(drawn_pictures(1, 5, 7), 299, torch.float64).flatten()[::997]
    torch.testing.assert_close(ours, torch.tensor(THEIRS["resized"], dtype=torch.float64), rtol=0, atol=1e-9)


def test_the_published_size() -> None:
    """torchvision publishes 27,161,264 parameters, of which 3,326,696 are the auxiliary head's, which FID's network
    lacks; it has 8 classes more."""
    with torch.device("meta"):
        ours = sum(parameter.numel() for parameter in Inception().parameters())
    assert ours == 27_161_264 - 3_326_696 + 8 * (2048 + 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Mixed_6d.branch7x7dbl_4.conv.weight": None}, "lacks 1 tensor: Mixed_6d.branch7x7dbl_4.conv.weight that FID"),
        ({"AuxLogits.fc.bias": torch.zeros(2)}, "holds 1 tensor: AuxLogits.fc.bias that FID's Inception"),
        ({"fc.bias": torch.zeros(1000)}, r"about the shape of 1 tensor: fc.bias \[1000\] instead of \[1008\]"),
        ({"fc.bias": torch.full((1008,), torch.nan)}, "fc.bias holds numbers that are not finite"),
    ],
)
def test_weights_are_strict(
    change: dict[str, torch.Tensor | None], said: str, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    changed = {key: tensor.half() for key, tensor in {**weights, **change}.items() if tensor is not None}
    save_file(changed, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=said):
        load_inception(tmp_path / "weights.safetensors")


def test_another_size_is_refused() -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=r"need \(B, 3, 299, 299\)"):
        Inception()(torch.zeros(1, 3, 256, 256))
