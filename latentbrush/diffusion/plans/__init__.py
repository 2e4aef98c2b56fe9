"""Plans: the levels that a named, published scheduler visits in a number of steps, from noise or a guide.

Each builder takes the whole schedule and returns the whole plan, so that what depends on the number of
steps (the scale of the first x, the order of the last step) is decided in one place. The published
schedulers are diffusers'; where they differ in rounding, so do these.

`strength` in [0, 1] leaves out the first steps, as diffusers' image-to-image pipeline does: of n_steps the
last int(n_steps * strength) are run. All else is as it is without.
"""

from latentbrush.diffusion.plans.registry import SAMPLERS, Sampler, find_sampler, make_plan

__all__ = ["SAMPLERS", "Sampler", "find_sampler", "make_plan"]
