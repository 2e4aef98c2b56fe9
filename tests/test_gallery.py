"""The gallery's page names every prompt of its script, and its pictures are those of the shipped model."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scripts import ROOT, load_script

import latentbrush

pytestmark = pytest.mark.capability("gallery")

gallery = load_script("docs/gallery.py")
PICTURES = ROOT / "docs" / "pictures"


def test_the_page_shows_every_prompt() -> None:
    assert (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8") == gallery.page(), "run `python docs/gallery.py`"
    assert len({entry.file for entry in gallery.entries()}) == len(gallery.entries())
    assert {"a blue cat", "파란 하트와 안경"} <= {entry.prompt for entry in gallery.entries()}


def test_there_is_a_picture_a_prompt_and_no_other() -> None:
    assert {path.stem for path in PICTURES.glob("*.png")} == {entry.file for entry in gallery.entries()}


@pytest.mark.slow
def test_the_pictures_are_the_shipped_model_s() -> None:
    """Of two prompts; kernels of other machines round differently, so a byte may differ by a little."""
    model = latentbrush.load("emoji", device="cpu")
    for entry in (gallery.entries()[0], gallery.entries()[-1]):
        painted = np.asarray(gallery.strip(model, entry.prompt)).astype(int)
        with Image.open(PICTURES / f"{entry.file}.png") as shown:
            assert np.abs(painted - np.asarray(shown.convert("RGB")).astype(int)).max() <= 2, entry.prompt
