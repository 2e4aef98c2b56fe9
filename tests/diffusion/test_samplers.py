"""Samplers against answers known in closed form."""

import math
from itertools import pairwise

import pytest
import torch

from latentbrush.diffusion import (
    SAMPLERS,
    Denoised,
    Denoiser,
    Level,
    PictureNoise,
    PlanConfig,
    Schedule,
    Step,
    ddim,
    ddpm,
    deis,
    dpmpp_multistep,
    heun,
    make_plan,
    posterior_variance,
)

MEAN, SPREAD = 0.7, 0.5
"""Data x0 ~ N(MEAN, SPREAD^2), for which the perfect denoiser is linear and every answer known."""


DETERMINISTIC = [name for name, sampler in SAMPLERS.items() if not sampler.draws]


def gaussian(prediction="v_prediction", mean=MEAN, spread=SPREAD):
    """The perfect denoiser of N(mean, spread^2), as a network of the given prediction type."""

    def network(unit, level):
        x = unit * level.norm
        a, s = level.alpha, level.sigma
        gain = a * spread**2 / (a**2 * spread**2 + s**2)
        x0 = mean + gain * (x - a * mean)
        eps = s * (x - a * mean) / (a**2 * spread**2 + s**2)  # not (x - a x0) / s, which cancels
        return denoiser.target(x0, eps, level)

    denoiser = Denoiser(network, prediction)
    return denoiser


def unit_noise(batch=2, seed=0):
    return PictureNoise(range(seed, seed + batch), (3, 4, 5), torch.float64)


def no_noise():
    raise AssertionError("a deterministic sampler drew")


def analytic(x, first, last):
    """The probability flow's answer: (x - alpha MEAN) / sd(x) stays what it was (Song et al. 2021, SDE)."""

    def deviation(level):
        return math.sqrt(level.alpha**2 * SPREAD**2 + level.sigma**2)

    return last.alpha * MEAN + deviation(last) / deviation(first) * (x - first.alpha * MEAN)


def errors(name, spacing, numbers):
    """Greatest distance from the analytic answer, by number of steps."""
    schedule, found = Schedule(), []
    for n_steps in numbers:
        plan = make_plan(name, schedule, n_steps, PlanConfig(spacing))
        x = unit_noise()() * plan.start_scale
        painted = SAMPLERS[name].run(gaussian(), x, plan.steps, no_noise, **plan.options)
        answer = analytic(x, plan.steps[0].now, plan.steps[-1].next)
        found.append(float((painted - answer).abs().max()))
    return found


@pytest.mark.parametrize("name", ["ddim", "euler", "dpmpp_2m"])  # the others' orders: test_convergence
def test_a_gaussian_is_painted_as_the_probability_flow_says(name):
    # Numbers that divide T: with others, DDIM's steps of T // N do not meet.
    coarse, middle, fine = errors(name, "leading" if name == "ddim" else "linspace", [25, 100, 500])
    # Of first order, five times the steps leave a fifth; the published last jump, from sigma_0 = 0.03 to 0,
    # leaves (sigma_0 / SPREAD)^2 / 2 = 0.002 of x's deviation from MEAN, however many they are.
    assert fine < 0.4 * middle < 0.16 * coarse
    # of deviations up to 4 * SPREAD; measured 0.009 (DPM++) to 0.013
    assert fine < 2e-2


@pytest.mark.capability("heun")
def test_heun_is_of_second_order_between_two_levels():
    """On steps uniform in log(sigma), with no jump to sigma = 0: error falls as 1 / N^2."""

    def error(n_steps):
        sigmas = torch.linspace(2.0, -2.0, n_steps + 1, dtype=torch.float64).exp().tolist()
        levels = [Level(1.0, sigma, 0.0) for sigma in sigmas]
        x = unit_noise()() * sigmas[0]
        painted = heun(gaussian(), x, [Step(now, after, mid=after) for now, after in pairwise(levels)], no_noise)
        return float((painted - analytic(x, levels[0], levels[-1])).abs().max())

    assert error(100) / error(200) == pytest.approx(4, rel=0.1)
    assert error(200) < 1e-3


