"""A first stage alone is measured as one within a model is."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from latentbrush.data.pixels import to_bytes, to_signed
from latentbrush.errors import UserError
from latentbrush.evaluation import codebook_usage, frechet_distance, moments, psnr, ssim
from latentbrush.evaluation.clip_extractor import CLIPExtractor
from latentbrush.evaluation.perceptual import CLIPDistance, picture_distances
from latentbrush.nn import AutoencoderConfig, AutoencoderKL, PixelConfig, Pixels, VQAutoencoder, VQConfig
from latentbrush.studies.first_stage import HeldPictures, StagePictures, usage_of
from latentbrush.studies.rebuilt import rebuild

pytestmark = pytest.mark.capability("reconstruction")

SHAPE: dict[str, Any] = {
    "channels": (8, 8),
    "latent_channels": 2,
    "layers_per_block": 1,
    "mid_attention": False,
    "groups": 4,
}
Judges = tuple[CLIPExtractor, CLIPDistance]


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.randint(0, 256, (7, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def judges() -> Judges:
    return CLIPExtractor(), CLIPDistance()


def test_the_figures_are_the_metrics_of_what_came_back(pictures: Tensor, judges: Judges) -> None:
    torch.manual_seed(0)
    stage = VQAutoencoder(VQConfig(**SHAPE, codebook_size=6)).eval()
    torch.nn.init.normal_(stage.codebook.weight)
    with torch.no_grad():
        z = stage.encode(to_signed(pictures))
        rebuilt, indices = to_bytes(stage.decode(z)), stage.quantise(z).indices
    made = StagePictures(stage, HeldPictures("noise", pictures))
    assert torch.equal(made.of(pictures), rebuilt)
    figures = rebuild(made, *judges, batch=7).figures()
    features = [moments([judges[0](one).pooled]) for one in (rebuilt, pictures)]
    assert figures["R-FD"].value == pytest.approx(frechet_distance(*features), rel=1e-5)
    assert figures["PSNR"].value == pytest.approx(float(psnr(rebuilt, pictures).mean()))
    assert figures["SSIM"].value == pytest.approx(float(ssim(rebuilt, pictures).mean()))
    psim = float(picture_distances(judges[1], rebuilt, pictures).mean())
    assert figures["PSIM"].value == pytest.approx(psim, rel=1e-5)
    assert usage_of(stage, pictures) == codebook_usage(indices, 6)


def test_no_draw_is_made_of_a_posterior(pictures: Tensor) -> None:
    torch.manual_seed(0)
    stage = AutoencoderKL(AutoencoderConfig(**SHAPE)).eval()
    with torch.no_grad():
        rebuilt = to_bytes(stage.decode(stage.encode(to_signed(pictures)).mode()))
    assert torch.equal(StagePictures(stage, HeldPictures("noise", pictures)).of(pictures), rebuilt)


def test_pixels_come_back_as_they_were(pictures: Tensor) -> None:
    """f = 1, without any weight."""
    assert torch.equal(StagePictures(Pixels(PixelConfig()), HeldPictures("noise", pictures)).of(pictures), pictures)


def test_what_comes_back_not_finite_is_refused(pictures: Tensor) -> None:
    stage = AutoencoderKL(AutoencoderConfig(**SHAPE)).eval()
    assert stage.decoder.conv_out.bias is not None
    torch.nn.init.constant_(stage.decoder.conv_out.bias, math.nan)
    with pytest.raises(UserError, match="7 of 7 pictures come back not finite"):
        StagePictures(stage, HeldPictures("noise", pictures)).of(pictures)
