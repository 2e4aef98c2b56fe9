"""A finished model is saved in half precision, and in float32 rather than not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_contrastive import contrastive_recipe
from tiny_world import autoencoder_recipe, text_to_image_recipe, text_to_image_values

from latentbrush.errors import UserError
from latentbrush.formats import load_clip, load_model
from latentbrush.training import ContrastiveStage, TextToImageStage, run_recipe
from latentbrush.training import text_to_image as stage_module

UNET = "unet/diffusion_pytorch_model.safetensors"


def types(path: Path) -> set[torch.dtype]:
    return {tensor.dtype for tensor in load_file(path).values()}


@pytest.fixture
def text_to_image(world: Path, first_stage: Path) -> TextToImageStage:
    return TextToImageStage(text_to_image_recipe(world, first_stage))


def test_half_precision_is_the_rule(text_to_image: TextToImageStage, tmp_path: Path) -> None:
    assert text_to_image.finish(tmp_path / "model") is None
    assert types(tmp_path / "model" / UNET) == {torch.float16}


def test_what_is_too_large_for_it_is_saved_in_float32(text_to_image: TextToImageStage, tmp_path: Path) -> None:
    text_to_image.model.unet.conv_in.weight.data[0, 0, 0, 0] = 1e6
    note = text_to_image.finish(tmp_path / "model")
    assert note == ("the finished model is saved as float32, twice the size: conv_in.weight is too large for float16")
    assert types(tmp_path / "model" / UNET) == {torch.float32}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert load_model(tmp_path / "model").unet.conv_in.weight[0, 0, 0, 0].item() == 1e6


def test_so_is_clip(world: Path, tmp_path: Path) -> None:
    stage = ContrastiveStage(contrastive_recipe(world))
    stage.network.text_projection.weight.data[0, 0] = -1e6
    assert "text_projection.weight is too large for float16" in str(stage.finish(tmp_path / "clip"))
    assert load_clip(tmp_path / "clip").network.text_projection.weight[0, 0].item() == -1e6


def test_what_is_not_finite_is_never_saved(text_to_image: TextToImageStage, tmp_path: Path) -> None:
    text_to_image.model.unet.conv_in.weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(UserError, match=r"conv_in\.weight is not finite and would spoil .*; save an earlier state"):
        text_to_image.finish(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_the_user_and_the_log_are_told(
    world: Path,
    first_stage: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import yaml

    from latentbrush.cli import main

    make: Callable[[Any], Any] = stage_module.UNet

    def large(config: Any) -> Any:
        network = make(config)
        network.conv_in.bias.data[0] = 1e6
        return network

    monkeypatch.setattr(stage_module, "UNet", large)
    values = text_to_image_values(world, first_stage, steps=1, optimiser={"lr": 1e-9}, ema=0.0)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(SystemExit) as caught:
        main(["train", str(tmp_path / "recipe.yaml"), "--run", str(tmp_path / "run")])
    out, err = capsys.readouterr()
    assert caught.value.code == 0
    assert err == (
        "latentbrush: the finished model is saved as float32, twice the size: conv_in.bias is too large for float16\n"
    )
    assert "the finished model is in" in out
    assert '"note": "the finished model is saved as float32' in (tmp_path / "run/log.jsonl").read_text()


def test_a_first_stage_has_nothing_to_tell(world: Path, tmp_path: Path) -> None:
    assert run_recipe(autoencoder_recipe(world, steps=1), tmp_path / "run") is None
