"""Options of the solvers against diffusers' schedulers, and samplers against k-diffusion's own."""

import json
import math

import diffusers
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from diffusers.schedulers.scheduling_utils import AysSchedules
from k_diffusion import NAMES, PATHS, SHAPE, STEPS, eps, start
from published import (
    SCHEDULES,
    assert_close,
    config_of,
    network,
    oracle,
    paint,
    paint_published,
    step,
    step_options,
    walk_published,
)
from published import SHAPE as PUBLISHED_SHAPE

from latentbrush.diffusion import (
    SAMPLERS,
    Denoiser,
    PictureNoise,
    Rescaled,
    Schedule,
    Threshold,
    make_plan,
    picture_seeds,
)
from latentbrush.diffusion.sigmas import sigma_path, sigma_table
from latentbrush.errors import UserError

SEEDS = picture_seeds(8, 2)
ZERO, LEAST = {"final_sigmas_type": "zero"}, {"final_sigmas_type": "sigma_min"}

OPTIONS = [
    *(("dpmpp_2m", {"solver_type": "heun", "solver_order": 2, **end}) for end in (ZERO, LEAST)),
    *(("dpmpp_3m", options) for options in (ZERO, LEAST, {"lower_order_final": False}, {"euler_at_final": True})),
    ("dpmpp_2m", {"lambda_min_clipped": -1.5}),
    ("dpmpp_2m_sde", {"solver_type": "heun"}),
    ("dpmpp_2m_sde", {"solver_order": 1}),
    *((name, {"solver_type": kind, **end}) for name in ("dpmpp_2s", "dpmpp_3s") for kind in ("midpoint", "heun")
      for end in (ZERO, LEAST)),
    *((name, {"lower_order_final": True, **LEAST}) for name in ("dpmpp_2s", "dpmpp_3s")),
    ("dpmpp_2s", {"solver_order": 1}),
    ("dpmpp_2s", {"lambda_min_clipped": -1.5}),
    *(("unipc", {"solver_order": order, "solver_type": "bh2", **end}) for order in (1, 2, 3) for end in (ZERO, LEAST)),
    # With a last sigma of 0, diffusers' bh1 multiplies infinity by zero.
    *(("unipc", {"solver_order": order, "solver_type": "bh1", **LEAST}) for order in (1, 2, 3)),
    ("unipc", {"lower_order_final": False, "solver_order": 3, **LEAST}),
    *(("deis", {"solver_order": order, "lower_order_final": lower}) for order in (1, 3) for lower in (True, False)),
    ("lcm", {"original_inference_steps": 40, "timestep_scaling": 0.02}),
    ("tcd", {"original_inference_steps": 40}),
]  # fmt: skip


@pytest.mark.capability("dpmpp-2m", "unipc", "lcm", "more-solvers")
@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_options(name, options, judge):
    as_oracle, tolerance = judge
    for n_steps in (1, 6, 14, 15):
        scheduler = as_oracle(oracle(name, SCHEDULES["sd"], n_steps, "v_prediction", "linspace", **options))
        config = config_of(name, "linspace", **options)
        ours, _ = paint(name, SCHEDULES["sd"], n_steps, "v_prediction", config, SEEDS)
        theirs, _ = paint_published(scheduler, SEEDS)
        assert_close(ours, theirs, tolerance)


@pytest.mark.capability("more-solvers")
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_gamma_of_tcd(eta, judge):
    as_oracle, tolerance = judge
    for n_steps in (1, 4, 13):
        scheduler = as_oracle(oracle("tcd", SCHEDULES["sd"], n_steps))
        ours, _ = paint("tcd", SCHEDULES["sd"], n_steps, "epsilon", config_of("tcd", eta=eta), SEEDS)
        theirs, _ = paint_published(scheduler, SEEDS, eta)
        assert_close(ours, theirs, tolerance)


def with_variance(x, t):
    return torch.cat([network(x, t), 1.2 * torch.sin(x + 0.01 * float(t))], dim=1)


@pytest.mark.capability("learned-variance")
@pytest.mark.parametrize("spacing", ["leading", "linspace"])
def test_learned_variance(spacing, judge):
    as_oracle, tolerance = judge
    for n_steps in (1, 7, 20):
        options = {"variance_type": "learned_range"}
        scheduler = as_oracle(oracle("ddpm", SCHEDULES["ddpm"], n_steps, "epsilon", spacing, **options))
        generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
        x = torch.cat([torch.randn((1, *PUBLISHED_SHAPE), generator=g, dtype=torch.float64) for g in generators])
        theirs = []
        for t in scheduler.timesteps:
            x = step(scheduler, with_variance(x, t), t, x, **step_options(scheduler, generators)).prev_sample
            theirs.append(x)
        plan = make_plan("ddpm", SCHEDULES["ddpm"], n_steps, config_of("ddpm", spacing, **options))
        noise, path = PictureNoise(SEEDS, PUBLISHED_SHAPE, torch.float64), []

        def record(x, level, seen, path=path):
            path.append(x)
            return x

        denoiser = Denoiser(lambda x, level: with_variance(x, level.t))
        SAMPLERS["ddpm"].run(denoiser, noise(), plan.steps, noise, record, **plan.options)
        assert_close(path, theirs, tolerance)
    with pytest.raises(UserError, match="the network says no variance"):
        paint("ddpm", SCHEDULES["ddpm"], 3, "epsilon", config_of("ddpm", **options), SEEDS)


