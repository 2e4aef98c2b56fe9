"""`latentbrush diffuse`: the forward process on a picture, as one sheet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from latentbrush.cli.options import filename, whole
from latentbrush.cli.photo import photo_in
from latentbrush.cli.shared import DeviceOption, print_notes
from latentbrush.cli.tables import print_table, shown
from latentbrush.errors import UserError, short
from latentbrush.request import ImageRequest, ModelRequest, Sampling

__all__ = ["diffuse"]


def diffuse(
    image: Annotated[Path, typer.Argument(parser=filename, help="A picture; cut to cover the model's own size.")],
    model: Annotated[str, typer.Option(help="A shipped model's name, a diffusers folder, or a single file.")] = "emoji",
    prediction: Annotated[
        str | None, typer.Option(help="epsilon, v_prediction or sample, whatever the model says.")
    ] = None,
    prompt: Annotated[str, typer.Option(help="What the network is told of the picture.")] = "",
    label: Annotated[int | None, typer.Option(parser=whole, help="Or of which class it is, counted from 0.")] = None,
    seed: Annotated[int, typer.Option(parser=whole, help="Of the noise.")] = 0,
    levels: Annotated[int, typer.Option(parser=whole, help="Columns, from the clearest level to pure noise.")] = 8,
    device: DeviceOption = "auto",
    out: Annotated[
        Path | None, typer.Option(parser=filename, help="A PNG file; out/IMAGE-diffused.png by default.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing sheet.")] = False,
) -> None:
    """Put noise on IMAGE, level by level, and show what the network makes of it."""
    # Its values are bound to the same rules as those of a request to paint.
    chosen = ModelRequest.model_validate({"name": model, "prediction": prediction})
    request = ImageRequest(prompt=prompt, label=label, model=chosen, sampling=Sampling(seed=seed))
    path = _sheet_path(image, out)
    from latentbrush.formats import check_writable, cover, load_model
    from latentbrush.viewing import forward_process, forward_sheet, save_sheet

    photo = photo_in(image)
    check_writable([path], overwrite=overwrite)
    loaded = load_model(request.model.name, prediction=request.model.prediction, device=device)
    print_notes(loaded, request)
    defaults = loaded.defaults
    picture = cover(photo.image, defaults.width, defaults.height)
    process = forward_process(loaded, picture, prompt=prompt, label=label, seed=seed, levels=levels)
    if left_out := loaded.text.cut(prompt):
        print(f"latentbrush: the prompt is too long; left out: {short(left_out)}", file=sys.stderr)
    save_sheet(forward_sheet(loaded, process), path)
    print_table(
        (
            (
                *(str(level.t), f"{level.alpha:.3f}", f"{level.sigma:.3f}"),
                *(f"{level.noise_error:.3f}", f"{level.z0_error:.3f}", f"{level.loss:.3f}"),
            )
            for level in process.levels
        ),
        columns=(columns := ("t", "alpha", "sigma", "noise RMSE", "x0 RMSE", "output MSE")),
        right=columns,
    )
    print(shown(str(path)))


def _sheet_path(image: Path, out: Path | None) -> Path:
    path = Path("out") / f"{image.stem}-diffused.png" if out is None else out
    if path.suffix.lower() != ".png" and not path.is_dir():
        raise UserError(f"cannot write {path}: a sheet is a PNG file; name it {path.name}.png or the like")
    return path
