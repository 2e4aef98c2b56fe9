"""Pictures with what their files say of them, painted, changed, or by other programs; and painted again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from latentbrush.formats import (
    METADATA_KEY,
    load_model,
    load_photo,
    read_record,
    read_texts,
    save_picture,
    texts_of,
)
from latentbrush.pipeline import stream
from latentbrush.request import Canvas, GuidanceRequest, ImageRequest, ModelRequest, Sampling, Start


def request(model: Path, start: Start | None = None, **sampling: Any) -> ImageRequest:
    return ImageRequest(
        prompt="a red heart",
        model=ModelRequest(name=str(model)),
        canvas=Canvas(width=12, height=8),
        sampling=Sampling(**{"steps": 3, "seed": 5, **sampling}),
        guidance=GuidanceRequest(weight=7.5, negative="파란색"),
        start=start or Start(),
    )


def paint(wanted: ImageRequest, folder: Path, photo: Path | None = None, **options: Any) -> list[Path]:
    """As commands do, with what they have no option for."""
    model = load_model(wanted.model.name, **options)
    images = {} if photo is None else dict([load_photo(photo)])
    paths = []
    for picture in stream(model, wanted, images=images):
        paths.append(folder / f"x-{picture.index}.png")
        save_picture(picture.image, paths[-1], texts_of(model, picture.record(model)))
    return paths


def photo(path: Path) -> Path:
    Image.linear_gradient("L").resize((24, 16)).convert("RGB").save(path)
    return path


def again(run: Callable[..., Any], file: Path, *arguments: str | Path) -> Path:
    """Reproduced, identical to the pixel, and with the same record."""
    outcome = run("reproduce", file, "--overwrite", *arguments)
    out = Path("out") / f"{file.stem}-reproduced.png"
    seed = read_record(file).seed
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"{out} (seed {seed}): identical to {file}\n"
    with Image.open(file) as first, Image.open(out) as second:
        assert first.tobytes() == second.tobytes()
    assert read_texts(out) == read_texts(file)
    return out


def changed(file: Path, **changes: Any) -> Path:
    """The picture with another record."""
    texts = read_texts(file)
    record = {**json.loads(texts[METADATA_KEY]), **changes}
    with Image.open(file) as image:
        image.load()
        save_picture(image, file, {METADATA_KEY: json.dumps(record)})
    return file


def foreign(path: Path, key: str, text: str) -> Path:
    info = PngInfo()
    info.add_text(key, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path
