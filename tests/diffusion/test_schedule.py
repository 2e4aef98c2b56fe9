"""The schedule's own promises; its tables are compared with diffusers' in tests/parity."""

import math

import pytest
import torch

from latentbrush.diffusion import Schedule
from latentbrush.diffusion.sigmas import sigma_table
from latentbrush.errors import UserError

pytestmark = pytest.mark.capability("noise-schedules")


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


def test_the_cosine_schedule_has_no_beta_range():
    """abar is cos^2 until betas are cut off at 0.999 (Improved DDPM, eq. 17)."""
    abar = Schedule("squaredcos_cap_v2", beta_start=0.0).alphas_cumprod
    start, middle = (math.cos(share / 1.008 * math.pi / 2) ** 2 for share in (0.008, 0.508))
    # 500 products of float32 numbers: at most 500 roundings of 6e-8
    assert float(abar[499]) == pytest.approx(middle / start, rel=3e-5)
    assert float(abar[-1] / abar[-2]) == pytest.approx(0.001, rel=1e-4)


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
    ("options", "said"),
    [
        ({"beta_start": 1e-9, "beta_end": 2e-9}, "betas from 1e-09 to 2e-09 make abar 1 at t = 0 of 0 .. 999.*larger"),
        ({"beta_end": 0.9}, r"to 0\.9 make abar 7\.67\d+e-39 at t = 618 of .*smaller betas"),
        ({"trained_betas": (0.1, 1.0, 0.1, 0.1), "num_train_timesteps": 4}, "to 1 make abar 0 at t = 1 of 0 .. 3"),
        ({"trained_betas": (1 - 1e-6,) * 8, "num_train_timesteps": 8}, "at t = 6 of 0 .. 7.*smaller"),
        ({"trained_betas": (1e-9, 0.5), "num_train_timesteps": 2}, "abar 1 at t = 0 of 0 .. 1"),
        ({"beta_start": 1e-9, "beta_end": 1e-9, "rescale_zero_snr": True}, "betas from 1e-09 to 1e-09 make abar"),
    ],
)
def test_no_level_but_the_last_is_all_noise_and_none_all_picture(options, said):
    with pytest.raises(UserError, match=said):
        Schedule(**options)


def test_the_last_level_may_be_all_noise():
    assert float(Schedule(trained_betas=(0.1, 0.2, 1.0), num_train_timesteps=3).alphas_cumprod[-1]) == 0
    assert float(Schedule(rescale_zero_snr=True, num_train_timesteps=2).alphas_cumprod[-1]) == 0


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


@pytest.mark.parametrize(
    "schedule", [Schedule(rescale_zero_snr=True), Schedule(num_train_timesteps=3, trained_betas=(0.1, 0.5, 1.0))]
)
def test_a_table_that_ends_in_nothing_but_noise_has_a_finite_sigma_there(schedule: Schedule) -> None:
    assert sigma_table(schedule)[-1] == pytest.approx(4096, rel=1e-6)
