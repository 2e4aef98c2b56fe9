"""How far a first stage should compress: one diffusion model for each factor, by what its training has cost."""

from latentbrush.studies.compression.factors import FACTORS, parse_factors
from latentbrush.studies.compression.study import CompressionStudy

__all__ = ["FACTORS", "CompressionStudy", "parse_factors"]
