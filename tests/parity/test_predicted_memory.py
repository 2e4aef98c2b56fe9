"""The memory of painting is predicted for every kind of model, from the folders that diffusers writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_xl import tiny_xl_pipeline

from latentbrush.formats import outline_model
from latentbrush.viewing import painting_memory

pytestmark = pytest.mark.capability("predicted-memory")


@pytest.mark.parametrize("kind", ["base", "refiner", "inpainting"])
def test_stable_diffusion_xl(kind: str, tmp_path: Path) -> None:
    """With what is added to the time, two text towers or one, and further channels."""
    pipeline = tiny_xl_pipeline(kind)
    pipeline.save_pretrained(tmp_path / "xl")
    found = painting_memory(outline_model(tmp_path / "xl"), 32, 32, 2)
    parts = {"unet": [pipeline.unet], "vae": [pipeline.vae], "text": [pipeline.text_encoder, pipeline.text_encoder_2]}
    assert found.weights == {
        name: sum(4 * p.numel() for part in some if part is not None for p in part.parameters())
        for name, some in parts.items()
    }
    assert min(found.activations.values()) > 4 * 2 * 3 * 32 * 32
