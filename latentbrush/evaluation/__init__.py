"""Metrics on pictures, and reports of them. Nothing here paints or trains."""

from latentbrush.evaluation.codebook import CodebookUsage, codebook_usage
from latentbrush.evaluation.composition import Originals, PartScore, composition_parts, score_part
from latentbrush.evaluation.fidelity import ms_ssim, psnr, ssim
from latentbrush.evaluation.frechet import frechet_distance
from latentbrush.evaluation.inception_score import inception_score
from latentbrush.evaluation.kernel import clip_mmd, kernel_distance, kid
from latentbrush.evaluation.manifold import Coverage, precision_recall
from latentbrush.evaluation.nearest import nearest_accuracy
from latentbrush.evaluation.retrieval import retrieval_accuracy
from latentbrush.evaluation.sheet import PaintedCell, SheetRow, contact_sheet
from latentbrush.evaluation.statistics import Moments, RunningMoments, moments

__all__ = [
    "CodebookUsage",
    "Coverage",
    "Moments",
    "Originals",
    "PaintedCell",
    "PartScore",
    "RunningMoments",
    "SheetRow",
    "clip_mmd",
    "codebook_usage",
    "composition_parts",
    "contact_sheet",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "kid",
    "moments",
    "ms_ssim",
    "nearest_accuracy",
    "precision_recall",
    "psnr",
    "retrieval_accuracy",
    "score_part",
    "ssim",
]
