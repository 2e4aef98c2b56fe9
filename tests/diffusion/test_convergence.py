"""How fast each sampler's error falls on data whose every answer is known: N(MEAN, SPREAD^2).

Steps lie between two noisy levels, so that no published last jump to sigma = 0 hides the order; and they begin
very short, so that the first ones, for which multistep samplers lack a past, hide it neither.
"""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from latentbrush.diffusion import (
    Denoised,
    Level,
    Step,
    ddim,
    deis,
    dpm2,
    dpmpp_2s_ancestral,
    dpmpp_multistep,
    dpmpp_sde,
    dpmpp_singlestep,
    heun,
    lms,
    plms,
    pndm,
    unipc,
)
from latentbrush.diffusion.samplers.contract import ancestral

MEAN, SPREAD = 0.7, 0.5
FIRST, LAST = -1.5, 1.5  # log(alpha / sigma)


def denoise(x, level):
    """The perfect denoiser, in x0 and eps; raw is eps."""
    a, s = level.alpha, level.sigma
    variance = a**2 * SPREAD**2 + s**2
    x0 = MEAN + a * SPREAD**2 / variance * (x - a * MEAN)
    eps = s * (x - a * MEAN) / variance
    return Denoised(x0, eps, eps)


def read(raw, x, level):
    return Denoised((x - level.sigma * raw) / level.alpha, raw, raw)


denoise.read = read


def preserving(ratio, t=0.0):
    angle = math.atan(math.exp(-ratio))
    return Level(math.cos(angle), math.sin(angle), t)


def exploding(ratio, t=0.0):
    return Level(1.0, math.exp(-ratio), t)


def levels(n_steps, kind=preserving, power=1):
    ratios = FIRST + (LAST - FIRST) * np.linspace(0, 1, n_steps + 1) ** power
    return [kind(float(ratio), float(i)) for i, ratio in enumerate(ratios)]


def deviation(level):
    return math.sqrt(level.alpha**2 * SPREAD**2 + level.sigma**2)


def error(run, steps):
    """Greatest distance from where the probability flow leads: (x - alpha MEAN) / sd(x) stays what it was."""
    first, last = steps[0].now, steps[-1].next
    x = torch.linspace(-2, 2, 5, dtype=torch.float64).reshape(-1, 1, 1, 1)
    answer = last.alpha * MEAN + deviation(last) / deviation(first) * (x - first.alpha * MEAN)
    return float((run(denoise, x, steps, None) - answer).abs().max())


def plain(points):
    return [Step(now, after) for now, after in pairwise(points)]


def middles(points, kind):
    """Steps through their middle in log(alpha / sigma)."""
    return [
        Step(now, after, mid=kind((now.log_ratio() + after.log_ratio()) / 2, 0.5)) for now, after in pairwise(points)
    ]


def blocks(points, order):
    """Singlestep: blocks of `order` steps, each from the block's start."""
    return [Step(points[i - i % order], after, at=now) for i, (now, after) in enumerate(pairwise(points))]


def evenly_in_time(n_steps):
    """Levels for PLMS, whose weights suppose equal steps of time: the angle falls evenly."""
    high, low = (math.atan(math.exp(-ratio)) for ratio in (FIRST, LAST))
    angles = np.linspace(high, low, 2 * n_steps + 1)
    return [Level(math.cos(angle), math.sin(angle), float(i)) for i, angle in enumerate(angles)]


def plms_steps(n_steps):
    points = evenly_in_time(n_steps)[::2]
    steps = plain(points)
    return [steps[0], Step(points[0], points[1], at=points[1]), *steps[1:]]


def pndm_steps(n_steps):
    points = evenly_in_time(n_steps)
    steps = []
    for i in range(0, 6, 2):
        high, middle, low = points[i : i + 3]
        steps += [Step(high, after, at) for at, after in ((high, middle), (middle, middle), (middle, low), (low, low))]
    return steps + plain(points[6::2])


def powered(n_steps):
    return levels(n_steps, power=3)


