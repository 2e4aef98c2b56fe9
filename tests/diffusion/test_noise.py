"""Draws depend on the picture's seed alone; tests/parity compares their values with diffusers'."""

import pytest
import torch

from latentbrush.diffusion import MAX_SEED, PictureNoise, picture_seeds
from latentbrush.errors import UserError

SHAPE = (4, 5, 7)


@pytest.mark.capability("batch-invariance")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_draws_are_bit_identical_in_any_company(dtype):
    """Whatever the batch size and the place in it, draw after draw."""
    alone = {}
    for seed in range(20, 25):
        noise = PictureNoise([seed], SHAPE, dtype)
        alone[seed] = [noise() for _ in range(4)]
    for seeds in ([20, 21], [21, 20], [24, 22, 20, 21, 23], picture_seeds(20, 5)):
        noise = PictureNoise(seeds, SHAPE, dtype)
        for i in range(4):
            drawn = noise()
            assert drawn.shape == (len(seeds), *SHAPE)
            assert drawn.dtype == dtype
            assert all(torch.equal(drawn[j], alone[seed][i][0]) for j, seed in enumerate(seeds))


def test_pictures_and_draws_differ_and_are_unit_gaussian():
    noise = PictureNoise(picture_seeds(0, 2), (4, 100, 100), torch.float64)
    first, second = noise(), noise()
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)
    # 80,000 samples: standard errors 0.0035 of the mean, 0.005 of the variance
    assert float(first.mean()) == pytest.approx(0, abs=0.015)
    assert float(first.var()) == pytest.approx(1, abs=0.02)


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    PictureNoise([0], SHAPE)()
    assert torch.equal(before, torch.get_rng_state())


def test_seeds():
    assert picture_seeds(7, 3) == [7, 8, 9]
    assert picture_seeds(MAX_SEED, 1) == [2**63 - 1]
    PictureNoise([0, MAX_SEED], SHAPE)()
    with pytest.raises(UserError, match="-1"):
        picture_seeds(-1, 1)
    with pytest.raises(UserError, match=f"{MAX_SEED} for 2 pictures.*0 to {MAX_SEED - 1}"):
        picture_seeds(MAX_SEED, 2)
    with pytest.raises(UserError, match="0 pictures"):
        picture_seeds(0, 0)
    with pytest.raises(UserError, match="-5"):
        PictureNoise([0, -5], SHAPE)
