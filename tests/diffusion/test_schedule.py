"""The schedule's own promises; its tables are compared with diffusers' in tests/parity."""

import pytest
import torch

from latentbrush.diffusion import Schedule
from latentbrush.errors import UserError


@pytest.mark.parametrize("zero_snr", [False, True])
def test_levels_are_read_off_the_table(zero_snr):
    schedule = Schedule(rescale_zero_snr=zero_snr)
    t = torch.tensor([0, 500, 999])
    level = schedule.level(t, dtype=torch.float64)
    assert level.alpha.shape == level.sigma.shape == (3, 1, 1, 1)
    assert level.t.tolist() == [0, 500, 999]
    assert torch.equal(level.alpha.flatten() ** 2, schedule.alphas_cumprod[t].sqrt() ** 2)
    # alpha and sigma are each rounded once, to 1.1e-16
    torch.testing.assert_close(level.norm, torch.ones_like(level.alpha), rtol=0, atol=4e-16)
    assert (float(level.alpha[2]) == 0.0) == zero_snr
    assert schedule.level(t).alpha.dtype == torch.float32


def test_zero_snr_keeps_the_first_level_and_ends_in_noise():
    plain, rescaled = Schedule().alphas_cumprod, Schedule(rescale_zero_snr=True).alphas_cumprod
    assert float(rescaled[-1]) == 0.0
    # sqrt, shift, scale and square in float32: a few roundings of 6e-8
    assert float(rescaled[0]) == pytest.approx(float(plain[0]), rel=3e-7)
    assert bool((rescaled[1:] < rescaled[:-1]).all())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"beta_schedule": "cosine"}, "'cosine'.*linear, scaled_linear"),
        ({"beta_start": 0.0}, "0.0 to 0.012"),
        ({"beta_start": 0.02}, "0.02 to 0.012"),
        ({"beta_end": 1.0}, "1.0"),
        ({"num_train_timesteps": 1}, "is 1.*2 to 100000"),
        ({"trained_betas": (0.1, 0.2)}, "2 trained_betas.*1000"),
        ({"trained_betas": (0.1, 1.2), "num_train_timesteps": 2}, "0.1 to 1.2"),
    ],
)
def test_what_a_schedule_refuses(options, said):
    with pytest.raises(UserError, match=said):
        Schedule(**options)


@pytest.mark.parametrize(
    ("t", "said"),
    [
        (torch.tensor([0, 1000]), "0 to 1000.*0 .. 999"),
        (torch.tensor([-1]), "-1"),
        (torch.tensor(3), r"shape \(\)"),
        (torch.tensor([0.5]), "float32"),
    ],
)
def test_what_a_level_refuses(t, said):
    with pytest.raises(ValueError, match=said):
        Schedule().level(t)
