"""`latentbrush reproduce`: paint a picture again, from what its file says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latentbrush.cli.compare import compared, lines_of
from latentbrush.cli.options import filename
from latentbrush.cli.photo import photo_in
from latentbrush.cli.progress import steps_bar
from latentbrush.cli.repaint import Wished, again, alike, check_size
from latentbrush.cli.shared import (
    AnimateOption,
    DeviceOption,
    DtypeOption,
    LowMemoryOption,
    NoMetadataOption,
    StripOption,
    print_left_out,
    print_notes,
)
from latentbrush.cli.tables import shown
from latentbrush.cli.told import check_further, told
from latentbrush.cli.views import Views, print_flagged

__all__ = ["reproduce"]


def reproduce(
    file: Annotated[
        Path, typer.Argument(parser=filename, help="A PNG painted here, or by a web UI that writes its parameters.")
    ],
    out: Annotated[
        Path | None, typer.Option(parser=filename, help="A PNG file or a folder; out/NAME-reproduced.png by default.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Instead of the model that FILE names; with all that FILE says.")
    ] = None,
    refiner: Annotated[str | None, typer.Option(help="Instead of the refiner that FILE names.")] = None,
    vae: Annotated[
        Path | None,
        typer.Option(parser=filename, help="Instead of the autoencoder, not the model's own, that it names."),
    ] = None,
    fast_decoder: Annotated[
        Path | None, typer.Option(parser=filename, help="Instead of the tiny autoencoder that it names.")
    ] = None,
    image: Annotated[Path | None, typer.Option(parser=filename, help="The picture that FILE was painted over.")] = None,
    mask: Annotated[Path | None, typer.Option(parser=filename, help="The mask under which FILE was painted.")] = None,
    control: Annotated[
        Path | None,
        typer.Option(parser=filename, help="The picture that the model read: to edit, to enlarge, or a depth map."),
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    low_memory: LowMemoryOption = False,
    strip: StripOption = False,
    animate: AnimateOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing picture.")] = False,
    large: Annotated[bool, typer.Option("--large", help="Paint very large pictures and batches, too.")] = False,
    no_metadata: NoMetadataOption = False,
) -> None:
    """Paint the picture in FILE again, from its own metadata.

    Says whether all pixels are the same, and what differs: weights, versions, machine. Of other programs'
    pictures it says what cannot be done as they tell; and on standard error, as all that paint, how a file was read
    that does not say all about itself. --dtype is for pictures that do not say theirs.
    """
    from latentbrush.formats import PictureRecord, check_writable, output_path, save_picture, texts_of
    from latentbrush.pipeline import plan_of, stream

    original, said = photo_in(file).image, told(file)
    start, read = (None if given is None else photo_in(given) for given in (image, control))
    cover = None if mask is None else photo_in(mask, "black")
    path = output_path(out, f"{file.stem[:50]}-reproduced")
    check_writable([path], overwrite=overwrite)
    if isinstance(said, PictureRecord):
        check_further(said.request.start.mask, cover, file, "mask")
        check_further(said.request.control.image, read, file, "control")
    decoders = [None if path is None else str(path) for path in (vae, fast_decoder)]
    wished = Wished(model, refiner, decoders[0], decoders[1], device, dtype, low_memory)
    task = again(said, file, wished, start) if isinstance(said, PictureRecord) else alike(said, file, wished, start)
    print_notes(task.model, task.request)
    if isinstance(said, PictureRecord):  # of another program's picture the notes say it
        print_left_out(task.model, task.request)
    if not large:
        check_size(task, file)
    plan, place = plan_of(task.model, task.request), task.index - task.batch.first
    views = Views(plan, [path], strip=strip, animate=animate)
    check_writable(views.paths, overwrite=overwrite)
    images = {photo.sha256: photo.image for photo in (start, cover, read) if photo is not None}
    with steps_bar(plan.calls) as on_step:
        picture = list(stream(task.model, task.request, views.watching(on_step), images, batches=[task.batch]))[place]
    record = picture.record(task.model)
    save_picture(picture.image, path, None if no_metadata else texts_of(task.model, record))
    same = compared(picture.image, original)
    print(f"{shown(str(path))} (seed {picture.seed}): {same} {shown(str(file))}")
    if picture.flagged:
        print_flagged(path)
    else:
        views.save(task.model, 0, place, picture.request)
    for line in lines_of(task.notes, said, record, same=picture.image.tobytes() == original.tobytes()):
        print(f"- {line}")
