"""What `latentbrush evaluate` can measure, by name: each a record of figures, and something to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from latentbrush.diffusion import Denoised, Level
from latentbrush.errors import UserError
from latentbrush.evaluation.clip_extractor import CLIPExtractor
from latentbrush.evaluation.clip_score import CLIPScorer
from latentbrush.evaluation.gather import digest_of_prints, fingerprints
from latentbrush.evaluation.known import KnownStatistics
from latentbrush.evaluation.measurement import Figure, Measurement, PictureSource
from latentbrush.evaluation.metrics import METRICS
from latentbrush.evaluation.nearest import SHIFT
from latentbrush.evaluation.perceptual import perceptual_distance
from latentbrush.evaluation.sets import FolderPictures, PictureSet
from latentbrush.reporting import Item, Picture
from latentbrush.studies.composition import CompositionStudy
from latentbrush.studies.exhibits import bits_plot, nearest_pairs, pairs, score_extremes
from latentbrush.studies.likelihood import measure_bits
from latentbrush.studies.measuring import Evaluation, measurement, record, said_of
from latentbrush.studies.painted import PaintedPictures
from latentbrush.studies.rebuilt import RebuiltPictures, rebuild
from latentbrush.studies.scores import clip_score, memorised

__all__ = ["JOBS", "Further", "Outcome"]

BITS_STEPS = 50


@dataclass(frozen=True)
class Further:
    """What single jobs are told beside the evaluation. `lpips`: LPIPS' weights, of the backbone and of its linear
    layers; `bits_steps`: of the variational bound; `seeds`: paintings of a caption, for composition accuracy."""

    lpips: tuple[Path | None, Path | None] = (None, None)
    bits_steps: int | None = BITS_STEPS
    seeds: int = 1


@dataclass(frozen=True)
class Outcome:
    """`look()`: what a page shows of it beside the figures; drawn only if there is a page."""

    measurement: Measurement
    look: Callable[[], Sequence[Item]] = lambda: ()


Job = Callable[[Evaluation, Further], Outcome]


def _metric(name: str) -> Job:
    return lambda evaluation, further: Outcome(evaluation.measure(METRICS[name]))


def _cmmd(evaluation: Evaluation, further: Further) -> Outcome:
    _clip_of(evaluation, "CMMD")
    return Outcome(evaluation.measure(METRICS["cmmd"]))


def _clip_of(evaluation: Evaluation, what: str) -> CLIPExtractor:
    extractor = evaluation.extractor
    if not isinstance(extractor, CLIPExtractor):
        raise UserError(f"{what} needs a CLIP's embeddings, not {extractor.identity.name}'s; give one with --extractor")
    return extractor


def _clip_score(evaluation: Evaluation, further: Further) -> Outcome:
    scorer, pictures = CLIPScorer(_clip_of(evaluation, "the CLIP score")), evaluation.pictures
    captions = captions_of(pictures)
    figures, scores = clip_score(evaluation.painted, captions, scorer, evaluation.options.seed)
    settings = {"seed": evaluation.options.seed, "captions_cut": scores.cut}
    return Outcome(
        evaluation.measurement("clip-score", figures, None, settings),
        lambda: score_extremes(pictures, captions, scores.percent),
    )


def _memorisation(evaluation: Evaluation, further: Further) -> Outcome:
    train, held_out = evaluation.train, evaluation.held_out
    if train is None or held_out is None:
        raise UserError(
            "memorisation compares with held-out pictures, of which the data have none; give a folder with --held-out"
        )
    known, unknown = evaluation.gathered(train), evaluation.gathered(held_out)
    if known.digest == unknown.digest:
        raise UserError(f"{unknown.name} holds the very pictures of {known.name}; give ones that were not trained on")
    figures, found = memorised(evaluation.painted, known, unknown)
    settings = {"alpha": found.alpha, "held_out": unknown.digest}
    return Outcome(
        evaluation.measurement("memorisation", figures, known, settings),
        lambda: nearest_pairs(evaluation.pictures, train, found),
    )


def _reconstruction(evaluation: Evaluation, further: Further) -> Outcome:
    model, data = evaluation.model, evaluation.data
    if model is None or data is None or isinstance(data, KnownStatistics):
        raise UserError("reconstruction needs --model and --data: whose first stage, and of which pictures?")
    distance, rebuilt = perceptual_distance(*further.lpips, model.device), RebuiltPictures(model, data)
    found = rebuild(
        rebuilt, evaluation.extractor, distance, batch=evaluation.batch, on_part=evaluation.told(rebuilt.name)
    )
    seed = evaluation.options.seed
    settings = {"PSIM": distance.identity.name, "PSIM_digest": distance.identity.digest, "seed": seed}
    sets = (found.rebuilt, found.originals)
    return Outcome(
        measurement("reconstruction", found.figures(seed), sets, settings, evaluation.measured_model),
        lambda: pairs("original", data, "rebuilt", rebuilt),
    )


def _bits(evaluation: Evaluation, further: Further) -> Outcome:
    model, data = evaluation.model, evaluation.data
    if model is None or not isinstance(data, FolderPictures):
        raise UserError("bits per dimension need --model and --data: whose likelihood, and of which pictures?")
    seed = evaluation.options.seed
    found = measure_bits(
        model,
        data,
        said_of(model, data),
        steps=further.bits_steps,
        seed=seed,
        batch=evaluation.batch,
        on_call=evaluation.told("bits per dimension"),
    )
    settings = {"steps": further.bits_steps, "variance": "learned, else the fixed larger", "seed": seed}
    parts = range(0, len(data), evaluation.batch)
    source = _source(data.name, (data.read(i, min(i + evaluation.batch, len(data))) for i in parts))
    measured = record("bpd", found.figures(seed), (source, source), None, settings, evaluation.measured_model)
    return Outcome(measured, lambda: bits_plot(found))


def _composition(evaluation: Evaluation, further: Further) -> Outcome:
    model, folder, request = evaluation.model, evaluation.folder, None
    if model is None or folder is None:
        raise UserError("composition accuracy needs --model and --data, the emoji world")
    if isinstance(evaluation.pictures, PaintedPictures):
        request = evaluation.pictures.request
    study = CompositionStudy(model, folder, further.seeds, request)
    watch, calls = evaluation.told("composition"), iter(range(1, study.calls + 1))

    def on_step(x: Tensor, level: Level, denoised: Denoised) -> Tensor:
        watch(next(calls), study.calls)
        return x

    found = study.run(on_step)
    figures = {
        f"composition accuracy, {name.replace('_', ' ')}": Figure(
            value=score.right.accuracy, lower_is_better=False, interval=score.right.interval
        )
        for name, score in found.scores.items()
    }
    figures["composition accuracy, test, the autoencoder's ceiling"] = Figure(
        value=found.scores["test"].ceiling, lower_is_better=None
    )
    sources = (_source("paintings", [found.paintings_of]), _source(str(folder.directory), [study.originals.pictures]))
    settings = {"seeds": further.seeds, "shift": SHIFT}
    measured = record("composition", figures, sources, None, settings, found.to_json()["painted_by"])
    return Outcome(measured, lambda: [Picture(found.sheet("Composition"), "what is nearest to each painting")])


def _source(name: str, pictures: Iterable[Tensor]) -> PictureSource:
    """Of pictures that come in parts (b, 3, H, W), looked at by nobody."""
    prints: list[int] = []
    for part in pictures:
        prints += fingerprints(part).tolist()
        size = (part.shape[-2], part.shape[-1])
    return PictureSource(
        name=name, count=len(prints), distinct=len(set(prints)), size=size, digest=digest_of_prints(prints)
    )


def captions_of(pictures: PictureSet) -> Sequence[str | int | None]:
    """What each picture is said to be. UserError where nothing says it."""
    if isinstance(pictures, PaintedPictures):
        return pictures.said
    if isinstance(pictures, FolderPictures):
        captions = pictures.folder.captions
        return [captions[i] for i in pictures.indices]
    raise UserError(f"{pictures.name} has no captions; give a folder with a metadata.jsonl that has 'text'")


JOBS: Mapping[str, Job] = {
    **{name: _metric(name) for name in METRICS},
    "cmmd": _cmmd,
    "clip-score": _clip_score,
    "memorisation": _memorisation,
    "reconstruction": _reconstruction,
    "bpd": _bits,
    "composition": _composition,
}
