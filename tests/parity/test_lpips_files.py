"""LPIPS beside torchmetrics', with its bundled linear weights, and the strictness of the files' reader.

torchmetrics takes the classifier from torchvision, which is no part of this project: random layers in torchvision's
places stand in, written here as its lists of layers are published, and are saved as its files are.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchmetrics
from safetensors.torch import save_file
from torch import Tensor, nn
from torchmetrics.functional.image import lpips as theirs

from latentbrush.errors import UserError
from latentbrush.evaluation.extractor import digest_of
from latentbrush.evaluation.perceptual import LPIPSDistance
from latentbrush.formats.lpips import load_lpips

pytestmark = pytest.mark.capability("lpips")

LINEAR = Path(torchmetrics.__file__).parent / "functional/image/lpips_models"
FILES = {"vgg16": LINEAR / "vgg.pth", "alexnet": LINEAR / "alex.pth"}
NETS = {"vgg16": "vgg", "alexnet": "alex"}


def features(name: str) -> nn.Sequential:
    """As loud in every layer (He et al. 2015), for torch's own start lets pictures fade until only biases are left."""
    torch.manual_seed(3)
    made = layers_of(name)
    for layer in made:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return made


def layers_of(name: str) -> nn.Sequential:
    """torchvision's `features` of the two classifiers, as it numbers them."""
    if name == "alexnet":
        return nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
        )
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if not width:
            layers.append(nn.MaxPool2d(2, 2))
            continue
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers)


def state(name: str) -> dict[str, Tensor]:
    """With a layer of the classifier behind them, as in the published file."""
    found = {f"features.{key}": tensor for key, tensor in features(name).state_dict().items()}
    return found | {"classifier.1.weight": torch.zeros(2, 2), "classifier.1.bias": torch.zeros(2)}


def linear(name: str) -> dict[str, Tensor]:
    loaded: dict[str, Tensor] = torch.load(FILES[name], map_location="cpu", weights_only=True)
    return loaded


@pytest.fixture(scope="module", params=["vgg16", "alexnet"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp("lpips") / f"{request.param}.pth"
    torch.save(state(request.param), path)
    return request.param, path


def test_distances_are_torchmetrics_own(published: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    name, path = published
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda net, pretrained=False: features(name))
    oracle = theirs._LPIPS(net=NETS[name]).double().eval()
    ours = load_lpips(path, FILES[name]).double()
    assert ours.backbone == name
    first, second = torch.rand(2, 3, 3, 40, 35, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    first, second = first * 2 - 1, second * 2 - 1
    # Both in float64; the input's constants are float32's in theirs.
    torch.testing.assert_close(ours(first, second), oracle(first, second).flatten(), rtol=1e-6, atol=0)


def test_one_file_of_both_is_the_same_and_all_names_of_a_module_are_read(
    published: tuple[str, Path], tmp_path: Path
) -> None:
    name, path = published
    both = {key: tensor for key, tensor in state(name).items() if key.startswith("features")} | linear(name)
    save_file(both, tmp_path / "both.safetensors")
    expected = load_lpips(path, FILES[name]).state_dict()
    assert_same(load_lpips(tmp_path / "both.safetensors").state_dict(), expected)
    whole = {key.replace("features.", "net.slice1."): tensor for key, tensor in both.items()}
    whole |= {f"lins.{i}.model.1.weight": linear(name)[f"lin{i}.model.1.weight"].clone() for i in range(5)}
    save_file(whole | {"scaling_layer.shift": torch.zeros(1, 3, 1, 1)}, tmp_path / "whole.safetensors")
    assert_same(load_lpips(tmp_path / "whole.safetensors").state_dict(), expected)


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_what_is_wrong_with_files_is_said(tmp_path: Path) -> None:
    path = tmp_path / "alexnet.pth"
    torch.save(state("alexnet"), path)
    with pytest.raises(UserError, match=r"lacks 5 tensors: lin0\.model\.1\.weight.*give the LPIPS package's file"):
        load_lpips(path)
    with pytest.raises(UserError, match=r"lin1\.model\.1\.weight is \[1, 128, 1, 1\] instead of \[1, 192,"):
        load_lpips(path, FILES["vgg16"])
    with pytest.raises(UserError, match=r"features\.0\.weight is missing; give torchvision's"):
        load_lpips(FILES["alexnet"])
    torch.save(state("alexnet") | {"features.0.weight": torch.zeros(64, 3, 7, 7)}, path)
    with pytest.raises(UserError, match=r"has the shape \[64, 3, 7, 7\]"):
        load_lpips(path, FILES["alexnet"])
    torch.save(state("alexnet") | {"features.1.weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"holds 1 tensor: features\.1\.weight that LPIPS by alexnet has not"):
        load_lpips(path, FILES["alexnet"])
    torch.save(state("alexnet") | {"more": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="'more', which is no part of LPIPS"):
        load_lpips(path, FILES["alexnet"])
    torch.save({**state("alexnet"), "features.3.bias": torch.full((192,), torch.nan)}, path)
    with pytest.raises(UserError, match=r"features\.3\.bias holds numbers that are not finite"):
        load_lpips(path, FILES["alexnet"])


def test_a_distance_says_by_what_it_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "alexnet.pth"
    torch.save(state("alexnet"), path)
    distance = LPIPSDistance(path, FILES["alexnet"])
    assert distance.identity.name == "LPIPS alexnet"
    assert (distance.identity.side, distance.identity.resize) == (0, "none")
    assert LPIPSDistance(path, FILES["alexnet"], "meta")(*torch.zeros(2, 1, 3, 32, 32)).device.type == "meta"
    assert distance.identity.digest == digest_of([path, FILES["alexnet"]])
    # Two files count as one: another classifier under the same linear weights is another distance.
    torch.save(state("alexnet") | {"features.0.bias": torch.ones(64)}, path)
    assert LPIPSDistance(path, FILES["alexnet"]).identity.digest != distance.identity.digest
    with pytest.raises(UserError, match="LPIPS alexnet needs pictures of at least 31 pixels a side"):
        distance(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16))
