"""diffusers' schedulers as oracles, and trajectories through them and through ours.

Two oracles. `exact`: the scheduler with its tables (alphas_cumprod, final_alpha_cumprod, sigmas) cast to
float64 after set_timesteps, and its upcast of the sample to float32, which is a downcast here, lifted to
float64: both sides then do the same arithmetic in float64, up to the order of operations. `published`: the
scheduler as it comes, which computes coefficients, and for Euler and DPM++ the samples, in float32.
"""

import sys
from dataclasses import replace
from unittest import mock

import diffusers
import torch
from diffusers.utils.torch_utils import randn_tensor

from latentbrush.diffusion import (
    SAMPLERS,
    Denoiser,
    PictureNoise,
    Schedule,
    make_plan,
)

# Its scheduler imports torchsde for a noise of its own, which is never asked here: both sides are given the same.
sys.modules["torchsde"] = mock.Mock()
from diffusers.schedulers.scheduling_dpmsolver_sde import DPMSolverSDEScheduler  # noqa: E402

del sys.modules["torchsde"]

# Errors are relative to the greatest value of the oracle's tensor.
# 50 steps of about 20 roundings of 1e-16 each. Where they grow, at zero SNR, Euler's x is 4096 times the
# picture: measured 5e-13 there, 3e-14 elsewhere.
EXACT = 1e-9
# The same with roundings of 6e-8, and x0 = (x - sigma eps) / alpha divides them by 0.006 on the "ddpm"
# schedule: measured 1.3e-5 at zero SNR, 1.2e-5 on that schedule, 3e-6 elsewhere.
PUBLISHED = 2e-5

ORACLES = {
    "ddim": diffusers.DDIMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
    "euler_ancestral": diffusers.EulerAncestralDiscreteScheduler,
    "ddpm": diffusers.DDPMScheduler,
    "plms": diffusers.PNDMScheduler,
    "pndm": diffusers.PNDMScheduler,
    "lms": diffusers.LMSDiscreteScheduler,
    "dpm2": diffusers.KDPM2DiscreteScheduler,
    "dpm2_ancestral": diffusers.KDPM2AncestralDiscreteScheduler,
    "dpmpp_sde": DPMSolverSDEScheduler,
    "dpmpp_2m_sde": diffusers.DPMSolverMultistepScheduler,
    "dpmpp_3m": diffusers.DPMSolverMultistepScheduler,
    "dpmpp_2s": diffusers.DPMSolverSinglestepScheduler,
    "dpmpp_3s": diffusers.DPMSolverSinglestepScheduler,
    "unipc": diffusers.UniPCMultistepScheduler,
    "deis": diffusers.DEISMultistepScheduler,
    "lcm": diffusers.LCMScheduler,
    "tcd": diffusers.TCDScheduler,
}
FIXED = {
    "plms": {"skip_prk_steps": True},
    "pndm": {"skip_prk_steps": False},
    "dpmpp_2m_sde": {"algorithm_type": "sde-dpmsolver++"},
    "dpmpp_3m": {"solver_order": 3},
    "dpmpp_3s": {"solver_order": 3},
}
"""The options that make an oracle this sampler."""
WITHOUT_ZERO_SNR = (
    "heun",
    "plms",
    "pndm",
    "lms",
    "dpm2",
    "dpm2_ancestral",
    "dpmpp_sde",
    "dpmpp_2s",
    "dpmpp_3s",
    "deis",
)
DRAWING = ("ddim", "euler_ancestral", "ddpm", "dpm2_ancestral", "dpmpp_2m_sde", "lcm", "tcd")
WITHOUT_SAMPLE = ("euler_ancestral", "plms", "pndm", "dpm2", "dpm2_ancestral", "dpmpp_sde")
"""Whose schedulers know no sample prediction."""
FEWER_STEPS = [1, 5, 20]
LEAST_STEPS = {"pndm": 4}
WITHOUT_MEMORY = ("ddim", "euler", "dpmpp_2m", "heun", "euler_ancestral", "ddpm", "dpm2", "dpm2_ancestral", "dpmpp_sde")
"""Which one step of theirs says all of; dpmpp_2m is of first order then."""
WITHOUT_SPACING = ("dpmpp_2s", "dpmpp_3s")
STEPS = [1, 2, 5, 7, 20, 50]
SPACINGS = ["leading", "trailing", "linspace"]
PREDICTIONS = ["epsilon", "v_prediction", "sample"]
PUBLISHED_PAIRS = [
    (name, prediction)
    for name in ORACLES
    for prediction in PREDICTIONS
    if prediction != "sample" or name not in WITHOUT_SAMPLE
]
SHAPE = (4, 6, 5)
SCHEDULES = {
    "sd": Schedule("scaled_linear", 0.00085, 0.012),
    "ddpm": Schedule("linear", 1e-4, 0.02),
    "zero_snr": Schedule("scaled_linear", 0.00085, 0.012, rescale_zero_snr=True),
    "short": Schedule("linear", 1e-3, 0.2, num_train_timesteps=100),
    "cosine": Schedule("squaredcos_cap_v2"),
    "given": Schedule(num_train_timesteps=4, trained_betas=(0.01, 0.1, 0.3, 0.5)),
}