@pytest.mark.capability("dpmpp-2m")
def test_dpmpp_is_of_second_order_between_two_levels():
    """On steps uniform in log(alpha / sigma), with no jump to sigma = 0: error falls as 1 / N^2."""

    def error(n_steps, order):
        ratios = torch.linspace(-2.0, 2.0, n_steps + 1, dtype=torch.float64).tolist()
        angles = [math.atan(math.exp(-ratio)) for ratio in ratios]
        levels = [Level(math.cos(angle), math.sin(angle), 0.0) for angle in angles]
        steps = [Step(now, after) for now, after in pairwise(levels)]
        x = unit_noise()()
        painted = dpmpp_multistep(gaussian(), x, steps, no_noise, order=order, euler_last=False)
        return float((painted - analytic(x, levels[0], levels[-1])).abs().max())

    # 2^order for twice the steps, up to terms of the next order: a few per cent at 100 steps
    assert error(100, 1) / error(200, 1) == pytest.approx(2, rel=0.05)
    assert error(100, 2) / error(200, 2) == pytest.approx(4, rel=0.1)
    assert error(200, 2) < 1e-2 * error(200, 1)


# PNDM combines raw outputs of several levels, which together mean another x0; LCM keeps a little of x.
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in ("plms", "pndm", "lcm")])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("n_steps", [1, 2, 7, 20])
def test_a_single_picture_is_found_from_any_noise(name, spacing, n_steps):
    """Where the data are one picture, x0 is known at the first step, and every sampler ends on it."""
    plan = make_plan(name, Schedule(), n_steps, PlanConfig(spacing))
    denoiser = gaussian(spread=0.0)
    x = unit_noise()() * plan.start_scale
    noise = no_noise if name in DETERMINISTIC else unit_noise(seed=9)
    painted = SAMPLERS[name].run(denoiser, x, plan.steps, noise, **plan.options)
    last = plan.steps[-1].next
    left = (painted - last.alpha * MEAN) / max(last.sigma, 1e-30)  # DDIM, trailing, may end at abar_0
    assert last.sigma == 0 or float(left.abs().max()) < 10
    if last.sigma == 0:  # x0 = alpha x - sigma v: two terms of about 1, rounded to 1e-16 at each step
        torch.testing.assert_close(painted, torch.full_like(painted, MEAN), rtol=0, atol=1e-12)


@pytest.mark.capability("ddim")
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n_steps", [3, 10])
def test_ddim_is_the_product_of_its_steps(eta, n_steps):
    """With x0 ~ N(MEAN, SPREAD^2) each step is one line: x' = alpha' x0 + sqrt(sigma'^2 - var) eps + sd n."""
    plan = make_plan("ddim", Schedule(), n_steps, PlanConfig("leading", eta=eta))
    drawn = []

    def noise():
        drawn.append(draws())
        return drawn[-1]

    draws = unit_noise(seed=7)
    start = unit_noise()()
    painted = ddim(gaussian(), start, plan.steps, noise, **plan.options)
    abar = [(step.now.alpha**2, step.next.alpha**2) for step in plan.steps]
    x, left = start, list(drawn)
    for now, after in abar:
        # DDIM, eq. 16: sigma_t = eta sqrt((1 - abar') / (1 - abar)) sqrt(1 - abar / abar')
        sd = eta * math.sqrt((1 - after) / (1 - now)) * math.sqrt(1 - now / after)
        spread = now * SPREAD**2 + 1 - now
        eps = math.sqrt(1 - now) * (x - math.sqrt(now) * MEAN) / spread
        x0 = MEAN + math.sqrt(now) * SPREAD**2 * (x - math.sqrt(now) * MEAN) / spread
        x = math.sqrt(after) * x0 + math.sqrt(1 - after - sd**2) * eps
        if sd:
            x = x + sd * left.pop(0)
    assert left == []
    # 1 - abar is rounded differently here: 1e-16 / (1 - abar_1), some 1e-13
    torch.testing.assert_close(painted, x, rtol=1e-11, atol=1e-12)


