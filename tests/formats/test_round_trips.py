"""What is saved and read again is the same, to the last bit; what cannot be saved is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from latentbrush.diffusion import ClassifierFree, Level, Schedule
from latentbrush.errors import UserError
from latentbrush.formats import load_autoencoder, load_model, resolve_model, save_autoencoder, save_model, shipped
from latentbrush.formats.keys import AUTOENCODER, CLIP_TEXT, UNET, Names
from latentbrush.model import LatentDiffusion, ModelDefaults


def networks(model: LatentDiffusion) -> tuple[nn.Module, ...]:
    return model.autoencoder, model.unet, model.text.encoder


@pytest.mark.capability("diffusers-folders")
def test_a_model_comes_back_whole(model: LatentDiffusion, saved: Path) -> None:
    again = load_model(saved)
    for first, second in zip(networks(model), networks(again), strict=True):
        assert first.config == second.config
        assert not second.training
        assert all(parameter.requires_grad for parameter in second.parameters())
        a, b = first.state_dict(), second.state_dict()
        assert list(a) == list(b)
        for name in a:
            assert torch.equal(a[name], b[name]), name
    assert again.schedule == model.schedule
    assert again.plan_config() == model.plan_config()
    assert (again.prediction, again.sampler, again.defaults) == ("epsilon", "ddim", model.defaults)
    first_text, second_text = model.text.tokenizer, again.text.tokenizer
    assert (first_text.vocab, first_text.max_length) == (second_text.vocab, second_text.max_length)


@pytest.mark.capability("diffusers-folders")
def test_saving_again_writes_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    save_model(load_model(saved), tmp_path / "again")
    files = sorted(path.relative_to(saved) for path in saved.rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file())
    assert len(files) == 13
    for file in files:
        assert (saved / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpmpp_2m"])
def test_schedules_and_samplers_come_back(sampler: str, model: LatentDiffusion, tmp_path: Path) -> None:
    for i, schedule in enumerate(
        [
            Schedule("linear", 0.0001, 0.02, 500),
            Schedule(rescale_zero_snr=True),
            Schedule(num_train_timesteps=4, trained_betas=(0.1, 0.2, 0.3, 0.4)),
        ]
    ):
        other = LatentDiffusion(
            *(model.autoencoder, model.unet, model.text),
            schedule=schedule,
            prediction="v_prediction",
            sampler=sampler,
            plan_options={"spacing": "linspace", "solver_order": 1, "final_sigmas_type": "sigma_min"},
        )
        save_model(other, tmp_path / str(i))
        again = load_model(tmp_path / str(i))
        assert (again.schedule, again.prediction, again.sampler) == (schedule, "v_prediction", sampler)
        used = {"ddim": ("set_alpha_to_one",), "euler": ("final_sigmas_type",)}
        for key in ("spacing", *used.get(sampler, ("solver_order", "final_sigmas_type"))):
            assert getattr(again.plan_config(), key) == getattr(other.plan_config(), key)
        steps = min(50, schedule.num_train_timesteps)
        assert again.defaults == ModelDefaults(steps=steps, guidance=7.5, width=16, height=16)


def test_without_our_file_the_defaults_are_the_pipelines(folder: Path) -> None:
    (folder / "latentbrush.json").unlink()
    assert load_model(folder).defaults == ModelDefaults(steps=50, guidance=7.5, width=16, height=16)


@pytest.mark.capability("half-precision-files")
def test_types_on_loading_and_saving(model: LatentDiffusion, saved: Path, tmp_path: Path) -> None:
    save_model(model, tmp_path / "halves", dtype=torch.float16)
    size = "unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "halves" / size).stat().st_size < 0.7 * (saved / size).stat().st_size
    halves, doubles = load_model(tmp_path / "halves"), load_model(saved, dtype=torch.float64)
    assert halves.dtype == torch.float32
    assert doubles.dtype == torch.float64
    for mine, half, double in zip(*(m.unet.parameters() for m in (model, halves, doubles)), strict=True):
        assert torch.equal(mine.half().float(), half)
        assert torch.equal(mine.double(), double)
    config = json.loads((tmp_path / "halves" / "text_encoder" / "config.json").read_text())
    assert config["dtype"] == "float32"


def test_an_autoencoder_alone_and_out_of_a_model(model: LatentDiffusion, saved: Path, tmp_path: Path) -> None:
    save_autoencoder(model.autoencoder, tmp_path / "alone")
    for directory in (tmp_path / "alone", saved, saved / "vae"):
        again = load_autoencoder(directory)
        for mine, yours in zip(model.autoencoder.parameters(), again.parameters(), strict=True):
            assert torch.equal(mine, yours)


@pytest.mark.capability("diffusers-folders")
def test_numbers_that_a_file_cannot_hold_are_refused(model: LatentDiffusion, tmp_path: Path) -> None:
    with torch.no_grad():
        before = model.unet.conv_in.bias[0].clone()
        try:
            model.unet.conv_in.bias[0] = 1e5
            with pytest.raises(UserError, match=r"conv_in\.bias is too large for float16"):
                save_model(model, tmp_path / "large", dtype=torch.float16)
            model.unet.conv_in.bias[0] = float("nan")
            with pytest.raises(UserError, match=r"conv_in\.bias is not finite"):
                save_model(model, tmp_path / "nan")
        finally:
            model.unet.conv_in.bias[0] = before
    assert not list(tmp_path.iterdir())  # nor a temporary folder


def test_nothing_is_replaced_unasked(model: LatentDiffusion, tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    save_model(model, target)  # an empty folder is no loss
    with pytest.raises(UserError, match=r"is not empty; .*overwrite"):
        save_model(model, target)
    (target / "note.txt").write_text("mine")
    save_model(model, target, overwrite=True)
    assert not (target / "note.txt").exists()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match=r"holds no model_index.json"):
        save_model(model, tmp_path / "home", overwrite=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "home")
    for name in ("file", "link"):
        with pytest.raises(UserError, match="is a file or a link"):
            save_model(model, tmp_path / name, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "home", "link", "model"]


def test_a_model_may_be_saved_over_itself(folder: Path) -> None:
    """Its weights are still mapped from the files that are replaced."""
    model = load_model(folder)
    before = {name: tensor.clone() for name, tensor in model.unet.state_dict().items()}
    save_model(model, folder, overwrite=True)
    for name, tensor in load_model(folder).unet.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert torch.equal(model.unet.state_dict()[name], before[name])


def test_a_plan_that_diffusers_would_not_keep_is_refused(model: LatentDiffusion, tmp_path: Path) -> None:
    options = {"spacing": "leading", "steps_offset": 0}
    other = LatentDiffusion(model.autoencoder, model.unet, model.text, plan_options=options)
    with pytest.raises(UserError, match="steps_offset 0 cannot be saved"):
        save_model(other, tmp_path / "model")


@pytest.mark.parametrize("names", [UNET, AUTOENCODER, CLIP_TEXT])
def test_names_go_both_ways(names: Names, model: LatentDiffusion) -> None:
    network = {id(UNET): model.unet, id(AUTOENCODER): model.autoencoder}.get(id(names), model.text.encoder)
    keys = [names.theirs(name) for name in network.state_dict()]
    assert [names.ours(key) for key in keys] == list(network.state_dict())
    assert len(set(keys)) == len(keys)
    assert keys != list(network.state_dict())


def test_shipped_models_have_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "MODELS", folder.parent)
    assert shipped.shipped_models() == {"model": folder}
    assert resolve_model("model") == folder
    assert resolve_model(folder) == folder
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=r"'emoij' does not exist; .* shipped model \(model\)"):
        resolve_model("emoij")
    with pytest.raises(UserError, match="is a file, not a folder"):
        resolve_model("model_index.json")
    assert resolve_model("./unet") == Path("unet")


def test_a_model_gives_denoisers(model: LatentDiffusion) -> None:
    with torch.no_grad():
        condition, empty = model.text(["a cat"]), model.text([""])
        x = torch.randn(1, *model.latent_shape(16, 24))
        assert x.shape == (1, 4, 12, 8)
        level = Level(0.6, 0.8, 500.0)
        plain = model.denoiser(condition)(x, level)
        guided = model.denoiser(condition, [ClassifierFree(empty, 3.0)])(x, level)
        raw = model.unet(x, torch.tensor([500.0]), condition)
        other = model.unet(x, torch.tensor([500.0]), empty)
    assert torch.allclose(plain.eps, raw)
    assert torch.allclose(guided.eps, other + 3.0 * (raw - other), atol=1e-5)  # a batch of two rounds otherwise
    assert (model.factor, model.dtype, model.device.type) == (2, torch.float32, "cpu")
    assert model.plan_config().eta == 0.5
    assert model.plan_config("euler").eta == 0
    with pytest.raises(UserError, match="size 15x24 does not fit: both sides must be multiples of 2 pixels"):
        model.latent_shape(15, 24)
    with pytest.raises(UserError, match="sampler 'plsm' is unknown"):
        model.plan_config("plsm")
