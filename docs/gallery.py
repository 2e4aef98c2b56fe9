"""Paint the fixed gallery with the shipped model: every prompt with seeds 0 to 5, none left out.

python docs/gallery.py --out out/gallery

writes a picture a prompt; without --out it renews docs/gallery.md and docs/pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

from PIL import Image

import latentbrush
from latentbrush.model import LatentDiffusion

HERE = Path(__file__).parent
SEEDS = 6
ENLARGED, GAP = 3, 6


class Entry(NamedTuple):
    """A prompt, the name of its picture, and what the model knew of it."""

    file: str
    prompt: str
    note: str


# Chosen before any was painted, and never changed for what comes out.
SECTIONS = {
    "Trained": (
        "The model saw these emoji with these names, or nearly these words.",
        [
            Entry("red-heart", "a red heart", 'the caption is "red heart"'),
            Entry("cat", "cat face", "trained"),
            Entry("pizza", "pizza", "trained"),
            Entry("korean-blue-heart", "파란색 하트", "blue heart; trained, in Korean"),
            Entry("wave", "waving hand: medium skin tone", "trained"),
            Entry("rocket", "rocket", "trained"),
            Entry("korean-house", "집", "house; trained, in Korean"),
            Entry("flag", "flag: South Korea", "trained"),
        ],
    ),
    "Held out": (
        "Combinations that were kept from training; each of their parts was there.",
        [
            Entry("artist", "woman artist: medium skin tone", "no woman artist of any skin tone was trained"),
            Entry("student", "man student: dark skin tone", "no man student of any skin tone was trained"),
            Entry("purple-heart", "purple heart", "this colour of heart was not trained"),
            Entry("korean-artist", "여자 화가: 갈색 피부", "the first of these, in Korean"),
        ],
    ),
    "Beyond the data": (
        "Words of the data, put together as no emoji is. What comes out is shown as it is.",
        [
            Entry("blue-cat", "a blue cat", "there is no blue cat"),
            Entry("korean-heart-glasses", "파란 하트와 안경", "a blue heart and glasses"),
            Entry("green-car", "green car", "there is no green car"),
            Entry("black-apple", "black apple", "there is no black apple"),
            Entry("cat-santa", "cat santa", "Santa is a person"),
            Entry("two-things", "pizza and rocket", "no emoji shows both"),
        ],
    ),
}


def entries() -> list[Entry]:
    return [entry for _, section in SECTIONS.values() for entry in section]


def page() -> str:
    """docs/gallery.md."""
    lines = [
        "# Gallery",
        "",
        "What the shipped model `emoji` paints, with its own defaults: every prompt with seeds 0 to 5, chosen before",
        "any was painted, none left out. `python docs/gallery.py` paints this page anew.",
    ]
    for title, (about, section) in SECTIONS.items():
        lines += ["", f"## {title}", "", about, "", "| prompt | seeds 0 to 5 | |", "|---|---|---|"]
        lines += [f"| {e.prompt} | ![six small pictures](pictures/{e.file}.png) | {e.note} |" for e in section]
    return "\n".join(lines) + "\n"


def strip(model: LatentDiffusion, prompt: str) -> Image.Image:
    """The pictures of one prompt in a row, each pixel enlarged to a square."""
    request = latentbrush.ImageRequest(prompt=prompt, sampling=latentbrush.Sampling(seed=0, count=SEEDS))
    images = [picture.image for picture in latentbrush.generate(model, request)]
    width, height = (ENLARGED * side for side in images[0].size)
    sheet = Image.new("RGB", (SEEDS * (width + GAP) - GAP, height), "white")
    for i, image in enumerate(images):
        sheet.paste(image.resize((width, height), Image.Resampling.NEAREST), (i * (width + GAP), 0))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, help="a folder for the pictures; the gallery itself if not said")
    out = parser.parse_args().out
    folder = HERE / "pictures" if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    model = latentbrush.load("emoji")
    for entry in entries():
        strip(model, entry.prompt).save(folder / f"{entry.file}.png", optimize=True)
    if out is None:
        (HERE / "gallery.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