@pytest.mark.capability("euler-ancestral")
@pytest.mark.parametrize("low", [0.0, 0.03, 2.5])
def test_ancestral_variance_of_an_exploding_step(low):
    """At alpha = 1 it is Euler ancestral's sigma_up^2 = low^2 (high^2 - low^2) / high^2 (k-diffusion)."""
    high = 3.0
    step = Step(Level(1.0, high, 500.0), Level(1.0, low, 400.0))
    up = low**2 * (high**2 - low**2) / high**2
    assert posterior_variance(step) == pytest.approx(up, rel=1e-14)  # two roundings
    x, x0, n = unit_noise(batch=3, seed=4)().unbind(0)
    eps = (x - x0) / high
    painted = ddim(lambda x, level: Denoised(x0, eps, eps), x, [Step(step.now, step.next)], lambda: n, eta=1.0)
    down = math.sqrt(low**2 - up)
    # k-diffusion's form adds (down - high) eps to x instead: a rounding of each term
    torch.testing.assert_close(painted, x + (down - high) * eps + math.sqrt(up) * n, rtol=1e-12, atol=1e-14)


@pytest.mark.capability("euler-ancestral")
def test_ancestral_variance_is_that_of_bayes():
    """Noise added from next to now and conditioned on x_now leaves this variance, by Gaussian algebra."""
    for now, after in [((0.4, 0.9), (0.7, 0.6)), ((1.0, 5.0), (1.0, 2.0)), ((0.0, 1.0), (0.2, 0.9))]:
        gain = now[0] / after[0]  # x_now = gain x_next + added
        added = now[1] ** 2 - (gain * after[1]) ** 2
        bayes = 1 / (1 / after[1] ** 2 + gain**2 / added)
        step = Step(Level(*now, 1.0), Level(*after, 0.0))
        assert posterior_variance(step) == pytest.approx(bayes, rel=1e-14)  # a few roundings


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_any_eta_keeps_the_marginal(eta):
    """Where x0 is known, x_next - alpha' x0 has variance sigma'^2 whatever part of it is fresh."""
    plan = make_plan("ddim", Schedule(), 10, PlanConfig(eta=eta))
    step = plan.steps[3]
    one, zero = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    kept = ddim(lambda x, level: Denoised(zero, one, one), one, [step], lambda: zero, eta=eta)
    fresh = ddim(lambda x, level: Denoised(zero, zero, one), one, [step], lambda: one, eta=eta)
    assert float(kept**2 + fresh**2) == pytest.approx(step.next.sigma**2, rel=1e-14)  # a few roundings


# But to PNDM's, which combines the raw outputs of several levels.
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in ("plms", "pndm")])
@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
def test_the_prediction_type_changes_nothing(name, prediction):
    plan = make_plan(name, Schedule(), 12)
    x = unit_noise()() * plan.start_scale
    paint = SAMPLERS[name].run
    by_v = paint(gaussian("v_prediction"), x, plan.steps, unit_noise(seed=9), **plan.options)
    other = paint(gaussian(prediction), x, plan.steps, unit_noise(seed=9), **plan.options)
    # epsilon's x0 divides 1e-16 by alpha, 0.07 at the least, sample's eps by sigma, 0.03 at the least
    torch.testing.assert_close(other, by_v, rtol=1e-12, atol=1e-12)


@pytest.mark.capability("on-step")
@pytest.mark.parametrize("name", SAMPLERS)
def test_on_step_follows_every_network_call_and_may_change_x(name):
    plan = make_plan(name, Schedule(), 6)
    events = []
    denoiser = gaussian()

    def denoise(x, level):
        events.append(("network", level, x))
        return denoiser(x, level)

    denoise.read = denoiser.read

    def on_step(x, level, denoised):
        assert torch.equal(denoised.raw, denoiser(events[-1][2], events[-1][1]).raw)
        events.append(("step", level, x))
        return x + 1.0

    painted = SAMPLERS[name].run(
        denoise, unit_noise()() * plan.start_scale, plan.steps, unit_noise(seed=9), on_step, **plan.options
    )
    assert [what for what, *_ in events] == ["network", "step"] * plan.calls
    asked = [level for what, level, _ in events if what == "network"]
    told = [level for what, level, _ in events if what == "step"]
    # Some ask at a second level of a step, too, but for the last: no network reads a finished level.
    both = [level for step in plan.steps for level in (step.at, step.mid) if level is not None]
    assert asked == (both if plan.calls_per_step == 2 else [step.at for step in plan.steps])
    assert told[:-1] == asked[1:]
    assert (told[-1], told[-1].t) == (plan.steps[-1].next, None)
    for (_, _, left), (_, _, taken) in zip(events[1::2], [*events[2::2], (0, 0, painted)], strict=True):
        assert torch.equal(taken, left + 1.0)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_type_of_x_is_kept(name, dtype):
    plan = make_plan(name, Schedule(rescale_zero_snr=True), 5, PlanConfig("trailing"))
    noise = PictureNoise([1], (3, 4, 5), dtype)
    painted = SAMPLERS[name].run(
        Denoiser(lambda x, level: x, "v_prediction"),
        noise() * plan.start_scale,
        plan.steps,
        noise,
        **plan.options,
    )
    assert painted.dtype == dtype
    assert bool(painted.isfinite().all())


