"""Options of the samplers against diffusers' schedulers: paths of sigmas, the cosine schedule, clipping, variance."""

import pytest
import torch
from published import (
    EXACT,
    ORACLES,
    PREDICTIONS,
    PUBLISHED,
    PUBLISHED_PAIRS,
    SCHEDULES,
    SHAPE,
    SPACINGS,
    assert_close,
    config_of,
    exactly,
    network,
    oracle,
    paint,
    paint_published,
    walk_published,
)

from latentbrush.diffusion import SAMPLERS, Denoiser, PictureNoise, PlanConfig, make_plan, picture_seeds

SEEDS = picture_seeds(21, 2)
# Paths over the cosine schedule begin at sigma 20000, and five steps of beta's go from 3600 to 0.3: what is left of x
# has the float32 roundings of x times such a ratio. In float64 all agree to 2e-11. Measured 4e-5; 4e-4, 9e-4 of those
# that count slopes more than once; of DEIS, whose weights are float32 differences of numbers 10000 times themselves,
# 1e-2, 8e-4 and 5e-4.
FROM_20000 = {
    "beta": 1e-4,
    ("lms", "beta"): 1e-3,
    ("dpm2", "beta"): 2e-3,
    ("deis", "beta"): 2e-2,
    ("deis", "karras"): 2e-3,
    ("deis", "exponential"): 1e-3,
}


@pytest.mark.capability("karras-sigmas", "sigma-paths")
@pytest.mark.parametrize("path", ["karras", "exponential", "beta"])
@pytest.mark.parametrize("name", [name for name in ORACLES if SAMPLERS[name].paths and name != "euler_ancestral"])
@pytest.mark.parametrize(("schedule", "prediction"), [("sd", "epsilon"), ("cosine", "v_prediction")])
def test_paths_of_sigmas(path, name, schedule, prediction, judge):
    as_oracle, tolerance = judge
    if (schedule, tolerance) == ("cosine", PUBLISHED):
        tolerance = FROM_20000.get((name, path), FROM_20000.get(path, PUBLISHED))
    for n_steps, spacing in [(1, "leading"), (5, "trailing"), (20, "linspace")]:
        options = {f"use_{path}_sigmas": True, "steps_offset": 1}
        scheduler = as_oracle(oracle(name, SCHEDULES[schedule], n_steps, prediction, spacing, **options))
        config = config_of(name, spacing, **options)
        ours, _ = paint(name, SCHEDULES[schedule], n_steps, prediction, config, SEEDS)
        theirs, _ = paint_published(scheduler, SEEDS)
        assert all(x.isfinite().all() for x in ours)
        if (name, schedule, path) == ("dpm2_ancestral", "cosine", "beta") and n_steps > 1:
            # Down to less than 1 from hundreds its sigmas_down is rounded to 0, and the middle in log(sigma) to NaN.
            assert theirs[-1].isnan().all()
            known = [x for x in theirs if x.isfinite().all()]
            assert len(known) >= len(theirs) - 3
            ours, theirs = ours[: len(known)], known
        assert_close(ours, theirs, tolerance)


@pytest.mark.capability("noise-schedules")
@pytest.mark.parametrize(("name", "prediction"), [pair for pair in PUBLISHED_PAIRS if pair[1] == "v_prediction"])
def test_the_cosine_schedule(name, prediction, judge):
    as_oracle, tolerance = judge
    for n_steps in (5, 20):
        scheduler = as_oracle(oracle(name, SCHEDULES["cosine"], n_steps, prediction))
        ours, _ = paint(name, SCHEDULES["cosine"], n_steps, prediction, config_of(name), SEEDS)
        theirs, _ = paint_published(scheduler, SEEDS)
        assert_close(ours, theirs, tolerance)


@pytest.mark.capability("ddpm")
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("clip", [None, 0.3])
def test_ddpm_variances_and_clipping(variance, spacing, prediction, clip, judge):
    as_oracle, tolerance = judge
    options = {"variance_type": variance}
    clipping = {} if clip is None else {"clip_sample": True, "clip_sample_range": clip}
    for n_steps in (1, 7, 20):
        scheduler = as_oracle(oracle("ddpm", SCHEDULES["ddpm"], n_steps, prediction, spacing, **options, **clipping))
        ours, x0 = paint("ddpm", SCHEDULES["ddpm"], n_steps, prediction, PlanConfig(spacing, **options), SEEDS, clip)
        theirs, their_x0 = paint_published(scheduler, SEEDS)
        assert_close(x0, their_x0, tolerance)
        assert_close(ours[:-1], theirs[:-1], tolerance)
        # Where the last time is not 0, the published picture is finished with noise; ours is what it hides.
        finished = theirs[-1] if int(scheduler.timesteps[-1]) == 0 else their_x0[-1]
        assert_close(ours[-1:], [finished], tolerance)


