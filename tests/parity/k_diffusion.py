"""Where k-diffusion's own samplers end, for tests to compare with: made with k-diffusion 0.1.1.post1 and scipy.

The package wants others that the tests do not have (torchvision, clip, torchsde, ...), so it is none of theirs: this
file writes k_diffusion.json beside itself from the package's unpacked wheel.

    python tests/parity/k_diffusion.py UNPACKED_WHEEL
"""

import importlib
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import torch
from published import Motion, network

from latentbrush.diffusion import SAMPLERS, Schedule, make_plan

SHAPE = (1, 2, 3, 2)
STEPS, SEED = 9, 4
PATHS = Path(__file__).with_suffix(".json")
# ours -> theirs, with its options
NAMES = {
    "lms": ("sample_lms", {}),
    "dpm2": ("sample_dpm_2", {}),
    "heun": ("sample_heun", {}),
    "euler": ("sample_euler", {}),
    "euler_ancestral": ("sample_euler_ancestral", {}),
    "dpm2_ancestral": ("sample_dpm_2_ancestral", {}),
    "dpmpp_2m": ("sample_dpmpp_2m", {}),
    "dpmpp_2s_ancestral": ("sample_dpmpp_2s_ancestral", {}),
    "dpmpp_sde": ("sample_dpmpp_sde", {}),
    "dpmpp_2m_sde": ("sample_dpmpp_2m_sde", {}),
    "dpmpp_3m_sde": ("sample_dpmpp_3m_sde", {}),
}


def eps(x, ratio):
    """The tests' network on x of unit variance, told log(sigma / alpha) instead of a time."""
    return network(x, 100 * math.log(ratio))


def start(sigma):
    generator = torch.Generator().manual_seed(SEED)
    return torch.randn(SHAPE, generator=generator, dtype=torch.float64) * math.sqrt(sigma**2 + 1), generator


def sigmas_of(name):
    plan = make_plan(name, Schedule(), STEPS, SAMPLERS[name].defaults)
    return [float(step.now.sigma / step.now.alpha) for step in plan.steps] + [0.0]


def main(wheel):
    package, utils = ModuleType("k_diffusion"), ModuleType("k_diffusion.utils")
    package.__path__ = [str(Path(wheel) / "k_diffusion")]
    utils.append_dims = lambda x, dims: x[(...,) + (None,) * (dims - x.ndim)]
    package.utils = utils
    torchdiffeq, torchsde = ModuleType("torchdiffeq"), ModuleType("torchsde")
    torchdiffeq.odeint = None
    names = {"k_diffusion": package, "k_diffusion.utils": utils, "torchdiffeq": torchdiffeq, "torchsde": torchsde}
    sys.modules.update(names)
    sampling = importlib.import_module("k_diffusion.sampling")

    def model(x, sigma):
        ratio = float(sigma[0])
        return x - ratio * eps(x / math.sqrt(ratio**2 + 1), ratio)

    ends = {}
    for name, (function, options) in NAMES.items():
        sigmas = torch.tensor(sigmas_of(name), dtype=torch.float64)
        x, generator = start(float(sigmas[0]))
        if name == "dpmpp_sde":
            options = {"noise_sampler": Motion([generator], SHAPE[1:])}
        elif SAMPLERS[name].draws:

            def draw(high, low, generator=generator):
                return torch.randn(SHAPE, generator=generator, dtype=torch.float64)

            options = {**options, "noise_sampler": draw}
        end = getattr(sampling, function)(model, x, sigmas, disable=True, **options)
        ends[name] = end.flatten().tolist()
    PATHS.write_text(json.dumps(ends, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
