"""Metrics on pictures. Nothing here paints or trains."""

from latentbrush.evaluation.nearest import nearest_accuracy
from latentbrush.evaluation.retrieval import retrieval_accuracy

__all__ = ["nearest_accuracy", "retrieval_accuracy"]