@pytest.mark.capability("heun")
@pytest.mark.parametrize("clip", [1.0, 0.3])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_heun_clips_x0_as_published(clip, prediction, judge):
    as_oracle, tolerance = judge
    if tolerance == PUBLISHED:
        tolerance = 1e-3  # where float32 just clips, float64 just does not
    options = {"clip_sample": True, "clip_sample_range": clip}
    scheduler = as_oracle(oracle("heun", SCHEDULES["ddpm"], 20, prediction, "linspace", **options))
    ours, x0 = paint("heun", SCHEDULES["ddpm"], 20, prediction, PlanConfig("linspace"), SEEDS, clip)
    theirs, their_x0 = paint_published(scheduler, SEEDS)
    assert_close(ours, theirs, tolerance)
    assert_close(x0, their_x0, tolerance)


DISTILLED = ("lcm", "tcd")  # of 50 steps at most
WITHOUT_FURTHER_ENTRY = ("plms", "lms", "unipc", "deis")  # of trailing spacing, at t = -1

# An int(n_steps * strength) of 0, of n_steps, and some between; 0.58 * 50 is 28.999... in floating point.
STRENGTHS = [(20, 0.04), (20, 0.3), (50, 0.58), (7, 0.8), (5, 0.99), (61, 0.5), (10, 1 - 2**-53)]


@pytest.mark.capability("image-to-image")
@pytest.mark.parametrize(
    ("name", "prediction"),
    # diffusers starts PNDM's Runge-Kutta steps at the full list's beginning, whatever x is
    [pair for pair in PUBLISHED_PAIRS if pair[1] != "sample" and pair[0] != "pndm"],
)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_from_a_guide_as_diffusers_image_to_image(name, prediction, spacing):
    """Start, levels and every step, as StableDiffusionImg2ImgPipeline runs its scheduler."""
    for n_steps, strength in STRENGTHS:
        if n_steps == 61 and name in (*DISTILLED, *WITHOUT_FURTHER_ENTRY) and spacing == "trailing":
            continue
        if n_steps > 50 and name in DISTILLED:
            continue
        scheduler = oracle(name, SCHEDULES["sd"], n_steps, prediction, spacing, steps_offset=1)
        plan = make_plan(name, SCHEDULES["sd"], n_steps, config_of(name, spacing, steps_offset=1), strength)
        run = min(int(n_steps * strength), n_steps)
        first = (n_steps - run) * scheduler.order
        times = scheduler.timesteps[first:]
        if not run:
            assert (plan.steps, plan.calls) == ((), 0)
            continue
        assert [planned.at.t for planned in plan.steps] == [
            t for t in times[:: scheduler.order].tolist() if t >= 0 or name not in ("ddim", "ddpm")
        ]
        generator = torch.Generator().manual_seed(0)
        guide = torch.randn((2, *SHAPE), generator=generator, dtype=torch.float64)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)
        scheduler = exactly(scheduler)
        noise = PictureNoise(SEEDS, SHAPE, torch.float64)
        x = plan.start(noise(), guide)
        theirs = scheduler.add_noise(guide, PictureNoise(SEEDS, SHAPE, torch.float64)(), times[:1].repeat(2))
        assert_close([x], [theirs], 1e-12)
        seen = Path()
        denoiser = Denoiser(lambda x, level: network(x, level.t), prediction)
        SAMPLERS[name].run(denoiser, x, plan.steps, noise, seen.record, **plan.options)
        path, _ = walk_published(scheduler, theirs, times, noise_after_one_draw())
        assert len(seen.path) == plan.calls
        assert_close(seen.path, path[: plan.calls], EXACT)


class Path:
    """x after every call."""

    def __init__(self):
        self.path = []

    def record(self, x, level, denoised):
        self.path.append(x)
        return x


def noise_after_one_draw():
    """The pictures' generators where the start has been drawn."""
    noise = PictureNoise(SEEDS, SHAPE, torch.float64)
    noise()
    return noise.generators
