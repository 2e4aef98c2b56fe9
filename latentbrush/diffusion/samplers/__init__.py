"""Samplers: plain functions from noise to a picture. They see neither prompt, nor model, nor device.

Every one takes `(denoise, x, steps, noise, on_step, **options)`:
`x`: (B, c, h, w), unit noise times the plan's `start_scale`;
`steps`: of a `Plan`, as are the options;
`noise()`: a fresh unit Gaussian draw shaped like x, called only where the step's variance is not zero;
`on_step(x, level, denoised) -> x`: called after every network call with the new x, the level at which x is
read next (the finished level at the end) and what the network said; what it returns goes on.
"""

from latentbrush.diffusion.samplers.adams import deis, lms, plms, pndm
from latentbrush.diffusion.samplers.consistency import Consistency, lcm, tcd
from latentbrush.diffusion.samplers.contract import Noise, OnStep, keep, posterior_variance
from latentbrush.diffusion.samplers.dpmpp import SolverType, dpmpp_multistep, dpmpp_singlestep
from latentbrush.diffusion.samplers.first_order import Variance, ddim, ddpm
from latentbrush.diffusion.samplers.two_stage import dpm2, dpmpp_2s_ancestral, dpmpp_sde, heun
from latentbrush.diffusion.samplers.unipc import UniPCVariant, unipc

__all__ = [
    "Consistency",
    "Noise",
    "OnStep",
    "SolverType",
    "UniPCVariant",
    "Variance",
    "ddim",
    "ddpm",
    "deis",
    "dpm2",
    "dpmpp_2s_ancestral",
    "dpmpp_multistep",
    "dpmpp_sde",
    "dpmpp_singlestep",
    "heun",
    "keep",
    "lcm",
    "lms",
    "plms",
    "pndm",
    "posterior_variance",
    "tcd",
    "unipc",
]
