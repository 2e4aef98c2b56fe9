"""PSNR, SSIM and MS-SSIM against scikit-image and torchmetrics."""

from __future__ import annotations

import math

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from latentbrush import UserError
from latentbrush.evaluation import ms_ssim, psnr, ssim

pytestmark = pytest.mark.capability("reconstruction")


def pair(height: int, width: int, noise: int = 30) -> tuple[Tensor, Tensor]:
    """Originals with structure at several scales, and noisy copies, (3, 3, H, W)."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 200, (3, 3, height // 8, width // 8), generator=generator).float()
    original = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").round()
    moved = original + torch.randint(-noise, noise + 1, original.shape, generator=generator)
    return moved.clamp(0, 255).to(torch.uint8), original.to(torch.uint8)


def test_against_scikit_image() -> None:
    pictures, originals = pair(24, 40)
    for mine, peak, one, two in zip(
        ssim(pictures, originals), psnr(pictures, originals), pictures, originals, strict=True
    ):
        a, b = one.numpy(), two.numpy()
        assert float(peak) == pytest.approx(peak_signal_noise_ratio(b, a), abs=1e-9)
        # Theirs pads and then leaves the padded edge out; whole windows remain, weighted as the paper has it.
        theirs = structural_similarity(
            a, b, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
        )
        assert float(mine) == pytest.approx(theirs, abs=1e-9)


def test_against_torchmetrics_on_five_scales() -> None:
    pictures, originals = pair(192, 200)
    theirs = multiscale_structural_similarity_index_measure(
        pictures.double() / 255, originals.double() / 255, data_range=1.0, reduction="none", normalize="relu"
    )
    # Its windows run past the edge, over a mirrored margin; ours are whole ones only.
    torch.testing.assert_close(ms_ssim(pictures, originals), theirs, rtol=0, atol=0.01)
    assert ms_ssim(originals, originals).tolist() == pytest.approx([1, 1, 1])


def test_the_same_picture_and_its_opposite() -> None:
    _, original = pair(24, 24)
    assert ssim(original, original).tolist() == pytest.approx([1, 1, 1])
    assert all(math.isinf(value) for value in psnr(original, original))
    black, white = torch.zeros(1, 3, 16, 16, dtype=torch.uint8), torch.full((1, 3, 16, 16), 255, dtype=torch.uint8)
    assert psnr(black, white).tolist() == [0.0]
    # Nothing varies: what is left is the luminance of 0 and 1.
    assert ssim(black, white).tolist() == pytest.approx([0.0001 / 1.0001])


def test_more_noise_is_less_alike() -> None:
    scores = [float(measure(*pair(48, 48, noise)).mean()) for measure in (psnr, ssim) for noise in (5, 20, 60)]
    assert scores[:3] == sorted(scores[:3], reverse=True)
    assert scores[3:] == sorted(scores[3:], reverse=True)


def test_what_cannot_be_compared_is_refused() -> None:
    pictures, originals = pair(24, 40)
    with pytest.raises(UserError, match="differ in number or size"):
        psnr(pictures, originals[:2])
    with pytest.raises(UserError, match="at least 11 pixels a side"):
        ssim(pictures[..., :8], originals[..., :8])
    with pytest.raises(UserError, match="at least 176 pixels a side"):
        ms_ssim(pictures, originals)
    with pytest.raises(ValueError, match="compare bytes"):
        psnr(pictures.float(), originals)
