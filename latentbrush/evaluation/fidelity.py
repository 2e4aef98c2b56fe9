"""How like its original a picture is, pixel by pixel and window by window: PSNR, SSIM, MS-SSIM."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from latentbrush.errors import UserError

__all__ = ["MS_LEAST", "MS_WEIGHTS", "ms_ssim", "psnr", "ssim"]

WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03
MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales, finest first (Wang, Simoncelli and Bovik 2003, section 3.2)."""
MS_LEAST = WINDOW * 2 ** (len(MS_WEIGHTS) - 1)
"""Pixels a side that the coarsest window fits into."""


def psnr(pictures: Tensor, originals: Tensor) -> Tensor:
    """(B,) decibels of pictures (B, C, H, W), uint8, beside their originals; infinite where they are the same.

    10 log10(255^2 / mean squared error), for each picture by itself. UserError for unlike sizes.
    """
    _check(pictures, originals)
    # Differences of bytes and their squares are whole numbers, which float32 holds and sums exactly along rows of up
    # to 258; only the rows' sums need more digits.
    squares = (pictures.float() - originals.float()).square().sum(-1).double()
    return -10 * (squares.flatten(1).sum(1) / (255**2 * pictures[0].numel())).log10()


def ssim(pictures: Tensor, originals: Tensor) -> Tensor:
    """(B,) structural similarity (Wang et al. 2004, equation 13) of pictures (B, C, H, W), uint8; 1 for the same.

    Gaussian windows of 11 x 11 and deviation 1.5, only whole ones; the mean over windows and channels, on colours.
    UserError for unlike sizes, and for sides below 11 pixels.
    """
    return _similarity(*_as_numbers(pictures, originals))[0]


def ms_ssim(pictures: Tensor, originals: Tensor) -> Tensor:
    """(B,) multi-scale structural similarity (Wang, Simoncelli and Bovik 2003, equation 7), uint8 (B, C, H, W).

    Contrast and structure on five scales, each half as large, luminance on the coarsest. Means that are negative
    count as 0. UserError for unlike sizes, and for sides below 176 pixels, which the coarsest window does not fit.
    """
    first, second = _as_numbers(pictures, originals)
    scales = len(MS_WEIGHTS)
    if min(first.shape[-2:]) < MS_LEAST:
        raise UserError(
            f"MS-SSIM needs pictures of at least {MS_LEAST} pixels a side; these have {tuple(first.shape[-2:])}"
        )
    result = first.new_ones(len(first))
    for scale, weight in enumerate(MS_WEIGHTS):
        whole, structure = _similarity(first, second)
        last = scale == scales - 1
        result = result * (whole if last else structure).clamp(min=0) ** weight
        if not last:
            first, second = (F.avg_pool2d(x, 2) for x in (first, second))
    return result


def _similarity(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) means of the whole index, and of it without luminance. Pictures in [0, 1]."""
    if min(first.shape[-2:]) < WINDOW:
        raise UserError(f"SSIM needs pictures of at least {WINDOW} pixels a side; these have {tuple(first.shape[-2:])}")
    mean_1, mean_2, square_1, square_2, product = (
        _blurred(x) for x in (first, second, first * first, second * second, first * second)
    )
    c1, c2 = K1**2, K2**2
    variance_1, variance_2 = square_1 - mean_1**2, square_2 - mean_2**2
    structure = (2 * (product - mean_1 * mean_2) + c2) / (variance_1 + variance_2 + c2)
    luminance = (2 * mean_1 * mean_2 + c1) / (mean_1**2 + mean_2**2 + c1)
    return (luminance * structure).flatten(1).mean(1), structure.flatten(1).mean(1)


def _blurred(x: Tensor) -> Tensor:
    """Weighted means of all whole windows, each channel by itself."""
    places = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    weights = torch.exp(-(places**2) / (2 * SIGMA**2))
    weights, channels = weights / weights.sum(), x.shape[1]
    rows = F.conv2d(x, weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(rows, weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)


def _as_numbers(pictures: Tensor, originals: Tensor) -> tuple[Tensor, Tensor]:
    """Both in [0, 1], float64."""
    _check(pictures, originals)
    return pictures.double() / 255, originals.double() / 255


def _check(pictures: Tensor, originals: Tensor) -> None:
    if pictures.shape != originals.shape:
        raise UserError(
            f"pictures {tuple(pictures.shape)} and originals {tuple(originals.shape)} differ in number or size; give "
            "an original of the same size for each"
        )
    if pictures.dtype != torch.uint8 or originals.dtype != torch.uint8:
        raise ValueError(f"pictures are {pictures.dtype} and {originals.dtype}; compare bytes, as they are saved")
