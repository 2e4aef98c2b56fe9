"""Whole experiments: what samples a model, measures the pictures, and draws the result."""

from latentbrush.studies.composition import Composition, CompositionStudy, Painting

__all__ = ["Composition", "CompositionStudy", "Painting"]