@pytest.mark.capability("dynamic-thresholding")
@pytest.mark.parametrize("name", ["ddim", "ddpm", "dpmpp_2m", "dpmpp_2s", "unipc", "deis", "lcm"])
def test_dynamic_thresholding(name, judge):
    as_oracle, tolerance = judge
    tolerance = max(tolerance, 1e-9) if tolerance < 1e-6 else 1e-4  # where float32 just cuts, float64 just does not
    options = {"thresholding": True, "dynamic_thresholding_ratio": 0.8, "sample_max_value": 1.3}
    scheduler = as_oracle(oracle(name, SCHEDULES["sd"], 7, "sample", "linspace", **options))
    theirs, _ = paint_published(scheduler, SEEDS)
    config, threshold = config_of(name, "linspace"), Threshold(0.8, 1.3)
    ours, _ = paint(name, SCHEDULES["sd"], 7, "sample", config, SEEDS, threshold=threshold)
    assert_close(ours, theirs, tolerance)
    plain, _ = paint(name, SCHEDULES["sd"], 7, "sample", config, SEEDS)
    assert float((plain[-1] - ours[-1]).abs().max()) > 1e-3  # it has cut something


@pytest.mark.capability("guidance-rescale")
def test_rescaled_guidance():
    generator = torch.Generator().manual_seed(0)
    out, condition = (torch.randn((2, *PUBLISHED_SHAPE), generator=generator, dtype=torch.float64) for _ in range(2))
    theirs = rescale_noise_cfg(7 * out, condition, 0.7)
    torch.testing.assert_close(Rescaled(0.7).combine(7 * out, {"condition": condition}), theirs, rtol=1e-12, atol=0)


@pytest.mark.capability("sigma-paths")
@pytest.mark.parametrize(("name", "published"), [("ays", "StableDiffusion"), ("ays_sdxl", "StableDiffusionXL")])
def test_aligned_steps_are_those_published(name, published):
    table = sigma_table(Schedule())
    sigmas = sigma_path(name, 0.0, 0.0, 10, table)
    assert [*sigmas.tolist(), 0.0] == pytest.approx(AysSchedules[f"{published}Sigmas"], abs=4e-3)  # as rounded there
    plan = make_plan("euler", Schedule(), 10, config_of("euler", "linspace", sigmas=name))
    times = [planned.at.t for planned in plan.steps]
    assert times == pytest.approx(AysSchedules[f"{published}Timesteps"], abs=1e-3)
    scheduler = diffusers.EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    scheduler.set_timesteps(timesteps=AysSchedules[f"{published}Timesteps"])
    theirs, _ = walk_published(scheduler, start_of(scheduler), scheduler.timesteps, [])
    path = []

    def record(x, level, seen):
        path.append(x)
        return x

    denoiser = Denoiser(lambda x, level: network(x, level.t))
    SAMPLERS["euler"].run(denoiser, start_of(scheduler), plan.steps, None, record, **plan.options)
    assert_close(path, theirs, 2e-5)


def start_of(scheduler):
    generator = torch.Generator().manual_seed(1)
    return torch.randn((1, *PUBLISHED_SHAPE), generator=generator, dtype=torch.float64) * scheduler.init_noise_sigma


@pytest.mark.capability("euler", "euler-ancestral", "heun", "dpmpp-2m", "more-solvers")
@pytest.mark.parametrize("name", NAMES)
def test_samplers_end_where_k_diffusions_do(name):
    """On the sigmas of our own plans, whose second evaluations' places are so tested, too, from the same draws."""
    plan = make_plan(name, Schedule(), STEPS, SAMPLERS[name].defaults)
    first = plan.steps[0].now
    x, generator = start(first.sigma / first.alpha)

    def noise():
        return torch.randn(SHAPE, generator=generator, dtype=torch.float64)

    denoiser = Denoiser(lambda x, level: eps(x, level.sigma / level.alpha))
    painted = SAMPLERS[name].run(denoiser, x * first.alpha, plan.steps, noise, **plan.options)
    expected = torch.tensor(json.loads(PATHS.read_text())[name], dtype=torch.float64).reshape(SHAPE)
    # DPM2's middles are rounded to float32, as diffusers'
    assert_close([painted], [expected], 1e-6 if name.startswith("dpm2") else 1e-9)
    assert math.isfinite(float(painted.sum()))
