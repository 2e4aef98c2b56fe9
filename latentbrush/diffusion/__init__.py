"""The mathematics of diffusion: levels, schedules, plans, samplers, guidance, losses. No network, no file.

The way through it: a `Schedule` is the table a model was trained with; `make_plan` says which levels a
sampler visits; a `Denoiser` reads a network's output, which `guided` conditions; the sampler's function
walks the plan; `PictureNoise` draws. Training asks `Schedule.level` and `diffusion_loss`.
"""

from latentbrush.diffusion.denoiser import Denoise, Denoised, Denoiser, Predict, Prediction
from latentbrush.diffusion.guidance import CONDITION, ClassifierFree, Guidance, Network, guided
from latentbrush.diffusion.level import Level, Plan, Scalar, Step, with_level_after
from latentbrush.diffusion.losses import Weighting, diffusion_loss, loss_weight, shifted_timesteps
from latentbrush.diffusion.noise import MAX_SEED, PictureNoise, picture_seeds
from latentbrush.diffusion.plan_config import PlanConfig
from latentbrush.diffusion.plans import (
    SAMPLERS,
    Sampler,
    ddim_plan,
    ddpm_plan,
    dpmpp_2m_plan,
    euler_ancestral_plan,
    euler_plan,
    find_sampler,
    heun_plan,
    make_plan,
)
from latentbrush.diffusion.samplers import Noise, OnStep, ddim, ddpm, dpmpp_2m, heun, keep, posterior_variance
from latentbrush.diffusion.schedule import BetaSchedule, Schedule
from latentbrush.diffusion.spacing import Spacing

__all__ = [
    "CONDITION",
    "MAX_SEED",
    "SAMPLERS",
    "BetaSchedule",
    "ClassifierFree",
    "Denoise",
    "Denoised",
    "Denoiser",
    "Guidance",
    "Level",
    "Network",
    "Noise",
    "OnStep",
    "PictureNoise",
    "Plan",
    "PlanConfig",
    "Predict",
    "Prediction",
    "Sampler",
    "Scalar",
    "Schedule",
    "Spacing",
    "Step",
    "Weighting",
    "ddim",
    "ddim_plan",
    "ddpm",
    "ddpm_plan",
    "diffusion_loss",
    "dpmpp_2m",
    "dpmpp_2m_plan",
    "euler_ancestral_plan",
    "euler_plan",
    "find_sampler",
    "guided",
    "heun",
    "heun_plan",
    "keep",
    "loss_weight",
    "make_plan",
    "picture_seeds",
    "posterior_variance",
    "shifted_timesteps",
    "with_level_after",
]
