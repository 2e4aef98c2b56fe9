"""A trajectory keeps what the network really read and said, whatever the sampler."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from latentbrush.diffusion import (
    SAMPLERS,
    Denoised,
    Denoiser,
    Level,
    PictureNoise,
    Plan,
    PlanConfig,
    Prediction,
    Schedule,
    make_plan,
)
from latentbrush.viewing import Trajectory, evenly

pytestmark = pytest.mark.capability("denoising-strip")


class Watched(Denoiser):
    """Knows the last x that it read, at unit variance, and the last x0 that it saw, at every t."""

    def __init__(self, prediction: Prediction = "v_prediction") -> None:
        super().__init__(lambda x, level: torch.tanh(x) * 0.5 + 0.01 * float(level.t or 0) / 1000, prediction)
        object.__setattr__(self, "read_at", {})

    def __call__(self, x: Tensor, level: Level) -> Denoised:
        seen = super().__call__(x, level)
        self.read_at[level.t] = (x / level.norm, seen.x0)  # type: ignore[attr-defined]
        return seen


def painted(name: str, plan: Plan, trajectory: Trajectory, denoise: Denoiser, seed: int = 0) -> Tensor:
    noise = PictureNoise([seed, seed + 1], (2, 3, 3), torch.float64)
    return SAMPLERS[name].run(denoise, plan.start(noise()), plan.steps, noise, trajectory, **plan.options)


@pytest.mark.parametrize("name", SAMPLERS)
def test_frames_are_what_the_network_read_and_said(name: str) -> None:
    plan, denoise = make_plan(name, Schedule(), 7), Watched()
    trajectory = Trajectory(plan, most=100)
    finished = painted(name, plan, trajectory, denoise)
    *noisy, last = trajectory.frames
    assert [frame.t for frame in noisy] == list(dict.fromkeys(step.at.t for step in plan.steps))
    for frame in noisy:
        read, x0 = denoise.read_at[frame.t]  # type: ignore[attr-defined]
        torch.testing.assert_close(frame.latents, read, rtol=0, atol=1e-9)
        assert torch.equal(frame.x0, x0)
    assert last.t is None
    assert torch.equal(last.latents, finished)
    assert torch.equal(last.x0, finished)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_the_first_noise_is_found_again(prediction: Prediction) -> None:
    plan = make_plan("ddim", Schedule(), 4)
    trajectory = Trajectory(plan, most=3)
    painted("ddim", plan, trajectory, Watched(prediction), seed=5)
    noise = PictureNoise([5, 6], (2, 3, 3), torch.float64)()
    torch.testing.assert_close(trajectory.frames[0].latents, noise, rtol=0, atol=1e-9)


def test_the_frames_are_bounded_and_even() -> None:
    plan = make_plan("heun", Schedule(), 30)
    trajectory = Trajectory(plan, most=4)
    painted("heun", plan, trajectory, Watched())
    times = [step.at.t for step in plan.steps]
    assert [frame.t for frame in trajectory.frames] == [times[0], times[10], times[20], None]


def test_levels_of_one_time_are_frames_of_their_own() -> None:
    """Karras's levels are told to the network by their times, rounded, of which two may be one."""
    plan = make_plan("dpmpp_2m", Schedule(), 60, PlanConfig("linspace", sigmas="karras"))
    times = [step.at.t for step in plan.steps]
    assert len(set(times)) < len(times) == 60  # as it was meant
    trajectory = Trajectory(plan, most=100)
    painted("dpmpp_2m", plan, trajectory, Watched())
    *noisy, last = trajectory.frames
    assert [frame.t for frame in noisy] == times
    assert last.t is None
    assert not any(torch.equal(one.latents, other.latents) for one, other in pairwise(noisy))


def test_a_further_batch_replaces_the_one_before() -> None:
    plan, both, alone = make_plan("heun", Schedule(), 3), [], []
    trajectory = Trajectory(plan, most=10)
    for seed in (0, 8):
        painted("heun", plan, trajectory, Watched(), seed)
        both.append(trajectory.frames)
        fresh = Trajectory(plan, most=10)
        painted("heun", plan, fresh, Watched(), seed)
        alone.append(fresh.frames)
    for frames, expected in zip(both, alone, strict=True):
        assert len(frames) == 4
        for frame, other in zip(frames, expected, strict=True):
            assert frame.t == other.t
            assert torch.equal(frame.latents, other.latents)
    assert not torch.equal(both[0][0].latents, both[1][0].latents)


def test_frames_stay_when_latents_are_changed_in_place() -> None:
    plan = make_plan("ddim", Schedule(), 2)
    trajectory = Trajectory(plan, most=10)
    x = painted("ddim", plan, trajectory, Watched())
    kept = trajectory.frames[-1].latents.clone()
    x.zero_()
    assert torch.equal(trajectory.frames[-1].latents, kept)


def test_nothing_to_keep_is_refused() -> None:
    with pytest.raises(ValueError, match="without steps"):
        Trajectory(make_plan("ddim", Schedule(), 10, strength=0.0), most=10)


def test_evenly_has_both_ends() -> None:
    assert evenly(5, 10) == [0, 1, 2, 3, 4]
    assert evenly(31, 10) == [0, 3, 7, 10, 13, 17, 20, 23, 27, 30]
    assert evenly(1000, 2) == [0, 999]
