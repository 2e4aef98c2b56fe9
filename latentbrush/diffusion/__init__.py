"""The mathematics of diffusion: levels, schedules, plans, samplers, guidance, losses. No network, no file.

The way through it: a `Schedule` is the table a model was trained with; `make_plan` says which levels a
sampler visits; a `Denoiser` reads a network's output, which `guided` conditions; the sampler's function
walks the plan; `PictureNoise` draws. Training asks `Schedule.level` and `diffusion_loss`.
"""

from latentbrush.diffusion.bound import Bound, bound_levels, variational_bound
from latentbrush.diffusion.denoiser import Denoise, Denoised, Denoiser, Limits, Predict, Prediction, Threshold
from latentbrush.diffusion.guidance import CONDITION, ClassifierFree, Guidance, Network, Rescaled, guided
from latentbrush.diffusion.handover import above, below, check_handover, interrupted
from latentbrush.diffusion.level import Level, Plan, Scalar, Step, with_level_after
from latentbrush.diffusion.losses import Weighting, diffusion_loss, loss_weight, shifted_timesteps
from latentbrush.diffusion.noise import MAX_SEED, PictureNoise, picture_seeds
from latentbrush.diffusion.plan_config import PlanConfig
from latentbrush.diffusion.plans import SAMPLERS, Sampler, find_sampler, make_plan
from latentbrush.diffusion.samplers import (
    Consistency,
    Noise,
    OnStep,
    ddim,
    ddpm,
    deis,
    dpm2,
    dpmpp_2s_ancestral,
    dpmpp_multistep,
    dpmpp_sde,
    dpmpp_singlestep,
    heun,
    keep,
    lcm,
    lms,
    plms,
    pndm,
    posterior_variance,
    tcd,
    unipc,
)
from latentbrush.diffusion.schedule import BetaSchedule, Schedule
from latentbrush.diffusion.sigmas import SIGMA_PATHS, SigmaPath
from latentbrush.diffusion.spacing import Spacing

__all__ = [
    "CONDITION",
    "MAX_SEED",
    "SAMPLERS",
    "SIGMA_PATHS",
    "BetaSchedule",
    "Bound",
    "ClassifierFree",
    "Consistency",
    "Denoise",
    "Denoised",
    "Denoiser",
    "Guidance",
    "Level",
    "Limits",
    "Network",
    "Noise",
    "OnStep",
    "PictureNoise",
    "Plan",
    "PlanConfig",
    "Predict",
    "Prediction",
    "Rescaled",
    "Sampler",
    "Scalar",
    "Schedule",
    "SigmaPath",
    "Spacing",
    "Step",
    "Threshold",
    "Weighting",
    "above",
    "below",
    "bound_levels",
    "check_handover",
    "ddim",
    "ddpm",
    "deis",
    "diffusion_loss",
    "dpm2",
    "dpmpp_2s_ancestral",
    "dpmpp_multistep",
    "dpmpp_sde",
    "dpmpp_singlestep",
    "find_sampler",
    "guided",
    "heun",
    "interrupted",
    "keep",
    "lcm",
    "lms",
    "loss_weight",
    "make_plan",
    "picture_seeds",
    "plms",
    "pndm",
    "posterior_variance",
    "shifted_timesteps",
    "tcd",
    "unipc",
    "variational_bound",
    "with_level_after",
]