def oracle(name, schedule, n_steps, prediction="epsilon", spacing="leading", **options):
    """The published scheduler, after set_timesteps."""
    if name in ("ddim", "ddpm"):
        options = {"clip_sample": False} | options
    options = FIXED.get(name, {}) | options
    if name not in WITHOUT_SPACING:
        options["timestep_spacing"] = spacing
    else:
        options.pop("steps_offset", None)
    if name not in WITHOUT_ZERO_SNR:
        options["rescale_betas_zero_snr"] = schedule.rescale_zero_snr
    scheduler = ORACLES[name](
        num_train_timesteps=schedule.num_train_timesteps,
        beta_schedule=schedule.beta_schedule,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        trained_betas=None if schedule.trained_betas is None else list(schedule.trained_betas),
        prediction_type=prediction,
        **options,
    )
    scheduler.set_timesteps(n_steps)
    return scheduler


class Float64Torch:
    """The module torch, but for float32, which is float64."""

    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


class Float64Time(int):
    """A whole time whose products are float64 tensors; those of an integer tensor are float32."""

    def __mul__(self, other):
        return torch.tensor(int(self) * other, dtype=torch.float64)


class Motion:
    """The noise of a Brownian motion over sigma, made of a generator's draws: in place of DPMSolverSDE's own tree.

    It is asked for [a, middle] and then [a, b], and so draws two independent increments a step.
    """

    def __init__(self, generators, shape=None):
        self.generators, self.shape, self.at = generators, SHAPE if shape is None else shape, None

    def __call__(self, high, low):
        drawn = randn_tensor((len(self.generators), *self.shape), self.generators, dtype=torch.float64)
        high, low = float(high), float(low)
        if self.at is None:
            self.at, self.moved = low, (high - low) ** 0.5 * drawn
            return drawn
        moved = self.moved + (self.at - low) ** 0.5 * drawn
        self.at = None
        return moved / (high - low) ** 0.5


def exactly(scheduler):
    """The scheduler with float64 tables; `step` lifts its arithmetic too."""
    for table in ("alphas_cumprod", "final_alpha_cumprod", "sigmas", "sigmas_interpol", "one"):
        if hasattr(scheduler, table):
            setattr(scheduler, table, getattr(scheduler, table).double())
    if hasattr(scheduler, "sigmas_up"):  # made of sigmas, which are each twice in the list
        high, low = scheduler.sigmas[:-1:2], scheduler.sigmas[1::2]
        up = (low**2 * (high**2 - low**2) / high**2) ** 0.5
        down = (low**2 - up**2) ** 0.5
        down[-1] = 0
        size = in_pairs(low**2)
        for name, values in (("sigmas_up", up), ("sigmas_down", down)):
            twice = in_pairs(values)
            # Theirs is the root of a float32 difference of squares of this size: measured 2e-7. NaN is its 0 / 0 at
            # the end, where nothing is read, or the root of a difference that is rounded below 0.
            error = (twice**2 - getattr(scheduler, name).double() ** 2).abs()
            assert (error <= 1e-6 * size)[~error.isnan()].all()
            setattr(scheduler, name, twice)
    return scheduler


def in_pairs(values):
    """Every value twice but the first, and the last thrice, as the DPM2 schedulers lay their tables out."""
    return torch.cat([values[:1], values[1:].repeat_interleave(2), values[-1:]])


