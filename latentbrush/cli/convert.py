"""`latentbrush convert`: a model from one format to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latentbrush.cli.options import filename
from latentbrush.request import ModelRequest

__all__ = ["convert"]


def convert(
    source: Annotated[str, typer.Argument(help="A shipped model's name, a diffusers folder, or a single file.")],
    destination: Annotated[Path, typer.Argument(parser=filename, help="A new folder, or a .safetensors file.")],
    to: Annotated[str, typer.Option(help="diffusers or single-file.")],
    dtype: Annotated[str | None, typer.Option(help="float16, bfloat16 or float32; as they are by default.")] = None,
    weights: Annotated[str | None, typer.Option(help="ema or raw, of a single file that has both.")] = None,
    prediction: Annotated[str | None, typer.Option(help="epsilon, v_prediction or sample, whatever it says.")] = None,
    config: Annotated[
        Path | None, typer.Option(parser=filename, help="A folder whose settings describe a single file.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Write the model SOURCE as DESTINATION, a diffusers folder or a single file of Stability's layout.

    Every tensor keeps its numbers. Of what has no place there, or had to be assumed, a line is printed. SOURCE may
    be an autoencoder or a text tower alone, too.
    """
    chosen = ModelRequest.model_validate({"name": source, "prediction": prediction, "weights": weights})
    from latentbrush.cli.info import megabytes
    from latentbrush.formats import convert as write

    written = write(
        chosen.name,
        destination,
        to=to,
        dtype=dtype,
        weights=chosen.weights,
        prediction=chosen.prediction,
        config=config,
        overwrite=overwrite,
    )
    print(f"{written.path} ({written.tensors} tensors, {megabytes(written.size)})")
    for note in written.notes:
        print(f"- {note}")
