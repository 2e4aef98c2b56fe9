"""Ways to break a model's folder, and to see that it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.formats import load_model

UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def fails(folder: Path, *parts: str) -> None:
    """Loading is a UserError of one line that has all these parts."""
    with pytest.raises(UserError) as caught:
        load_model(folder)
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def edit(path: Path, changes: dict[str, Any]) -> None:
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps(content))


def reweigh(path: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    state = {key: tensor.clone() for key, tensor in load_file(path).items()}
    change(state)
    save_file(state, path, metadata={"format": "pt"})
