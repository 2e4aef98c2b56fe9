"""What the measuring commands do once torch may be imported: open the sets, print and write what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from latentbrush.cli.tables import print_table
from latentbrush.data.folder import ImageFolder
from latentbrush.devices import choose_device
from latentbrush.evaluation.clip_extractor import CLIPExtractor
from latentbrush.evaluation.measurement import Measurement
from latentbrush.evaluation.metrics import MetricOptions
from latentbrush.evaluation.processes import Processes
from latentbrush.evaluation.sets import FolderPictures, PictureSet
from latentbrush.files import write_json
from latentbrush.formats import load_model, replaced_folder
from latentbrush.reporting import report_libraries
from latentbrush.studies.jobs import Outcome
from latentbrush.studies.measuring import Evaluation, captions_for
from latentbrush.studies.painted import PaintedPictures
from latentbrush.studies.report import evaluation_page, spoken_spread

if TYPE_CHECKING:
    from latentbrush.cli.measures import MeasureOptions

__all__ = ["evaluation_of", "report_folder", "tell", "write"]


def evaluation_of(options: MeasureOptions, team: Processes, on_part: Callable[[str, int, int], None]) -> Evaluation:
    """The sets that the options name, and what is to be known of them."""
    folder = None if options.data is None else ImageFolder.found(options.data)
    data = folder if folder is None or options.split is None else folder.select(options.split)
    device = choose_device(options.device)
    model = size = None
    if options.model is not None:
        model = load_model(options.model, sampler=options.sampler, device=options.device)
    pictures: PictureSet
    if options.images is not None:
        size = options.size
        pictures = FolderPictures(ImageFolder.found(options.images), size, options.count)
    else:
        assert model is not None
        assert data is not None
        painted = PaintedPictures(model, captions_for(model, data, options.count), options.seed, options.request())
        canvas = painted.request.canvas
        size = canvas.width if options.size is None and canvas.width == canvas.height else options.size
        pictures = painted
    train, held_out = _trained(folder, options)
    return Evaluation(
        pictures,
        None if data is None else FolderPictures(data, size),
        CLIPExtractor(options.extractor, device),
        MetricOptions(options.seed, options.subset, neighbours=options.neighbours, splits=options.splits),
        batch=options.batch_size,
        team=team,
        model=model,
        train=None if train is None else FolderPictures(train, size),
        held_out=None if held_out is None else FolderPictures(held_out, size),
        on_part=on_part,
    )


def _trained(folder: ImageFolder | None, options: MeasureOptions) -> tuple[ImageFolder | None, ImageFolder | None]:
    """What was trained on, and what was held out: by the data's splits, or as --held-out says."""
    if folder is None:
        return None, None
    if options.held_out is not None:
        return folder, ImageFolder.found(options.held_out)
    train, others = folder.divide("train")
    return train, others


def tell(found: Sequence[Measurement]) -> None:
    """A row a figure, and by what it was measured."""
    rows = [
        [name, f"{one.value:.4g}", spoken_spread(one), "lower" if one.lower_is_better else "higher"]
        for measurement in found
        for name, one in measurement.figures.items()
    ]
    print_table(rows, columns=("metric", "value", "spread", "better"), right=("value",))
    first = found[0]
    beside = "" if first.data is None else f" beside {first.data.count} of {first.data.name}"
    print(f"{first.pictures.count} pictures of {first.pictures.name}{beside}")
    told = first.extractor
    print(f"features: {told['name']} at {told['side']} pixels ({told['resize']}, {told['precision']})")


@contextmanager
def report_folder(options: MeasureOptions, team: Processes) -> Iterator[Path | None]:
    """A new folder that takes the place of --out when all is done; None where there is none, or others write.

    UserError at once for a folder that may not be replaced, and without the libraries for pages.
    """
    if options.out is None or not team.speaks:
        yield None
        return
    report_libraries()
    with replaced_folder(options.out, overwrite=options.overwrite, ours=("metrics.json",)) as new:
        yield new


def write(outcomes: Sequence[Outcome], notes: Sequence[str], evaluation: Evaluation, folder: Path) -> None:
    """metrics.json and index.html."""
    found = [outcome.measurement.model_dump(mode="json") for outcome in outcomes]
    write_json(folder / "metrics.json", {"measurements": found, "notes": list(notes)})
    evaluation_page(outcomes, notes, evaluation).save(folder / "index.html")
