"""Metrics on pictures, and reports of them. Nothing here paints or trains."""

from latentbrush.evaluation.composition import Originals, PartScore, composition_parts, score_part
from latentbrush.evaluation.nearest import nearest_accuracy
from latentbrush.evaluation.retrieval import retrieval_accuracy
from latentbrush.evaluation.sheet import PaintedCell, SheetRow, contact_sheet

__all__ = [
    "Originals",
    "PaintedCell",
    "PartScore",
    "SheetRow",
    "composition_parts",
    "contact_sheet",
    "nearest_accuracy",
    "retrieval_accuracy",
    "score_part",
]