@pytest.mark.capability("ddpm")
def test_ddpm_is_ddim_with_eta_one_while_nothing_is_clipped():
    steps = make_plan("ddpm", Schedule(), 10).steps
    one = ddpm(gaussian(), unit_noise()(), steps, unit_noise(seed=9))
    other = ddim(gaussian(), unit_noise()(), steps, unit_noise(seed=9), eta=1.0)
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)  # as the product of DDIM's steps


@pytest.mark.capability("ddpm")
def test_ddpms_large_variance_is_the_forward_steps():
    """beta_t = 1 - abar_t / abar_t' (DDPM, section 3.2), and none is added to the finished picture."""
    steps = make_plan("ddpm", Schedule(), 10, PlanConfig("trailing", variance_type="fixed_large")).steps
    zero, one = torch.zeros(1, 1, 1, 1, dtype=torch.float64), torch.ones(1, 1, 1, 1, dtype=torch.float64)
    for step in steps:
        drawn = ddpm(lambda x, level: Denoised(zero, zero, zero), zero, [step], lambda: one, variance="fixed_large")
        beta = 1 - (step.now.alpha / step.next.alpha) ** 2
        assert float(drawn) ** 2 == pytest.approx(0.0 if step is steps[-1] else beta, rel=1e-12)


def test_two_evaluations_at_one_level_give_no_slope():
    """As where trailing spacing ends with t = 0 and t = -1: the step after them is of first order."""
    schedule = Schedule()
    config = PlanConfig("trailing", final_sigmas_type="sigma_min")
    plan = make_plan("dpmpp_2m", schedule, 998, config)
    assert (plan.options["order"], plan.options["euler_last"]) == (2, False)
    painted = dpmpp_multistep(gaussian(), unit_noise()(), plan.steps, no_noise, **plan.options)
    assert bool(painted.isfinite().all())


@pytest.mark.capability("more-solvers")
def test_deis_integrates_a_line_in_the_logarithm_over_a_long_step():
    """eps = log(rho), whose integral is rho log(rho) - rho, from the second step on; none of a polynomial in rho."""
    far, high, low = (Level(1.0, sigma, sigma) for sigma in (5000.0, 3500.0, 0.01))
    denoiser = Denoiser(lambda x, level: torch.full_like(x, math.log(level.sigma)), "epsilon")
    seen = []
    deis(denoiser, unit_noise()(), [Step(far, high), Step(high, low)], no_noise, lambda x, *_: seen.append(x) or x)
    between = seen[1] - seen[0]
    expected = sum(sign * sigma * (math.log(sigma) - 1) for sign, sigma in ((1, 0.01), (-1, 3500.0)))
    torch.testing.assert_close(between, torch.full_like(between, expected), rtol=1e-12, atol=0)


@pytest.mark.capability("heun", "zero-terminal-snr")
@pytest.mark.parametrize("name", ["heun", "dpm2"])
def test_the_first_step_away_from_pure_noise_is_a_plain_one(name):
    """There DDIM's step is nearly exact; Heun's mean of slopes would draw a small change of x0 out 4096 sigmas."""
    plan = make_plan(name, Schedule(rescale_zero_snr=True), 20, PlanConfig("trailing"))
    first = plan.steps[0]
    assert first.now.sigma == 4096
    x = unit_noise()() * plan.start_scale

    def error(step):
        painted = SAMPLERS[name].run(gaussian(), x, [step], no_noise, **plan.options)
        return float((painted - analytic(x, first.now, first.next)).abs().max()) / first.next.sigma

    assert error(first) < 1e-3
    if name == "heun":
        assert error(Step(first.now, first.next, mid=first.next)) > 30 * error(first)
