"""What is wrong with one of a request's pictures is said of that picture."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from latentbrush import Canvas, ImageRequest
from latentbrush.errors import UserError
from latentbrush.request import Control, Start
from latentbrush.starts import pictures_of

pytestmark = pytest.mark.capability("one-line-errors")

GOOD, BAD = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("changes", "task", "said"),
    [
        ({"start": Start(image=BAD, strength=0.5)}, "text-to-image", "the start image"),
        ({"start": Start(image=BAD, mask=GOOD, strength=0.5)}, "text-to-image", "the start image"),
        ({"start": Start(image=GOOD, mask=BAD, strength=0.5)}, "text-to-image", "the mask"),
        ({"control": Control(image=BAD)}, "depth-to-image", "the control's picture"),
        ({"control": Control(image=BAD)}, "upscaling", "the control's picture"),
    ],
)
def test_pixels_of_no_known_range(changes: dict[str, Any], task: str, said: str) -> None:
    """32 bits a pixel, which no file gives a range."""
    images = {GOOD: Image.new("RGB", (16, 16), "white"), BAD: Image.new("F", (16, 16))}
    request = ImageRequest(prompt="a cat", canvas=Canvas(width=16, height=16), **changes)
    model: Any = SimpleNamespace(task=task)
    with pytest.raises(UserError, match=f"^{said} {BAD}: "):
        pictures_of(model, request, images)
