"""What the bits of a picture buy: distortion against rate, of first stage, diffusion model and known codes."""

from latentbrush.studies.rate_distortion.study import RateDistortionStudy

__all__ = ["RateDistortionStudy"]
