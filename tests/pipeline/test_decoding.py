"""Who decodes what a model and its refiner painted: in the picture, and in its way from noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from latentbrush.cli.views import Views
from latentbrush.errors import UserError
from latentbrush.model import LatentDiffusion
from latentbrush.nn import TinyAutoencoder, TinyConfig
from latentbrush.pipeline import decoding, plan_of, resolve, stream
from latentbrush.request import GuidanceRequest, ImageRequest, Sampling, Stage

pytestmark = pytest.mark.capability("base-and-refiner")

MakeModel = Callable[..., LatentDiffusion]
REQUEST = ImageRequest(
    prompt="a red cat",
    sampling=Sampling(seed=3, steps=4),
    guidance=GuidanceRequest(weight=1),
    stages=(Stage(model="refiner", handover=0.5),),
)


def tiny() -> TinyAutoencoder:
    torch.manual_seed(1)
    return TinyAutoencoder(TinyConfig(4, 4, (0, 1, 1), (1, 1, 0)))


@pytest.fixture
def refiner(make_model: MakeModel) -> LatentDiffusion:
    """Its autoencoder makes brighter pictures than the model's."""
    made = make_model()
    bias = made.autoencoder.decoder.conv_out.bias  # type: ignore[union-attr]
    with torch.no_grad():
        bias += 0.5  # type: ignore[operator]
    return made


@pytest.mark.capability("tiny-autoencoder", "other-autoencoder")
@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("kind", ["fast decoder", "autoencoder"])
def test_what_the_model_was_given_decodes_in_whichever_order(
    make_model: MakeModel, refiner: LatentDiffusion, kind: str, order: str
) -> None:
    model, decoder = make_model(), tiny()
    if order == "after":
        model.refine_by(refiner)
    if kind == "fast decoder":
        model.decode_fast(decoder)
    else:
        model.exchange_autoencoder(decoder, "tiny")
    if order == "before":
        model.refine_by(refiner)
    seen: list[torch.Tensor] = []
    decoder.decoder.register_forward_hook(lambda *_: seen.append(torch.ones(())))
    (picture,) = stream(model, REQUEST)
    assert len(seen) == 1
    assert decoding(model, picture.request) is model


def test_else_who_painted_last(make_model: MakeModel, refiner: LatentDiffusion) -> None:
    model = make_model().refine_by(refiner)
    assert decoding(model, REQUEST) is refiner
    assert decoding(model, REQUEST.model_copy(update={"stages": ()})) is model
    assert decoding(make_model(), REQUEST.model_copy(update={"stages": ()})) is not refiner


@pytest.mark.capability("denoising-strip", "denoising-animation")
def test_the_way_from_noise_ends_with_the_picture(
    make_model: MakeModel, refiner: LatentDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from latentbrush import viewing

    shown: list[Image.Image] = []

    def strip(views: Sequence[viewing.View]) -> Image.Image:
        shown.extend(view.latents for view in views)
        return shown[-1]

    monkeypatch.setattr(viewing, "strip", strip)
    model = make_model().refine_by(refiner)
    request = resolve(model, REQUEST)
    views = Views(plan_of(model, request), [tmp_path / "x.png"], strip=True)
    (picture,) = stream(model, request, views.watching(lambda x, *_: x))
    views.save(model, 0, 0, picture.request)
    assert shown[-1].tobytes() == picture.image.tobytes()


@pytest.mark.capability("one-line-errors")
def test_a_refiner_with_a_decoder_that_pictures_would_not_name(make_model: MakeModel, refiner: LatentDiffusion) -> None:
    with pytest.raises(UserError, match="give that to the model instead"):
        make_model().refine_by(refiner.decode_fast(tiny()))
