"""All that a request names, loaded by one function."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from latentbrush.errors import UserError
from latentbrush.formats import load_for, load_model, save_autoencoder, save_model, save_tiny_autoencoder
from latentbrush.model import LatentDiffusion
from latentbrush.nn import TinyAutoencoder, TinyConfig
from latentbrush.request import ImageRequest, ModelRequest, Stage

MakeModel = Callable[..., LatentDiffusion]


@pytest.fixture
def folders(make_model: MakeModel, tmp_path: Path) -> dict[str, Path]:
    """A model, an autoencoder and a tiny one for its latents; the model is its refiner, too."""
    model = make_model()
    save_model(model, tmp_path / "model")
    save_autoencoder(model.autoencoder, tmp_path / "vae")  # type: ignore[arg-type]
    save_tiny_autoencoder(TinyAutoencoder(TinyConfig(4, 4, (0, 1, 1), (1, 1, 0))), tmp_path / "tiny")
    return {name: tmp_path / name for name in ("model", "vae", "tiny")}


def naming(folders: dict[str, Path], **more: object) -> ImageRequest:
    named = {"name": str(folders["model"]), "vae": str(folders["vae"]), "fast_decoder": str(folders["tiny"]), **more}
    return ImageRequest(
        prompt="", model=ModelRequest.model_validate(named), stages=(Stage(model=str(folders["model"])),)
    )


@pytest.mark.capability("other-autoencoder", "tiny-autoencoder", "base-and-refiner", "low-memory")
@pytest.mark.parametrize("low_memory", [False, True])
def test_all_that_a_request_names_is_loaded(folders: dict[str, Path], low_memory: bool) -> None:
    request = naming(folders, prediction="v_prediction")
    model = load_for(request, device="cpu", dtype="float64", low_memory=low_memory, sampler="euler")
    assert model.exchanged is not None
    assert (model.exchanged.name, model.prediction) == (str(folders["vae"]), "v_prediction")
    assert model.decoder is model.fast_decoder is not None
    assert model.refiner is not None
    for one in (model, model.refiner):
        assert (one.sampler, one.is_low_memory, one.dtype) == ("euler", low_memory, torch.float64)
    model = load_for(request, sampler=("euler", None))
    assert model.refiner is not None
    assert (model.sampler, model.refiner.sampler) == ("euler", "ddim")


@pytest.mark.capability("safety-check", "one-line-errors")
def test_what_the_model_has_not_is_refused(folders: dict[str, Path]) -> None:
    for more, said in (
        ({"safety_check": True}, "has no safety_checker"),
        ({"weights": "raw"}, "is for single files"),
        ({"vae": "nowhere"}, "'nowhere' does not exist"),
        ({"fast_decoder": "nowhere"}, "'nowhere' is no folder"),
    ):
        with pytest.raises(UserError, match=said):
            load_for(naming(folders, **more))


def test_opening_leaves_the_search_for_garbage_as_it_was(tmp_path: Path) -> None:
    for collects in (True, False):
        (gc.enable if collects else gc.disable)()
        try:
            load_model("emoji", device="cpu")
            assert gc.isenabled() is collects
            with pytest.raises(UserError):
                load_model(tmp_path)
            assert gc.isenabled() is collects
        finally:
            gc.enable()