def step(scheduler, raw, t, x, **options):
    """The scheduler's step, in float64 if its tables are."""
    if scheduler.alphas_cumprod.dtype == torch.float32:
        return scheduler.step(raw, t, x, **options)
    if isinstance(scheduler, ORACLES["lcm"]):
        t = Float64Time(t)
    # Only here: a scheduler built under it would have other tables.
    with mock.patch.object(sys.modules[type(scheduler).__module__], "torch", Float64Torch()):
        return scheduler.step(raw, t, x, **options)


def network(x, t):
    """A fixed nonlinear network: it mixes channels and neighbours and depends on the time."""
    t = torch.as_tensor(t, dtype=torch.float64) / 1000
    return 0.8 * torch.tanh(x.roll(1, 1) - 0.5 * x.roll(1, 3) + t) + 0.3 * torch.cos(3 * t) * x


def config_of(name, spacing="leading", **options):
    """The sampler's own defaults, which are its scheduler's, but for these; a path of sigmas by diffusers' flag."""
    for flag in [key for key in options if key.startswith("use_")]:
        if options.pop(flag):
            options["sigmas"] = flag.removeprefix("use_").removesuffix("_sigmas")
    return replace(SAMPLERS[name].defaults, spacing=spacing, **options)


def paint(name, schedule, n_steps, prediction, config, seeds, clip=None, threshold=None):
    """Our trajectory: x after every step, and every estimate of x0."""
    plan = make_plan(name, schedule, n_steps, config)
    denoiser = Denoiser(lambda x, level: network(x, level.t), prediction, clip, threshold)
    noise = PictureNoise(seeds, SHAPE, torch.float64)
    path, estimates = [], []

    def record(x, level, denoised):
        path.append(x)
        estimates.append(denoised.x0)
        return x

    SAMPLERS[name].run(denoiser, noise() * plan.start_scale, plan.steps, noise, record, **plan.options)
    return path, estimates


def step_options(scheduler, generators, eta=None):
    """What a pipeline hands to this scheduler's step."""
    if isinstance(scheduler, DPMSolverSDEScheduler):
        scheduler.noise_sampler = scheduler.noise_sampler or Motion(generators)
        return {}
    if isinstance(scheduler, ORACLES["lms"]) and scheduler.begin_index:
        # Of the full list's index it takes its order, and so from a guide coefficients of slopes that it has not
        # seen, which it leaves out of the sum. Here it is told how many there are.
        return {"order": min(len(scheduler.derivatives) + 1, 4)}
    if not isinstance(scheduler, tuple(ORACLES[name] for name in DRAWING)):
        return {}
    if isinstance(scheduler, ORACLES["dpmpp_2m_sde"]):
        # It draws float32 whatever x is, which would be another stream: here it is given the same.
        if scheduler.config.algorithm_type == "dpmsolver++":
            return {}
        return {"variance_noise": randn_tensor((len(generators), *SHAPE), generators, dtype=torch.float64)}
    takes_eta = isinstance(scheduler, (ORACLES["ddim"], ORACLES["tcd"])) and eta is not None
    return {"generator": generators} | ({"eta": eta} if takes_eta else {})


def paint_published(scheduler, seeds, eta=None):
    """diffusers' trajectory, as its pipelines run it, with a list of generators."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    x = randn_tensor((len(seeds), *SHAPE), generators, dtype=torch.float64) * scheduler.init_noise_sigma
    if hasattr(scheduler, "set_begin_index"):
        # Else it looks the first time up, and where Karras's sigmas round to it twice, takes the second.
        scheduler.set_begin_index(0)
    return walk_published(scheduler, x, scheduler.timesteps, generators, eta)


def walk_published(scheduler, x, times, generators, eta=None):
    """The scheduler's way from x through `times`: x after every call, and every estimate of x0 it tells."""
    path, estimates = [], []
    for t in times:
        raw = network(scheduler.scale_model_input(x, t), t)
        out = step(scheduler, raw, t, x, **step_options(scheduler, generators, eta))
        x = out.prev_sample
        path.append(x)
        estimates.append(getattr(out, "pred_original_sample", None))
    return path, estimates


def assert_close(ours, theirs, tolerance):
    """Every tensor of a path, relative to the oracle's greatest value in it."""
    assert len(ours) == len(theirs)
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        error = float((a - b).abs().max() / b.abs().max())
        assert error <= tolerance, f"step {i}: {error:.2e}"
