"""Who decodes what a model and its refiner painted: in the picture, and in its way from noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from latentbrush.cli.views import Views
from latentbrush.devices import OneAtATime
from latentbrush.errors import UserError
from latentbrush.model import LatentDiffusion
from latentbrush.nn import TinyAutoencoder, TinyConfig
from latentbrush.pipeline import decoding, plan_of, resolve, stream
from latentbrush.request import GuidanceRequest, ImageRequest, ModelRequest, Sampling, Stage

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
    with decoding(model, picture.request) as who:
        assert who is model


def test_else_who_painted_last(make_model: MakeModel, refiner: LatentDiffusion) -> None:
    model = make_model().refine_by(refiner)
    for stages, expected in ((REQUEST.stages, refiner), ((), model)):
        with decoding(model, REQUEST.model_copy(update={"stages": stages})) as who:
            assert who is expected


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


@pytest.mark.capability("low-memory")
@pytest.mark.parametrize("shown", [False, True])
def test_with_low_memory_one_network_of_both_is_on_the_device(
    make_model: MakeModel, refiner: LatentDiffusion, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shown: bool
) -> None:
    model = make_model().one_part_on("cpu").refine_by(refiner)
    waiting = [one._waiting for one in (model, refiner)]
    taken, take = [], OneAtATime.take

    def watched(self: OneAtATime, part: nn.Module) -> None:
        take(self, part)
        present = [one._present for one in waiting if one is not None and one._present is not None]
        assert len(present) == 1
        taken.extend(present)

    monkeypatch.setattr(OneAtATime, "take", watched)
    request = resolve(model, REQUEST.model_copy(update={"sampling": Sampling(seed=3, steps=4, count=2, batch_size=1)}))
    views = Views(plan_of(model, request), [tmp_path / "0.png", tmp_path / "1.png"], strip=shown)
    for picture in stream(model, request, views.watching(lambda x, *_: x)):
        views.save(model, picture.index, 0, picture.request)
    assert {id(part) for part in taken} >= {id(part) for part in (model.text, model.unet, refiner.unet)}
    assert any(part is refiner.autoencoder for part in taken)


@pytest.mark.capability("low-memory")
def test_a_refiner_goes_where_the_model_is(make_model: MakeModel) -> None:
    low = make_model().one_part_on("cpu").refine_by(make_model())
    assert low.refiner is not None
    assert low.refiner.is_low_memory
    usual = make_model().refine_by(make_model().one_part_on("cpu"))
    assert usual.refiner is not None
    assert not usual.refiner.is_low_memory
    elsewhere = make_model().to("meta").refine_by(make_model())
    assert elsewhere.refiner is not None
    assert elsewhere.refiner.device.type == "meta"


@pytest.mark.capability("one-line-errors")
def test_a_model_is_not_its_own_refiner(make_model: MakeModel) -> None:
    model = make_model()
    with pytest.raises(UserError, match="the refiner is the model itself"):
        model.refine_by(model)


@pytest.mark.capability("one-line-errors", "other-autoencoder", "tiny-autoencoder")
def test_a_picture_names_no_part_that_did_not_paint_it(
    make_model: MakeModel, refiner: LatentDiffusion, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    model = make_model().refine_by(refiner, "b").exchange_autoencoder(tiny(), "b").decode_fast(tiny())

    def served(stage: str, **named: str) -> ImageRequest:
        stages = (Stage(model=stage, handover=0.5),)
        return resolve(model, REQUEST.model_copy(update={"model": ModelRequest(**named), "stages": stages}))  # type: ignore[arg-type]

    for said, stage, named in (
        ("refiner is 'a', but the model was loaded with 'b'", "a", {}),
        ("vae is 'a', but the model was loaded with 'b'", "b", {"vae": "a"}),
        (r"fast_decoder is 'a', but the model was loaded with '\(in memory\)'", "b", {"fast_decoder": "a"}),
    ):
        with pytest.raises(UserError, match=said):
            served(stage, **named)
    for same in ("b", "./b", str(tmp_path / "b")):  # one place, by whichever name
        assert served(same, vae=same).model.vae == same
    assert (served("b").model.vae, served("b").model.fast_decoder) == ("b", "(in memory)")
