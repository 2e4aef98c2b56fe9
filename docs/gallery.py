"""Paint the README's pictures with the shipped model: every prompt with seeds 0 to 5, none left out.

python docs/gallery.py --out out/gallery
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

import latentbrush
from latentbrush.model import LatentDiffusion

# Chosen before the model was trained. The first four are in the data; the next three are combinations that were
# held out of training; the last three are beyond it.
PROMPTS = {
    "red-heart": "a red heart",
    "cat": "cat face",
    "pizza": "pizza",
    "korean-blue-heart": "파란색 하트",
    "artist": "woman artist: medium skin tone",
    "student": "man student: dark skin tone",
    "purple-heart": "purple heart",
    "blue-cat": "a blue cat",
    "korean-heart-glasses": "파란 하트와 안경",
    "green-car": "green car",
}
SEEDS = 6
ENLARGED, GAP = 3, 6


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
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "pictures")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    model = latentbrush.load("emoji")
    for name, prompt in PROMPTS.items():
        strip(model, prompt).save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
