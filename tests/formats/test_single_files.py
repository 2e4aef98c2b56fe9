"""Single files: read, converted both ways, and strict about every tensor that they hold."""

from __future__ import annotations

import collections
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from latentbrush.diffusion import Schedule
from latentbrush.errors import UserError
from latentbrush.formats import convert, load_model, load_tokenizer, save_model, summarise
from latentbrush.formats.compvis import ema_key
from latentbrush.formats.folder import networks_of
from latentbrush.formats.settings import METADATA
from latentbrush.model import LatentDiffusion
from latentbrush.origin import Origin

pytestmark = pytest.mark.capability("single-file")

UNET = "model.diffusion_model."
FIRST = f"{UNET}input_blocks.0.0.weight"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def header(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def same(first: LatentDiffusion, second: LatentDiffusion) -> bool:
    ours, theirs = ({p: n.state_dict() for p, n in networks_of(m).items()} for m in (first, second))
    return ours.keys() == theirs.keys() and all(
        list(ours[part]) == list(theirs[part]) and all(torch.equal(t, theirs[part][k]) for k, t in ours[part].items())
        for part in ours
    )


@pytest.fixture(scope="session")
def whole(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("single") / "model.safetensors"
    convert(saved, path, to="single-file")
    return path


Spoil = Callable[..., Path]


@pytest.fixture
def spoilt(whole: Path, tmp_path: Path) -> Spoil:
    """The file with other tensors (None for without), saved as safetensors or by torch.save, by its suffix."""

    def spoil(changes: dict[str, Tensor | None], name: str = "spoilt.safetensors", **beside: Any) -> Path:
        state = {key: value for key, value in (load_file(whole) | changes).items() if value is not None}
        path = tmp_path / name
        if name.endswith(".safetensors"):
            save_file(state, path, metadata=header(whole))
        else:
            torch.save({"state_dict": collections.OrderedDict(state), **beside} if beside else state, path)
        return path

    return spoil


def test_folder_and_file_go_both_ways_byte_for_byte(saved: Path, whole: Path, tmp_path: Path) -> None:
    convert(whole, tmp_path / "again", to="diffusers")
    assert contents(tmp_path / "again") == contents(saved)
    convert(tmp_path / "again", tmp_path / "again.safetensors", to="single-file")
    assert (tmp_path / "again.safetensors").read_bytes() == whole.read_bytes()


def test_a_file_is_the_model_of_its_folder(model: LatentDiffusion, whole: Path) -> None:
    loaded = load_model(whole)
    assert same(loaded, model)
    assert (loaded.sampler, loaded.plan_config(), loaded.defaults) == ("ddim", model.plan_config(), model.defaults)
    assert loaded.text.tokenizer.vocab == model.text.tokenizer.vocab == load_tokenizer(whole).vocab
    assert loaded.origin is not None
    assert "prediction epsilon; schedule scaled_linear, 1000 steps; sampler ddim; raw weights" in loaded.origin.note
    assert list(loaded.origin.weights) == ["model.safetensors"]


def test_what_a_file_holds_is_told(saved: Path, whole: Path) -> None:
    told, folder = summarise(whole), summarise(saved)
    assert told.parameters == folder.parameters
    assert told.size == whole.stat().st_size
    assert sum(part.size for part in told.parts) == 4 * told.parameters
    assert "header" in told.told
    assert folder.told == ""


@pytest.mark.parametrize("wrapped", [True, False])
def test_files_of_torch_save(wrapped: bool, model: LatentDiffusion, saved: Path, spoilt: Spoil) -> None:
    beside = {"epoch": 3, "global_step": 470000, "callbacks": {}, "optimizer_states": [{"lr": 1e-4}]} if wrapped else {}
    assert same(load_model(spoilt({}, "model.ckpt", **beside), config=saved), model)


def test_content_decides_not_the_name(model: LatentDiffusion, whole: Path, saved: Path, tmp_path: Path) -> None:
    shutil.copy(whole, tmp_path / "model.ckpt")
    assert same(load_model(tmp_path / "model.ckpt"), model)
    torch.save(load_file(whole), tmp_path / "model.safetensors")
    assert same(load_model(tmp_path / "model.safetensors", config=saved), model)


def averages(whole: Path) -> dict[str, Tensor | None]:
    """Other numbers under the names of moving averages."""
    return {ema_key(key): tensor + 1 for key, tensor in load_file(whole).items() if key.startswith(UNET)}


def test_moving_averages_are_the_model_unless_raw_weights_are_asked_for(whole: Path, spoilt: Spoil) -> None:
    counters = {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(3)}
    path = spoilt({**averages(whole), **counters})
    raw = load_file(whole)[FIRST]
    assert torch.equal(load_model(path).unet.conv_in.weight, raw + 1)
    assert torch.equal(load_model(path, weights="ema").unet.conv_in.weight, raw + 1)
    assert torch.equal(load_model(path, weights="raw").unet.conv_in.weight, raw)
    with pytest.raises(UserError, match="weights 'best' is unknown; choose ema or raw"):
        load_model(path, weights="best")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no moving averages of the UNet; leave out --weights or choose raw"):
        load_model(whole, weights="ema")


def test_averages_alone(whole: Path, spoilt: Spoil, tmp_path: Path) -> None:
    path = spoilt({**dict.fromkeys(key for key in load_file(whole) if key.startswith(UNET)), **averages(whole)})
    assert torch.equal(load_model(path).unet.conv_in.weight, load_file(whole)[FIRST] + 1)
    with pytest.raises(UserError, match="no raw weights of the UNet"):
        load_model(path, weights="raw")
    written = convert(path, tmp_path / "new.safetensors", to="single-file")
    assert torch.equal(load_file(written.path)[FIRST], load_file(whole)[FIRST] + 1)


def test_half_precision_stays_and_is_made(whole: Path, tmp_path: Path) -> None:
    half = convert(whole, tmp_path / "half.safetensors", to="single-file", dtype="float16").path
    assert {t.dtype for t in load_file(half).values()} == {torch.float16}
    assert load_model(half).dtype == torch.float32
    convert(half, tmp_path / "folder", to="diffusers")
    unet = load_file(tmp_path / "folder" / "unet" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(unet["conv_in.weight"], load_file(whole)[FIRST].half())
    assert json.loads((tmp_path / "folder/text_encoder/config.json").read_text())["dtype"] == "float32"
    assert half.stat().st_size < whole.stat().st_size


def test_what_is_known_to_lie_beside_is_passed_over(model: LatentDiffusion, whole: Path, spoilt: Spoil) -> None:
    extra: dict[str, Tensor | None] = {
        "alphas_cumprod": Schedule().alphas_cumprod.half(),
        "betas": torch.zeros(1000),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(8)[None],
        "first_stage_model.loss.logvar": torch.zeros(()),
    }
    assert same(load_model(spoilt(extra)), model)


def test_text_keys_without_their_segment(model: LatentDiffusion, whole: Path, spoilt: Spoil) -> None:
    old = {key: tensor for key, tensor in load_file(whole).items() if ".text_model." in key}
    new = {key.replace(".text_model.", "."): tensor for key, tensor in old.items()}
    assert same(load_model(spoilt({**dict.fromkeys(old), **new})), model)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.diffusion_model.novelty": torch.zeros(1)}, "holds 1 tensor: model.diffusion_model.novelty, unknown"),
        ({FIRST: None}, f"lacks 1 tensor: {FIRST}"),
        ({FIRST: torch.zeros(8, 5, 3, 3)}, r"input_blocks.0.0.weight \[8, 5, 3, 3\] instead of \[8, 4, 3, 3\]"),
        ({FIRST: torch.zeros(8, 4, 3, 3, dtype=torch.int64)}, "input_blocks.0.0.weight I64; weights must be one of"),
        ({FIRST: torch.full((8, 4, 3, 3), torch.nan)}, "input_blocks.0.0.weight holds numbers that are not finite"),
        ({"alphas_cumprod": torch.linspace(1, 0, 1000)}, "trained with another noise schedule"),
        ({"alphas_cumprod": torch.zeros(0)}, "trained with another noise schedule"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Tensor], said: str, spoilt: Spoil, tmp_path: Path) -> None:
    path = spoilt(changes)
    with pytest.raises(UserError, match=said) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    if "alphas_cumprod" not in changes:
        with pytest.raises(UserError, match=said):
            convert(path, tmp_path / "out", to="diffusers")
        assert not (tmp_path / "out").exists()


def test_too_large_for_half_precision(spoilt: Spoil, tmp_path: Path) -> None:
    path = spoilt({FIRST: torch.full((8, 4, 3, 3), 1e6)})
    with pytest.raises(UserError, match="too large for float16"):
        load_model(path, dtype="float16")
    for to, name in (("diffusers", "folder"), ("single-file", "file.safetensors")):
        with pytest.raises(UserError, match="too large for float16"):
            convert(path, tmp_path / name, to=to, dtype="float16")
    assert [entry.name for entry in tmp_path.iterdir()] == ["spoilt.safetensors"]


def test_what_is_chosen_wins(whole: Path, saved: Path, tmp_path: Path) -> None:
    assert load_model(whole).prediction == "epsilon"
    assert load_model(whole, prediction="v_prediction").prediction == "v_prediction"
    assert load_model(saved, prediction="sample").prediction == "sample"
    written = convert(whole, tmp_path / "v.safetensors", to="single-file", prediction="v_prediction")
    assert load_model(written.path).prediction == "v_prediction"
    for call in (load_model, summarise):
        with pytest.raises(UserError, match="prediction 'velocity' is unknown; choose one of epsilon"):
            call(whole, prediction="velocity")
    for option in ("weights", "config"):
        with pytest.raises(UserError, match=f"the option {option} is for single files"):
            load_model(saved, **{option: "ema"})


def test_other_parts_of_a_folder(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "model"))
    index = json.loads((folder / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker" / "config.json").write_text("{}")
    convert(folder, tmp_path / "copy", to="diffusers")
    assert contents(tmp_path / "copy") == contents(folder)
    notes = convert(folder, tmp_path / "one.safetensors", to="single-file").notes
    assert notes == ("safety_checker has no place in a single file and was left out",)


def test_destinations_that_are_refused(whole: Path, saved: Path, tmp_path: Path) -> None:
    there = tmp_path / "there.safetensors"
    there.write_text("mine")
    for target, to, said in [
        (tmp_path / "model.ckpt", "single-file", "does not end with .safetensors"),
        (there, "single-file", "is there already"),
        (tmp_path / "no" / "a.safetensors", "single-file", "does not exist; make the folder first"),
        (there, "diffusers", "is a file or a link"),
        (tmp_path / "x", "onnx", "format 'onnx' is unknown"),
    ]:
        with pytest.raises(UserError, match=said):
            convert(whole, target, to=to)
    with pytest.raises(UserError, match="dtype 'int8' is unknown"):
        convert(whole, tmp_path / "x", to="diffusers", dtype="int8")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("there.safetensors", "mine")]
    convert(whole, there, to="single-file", overwrite=True)
    assert there.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("{", "cannot be read"),
        ("[1]", "no object of texts"),
        ('{"../evil.json": "{}"}', "'../evil.json', which is unknown"),
        ('{"model_index.json": "{}"}', "model_index.json"),
        ("{}", "model_index.json"),
        ('{"model_index.json": "\\ud800"}', "surrogates"),
    ],
)
def test_hostile_settings_in_a_header(settings: str, said: str, whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "hostile.safetensors"
    save_file(load_file(whole), path, metadata={METADATA: settings})
    with pytest.raises(UserError, match=said) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert "/latentbrush-" not in str(caught.value)  # the temporary folder says nothing to anybody


def test_a_saved_model_has_no_note(model: LatentDiffusion, saved: Path, tmp_path: Path) -> None:
    save_model(load_model(saved), tmp_path / "new")
    assert isinstance(load_model(tmp_path / "new").origin, Origin)
    assert load_model(tmp_path / "new").origin.note == ""  # type: ignore[union-attr]