MULTISTEP = partial(dpmpp_multistep, euler_last=False)
CASES = {
    "ddim": (1, ddim, lambda n: plain(levels(n))),
    "euler": (1, ddim, lambda n: plain(levels(n, exploding))),
    "heun": (2, heun, lambda n: [Step(a, b, mid=b) for a, b in pairwise(levels(n, exploding))]),
    "dpm2": (2, dpm2, lambda n: middles(levels(n, exploding), exploding)),
    "dpmpp-multistep-1": (1, partial(MULTISTEP, order=1), lambda n: plain(levels(n))),
    "dpmpp-multistep-2": (2, MULTISTEP, lambda n: plain(powered(n))),
    "dpmpp-multistep-2-heun": (2, partial(MULTISTEP, solver_type="heun"), lambda n: plain(powered(n))),
    # The published second difference is half the second derivative that its coefficient is meant for, in diffusers
    # and in the authors' code alike: more exact than 2M, but of second order.
    "dpmpp-multistep-3": (2, partial(MULTISTEP, order=3), lambda n: plain(powered(n))),
    "dpmpp-singlestep-2": (2, dpmpp_singlestep, lambda n: blocks(levels(2 * n), 2)),
    "dpmpp-singlestep-2-heun": (2, partial(dpmpp_singlestep, solver_type="heun"), lambda n: blocks(levels(2 * n), 2)),
    "dpmpp-singlestep-3": (3, partial(dpmpp_singlestep, solver_type="heun"), lambda n: blocks(levels(3 * n), 3)),
    "lms-1": (1, partial(lms, order=1), lambda n: plain(levels(n))),
    "lms-4": (4, lms, lambda n: plain(powered(n))),
    "deis-2": (2, deis, lambda n: plain(powered(n))),
    "deis-3": (3, partial(deis, order=3), lambda n: plain(powered(n))),
    # The corrector adds an order (UniPC, theorem 3.1).
    "unipc-1": (2, partial(unipc, order=1, lower_order_final=False), lambda n: plain(levels(n))),
    "unipc-2-bh1": (3, partial(unipc, variant="bh1", lower_order_final=False), lambda n: plain(powered(n))),
    "unipc-2-bh2": (3, partial(unipc, lower_order_final=False), lambda n: plain(powered(n))),
    "unipc-3": (4, partial(unipc, order=3, lower_order_final=False), lambda n: plain(powered(n))),
    # The transfer between levels limits both to the second order (PNDM, theorem 3.1).
    "plms": (2, plms, plms_steps),
    "pndm": (2, pndm, pndm_steps),
}


@pytest.mark.capability("ddim", "euler", "heun", "dpmpp-2m", "plms", "unipc", "more-solvers")
@pytest.mark.parametrize("name", CASES)
def test_the_error_falls_with_the_order(name):
    order, run, steps = CASES[name]
    coarse, fine = error(run, steps(160)), error(run, steps(320))
    found = math.log2(coarse / fine)
    # Terms of the next order still count a little: measured 3.68 for UniPC of order 3, the others within 0.11.
    assert abs(found - order) < 0.35, found


def outcome(run, points, steps):
    """Mean and variance at the end, exactly: x is linear in the start and in every draw, one of each in the batch."""
    first, last = points[0], points[-1]
    calls = []

    def draw(count):
        calls.append(None)
        one = torch.zeros(count, 1, 1, 1, dtype=torch.float64)
        if len(calls) + 1 < count:
            one[len(calls) + 1] = 1.0
        return one

    most = 2 * len(steps) + 2
    x = torch.zeros(most, 1, 1, 1, dtype=torch.float64)
    x += first.alpha * MEAN
    x[1] += deviation(first)  # the start's own deviation
    end = run(denoise, x, steps, lambda: draw(most)).flatten()
    assert len(calls) + 2 <= most
    return float(end[0]), float((end[1:] - end[0]).square().sum()), last


STOCHASTIC = {
    # name: order of the variance's error, sampler, steps
    "euler-ancestral": (1, partial(ddim, eta=1.0), plain),
    "dpm2-ancestral": (2, partial(dpm2, eta=1.0), None),
    "dpmpp-2s-ancestral": (2, dpmpp_2s_ancestral, None),
    "dpmpp-sde": (2, dpmpp_sde, lambda points: middles(points, exploding)),
    "dpmpp-2m-sde-1": (1, partial(MULTISTEP, order=1, eta=1.0), plain),
    "dpmpp-2m-sde": (2, partial(MULTISTEP, eta=1.0), plain),
    "dpmpp-3m-sde": (2, partial(MULTISTEP, order=3, eta=1.0, solver_type="heun"), plain),
}


def middles_down(points):
    """Steps through the middle of the way to the level from which DDIM's eta 1 adds noise."""
    steps = []
    for now, after in pairwise(points):
        down, _ = ancestral(now, after)
        steps.append(Step(now, after, mid=exploding((now.log_ratio() + down.log_ratio()) / 2, 0.5)))
    return steps


@pytest.mark.capability("euler-ancestral", "more-solvers")
@pytest.mark.parametrize("name", STOCHASTIC)
def test_with_noise_mean_and_variance_become_the_datas(name):
    order, run, build = STOCHASTIC[name]
    errors = []
    for n_steps in (40, 80):
        points = levels(n_steps, exploding)
        mean, variance, last = outcome(run, points, (build or middles_down)(points))
        assert mean == pytest.approx(MEAN, rel=1e-12)  # the mean of the start is no error's
        errors.append(abs(variance - deviation(last) ** 2))
    found = math.log2(errors[0] / errors[1])
    assert abs(found - order) < 0.35, found  # measured 0.97 to 2.29
    assert errors[1] < 0.02
