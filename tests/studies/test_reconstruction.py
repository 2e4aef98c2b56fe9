"""What a first stage gives back is measured by the metrics that stand alone, and counted in any batches."""

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
from latentbrush.studies.reconstruction import reconstruct

pytestmark = pytest.mark.capability("reconstruction")

SHAPE: dict[str, Any] = {
    "channels": (8, 8),
    "latent_channels": 2,
    "layers_per_block": 1,
    "mid_attention": False,
    "groups": 4,
}


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.randint(0, 256, (7, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def judges() -> tuple[CLIPExtractor, CLIPDistance]:
    return CLIPExtractor(), CLIPDistance()


def test_the_figures_are_the_metrics_of_what_came_back(
    pictures: Tensor, judges: tuple[CLIPExtractor, CLIPDistance], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    stage = VQAutoencoder(VQConfig(**SHAPE, codebook_size=6)).eval()
    torch.nn.init.normal_(stage.codebook.weight)
    with torch.no_grad():
        z = stage.encode(to_signed(pictures))
        rebuilt, indices = to_bytes(stage.decode(z)), stage.quantise(z).indices
    monkeypatch.setattr("latentbrush.studies.reconstruction.BATCH", 3)
    found = reconstruct(stage, pictures)
    assert int((found.rebuilt.int() - rebuilt.int()).abs().max()) <= 1  # kernels round unlike for other batches
    figures = found.figures(*judges)
    features = [moments([judges[0](one).pooled]) for one in (found.rebuilt, pictures)]
    assert figures.rfid == pytest.approx(frechet_distance(*features), rel=1e-5)
    assert figures.psnr == pytest.approx(float(psnr(found.rebuilt, pictures).mean()))
    assert figures.ssim == pytest.approx(float(ssim(found.rebuilt, pictures).mean()))
    assert figures.psim == pytest.approx(float(picture_distances(judges[1], found.rebuilt, pictures).mean()), rel=1e-5)
    assert figures.usage == codebook_usage(indices, 6)
    assert figures.to_json().keys() == {"count", "rfid", "psnr", "psim", "ssim", "perplexity", "codes_used"}


def test_no_draw_is_made_of_a_posterior(pictures: Tensor) -> None:
    torch.manual_seed(0)
    stage = AutoencoderKL(AutoencoderConfig(**SHAPE)).eval()
    found = reconstruct(stage, pictures)
    assert found.usage is None
    with torch.no_grad():
        assert torch.equal(found.rebuilt, to_bytes(stage.decode(stage.encode(to_signed(pictures)).mode())))


def test_what_comes_back_as_it_was_has_finite_figures(
    pictures: Tensor, judges: tuple[CLIPExtractor, CLIPDistance]
) -> None:
    """f = 1: pixels themselves."""
    figures = reconstruct(Pixels(PixelConfig()), pictures).figures(*judges)
    assert figures.psnr == pytest.approx(10 * math.log10(255**2 * 3 * 32 * 32))
    assert (figures.psim, figures.ssim) == (0.0, pytest.approx(1.0))
    assert abs(figures.rfid) < 1e-6


def test_what_comes_back_not_finite_is_refused(pictures: Tensor) -> None:
    stage = AutoencoderKL(AutoencoderConfig(**SHAPE)).eval()
    torch.nn.init.constant_(stage.decoder.conv_out.bias, math.nan)
    with pytest.raises(UserError, match="7 of 7 pictures come back not finite"):
        reconstruct(stage, pictures)
