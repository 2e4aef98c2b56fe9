"""`latentbrush info`: it says what loading the model would, without reading the weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from latentbrush.diffusion import Schedule
from latentbrush.formats import load_model, network, save_model, shipped_models

pytestmark = pytest.mark.capability("model-info")


def told(run: Callable[..., Any], *arguments: str | Path) -> Any:
    outcome = run("info", *arguments, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    return json.loads(outcome.out)


def test_it_agrees_with_the_loaded_model(run: Callable[..., Any], model_folder: Path) -> None:
    said, model = told(run, model_folder), load_model(model_folder)
    assert said["folder"] == str(model_folder)
    networks = {"unet": model.unet, "vae": model.autoencoder, "text_encoder": model.text.encoder}
    assert [part["name"] for part in said["parts"]] == list(networks)
    for part in said["parts"]:
        count = sum(parameter.numel() for parameter in networks[part["name"]].parameters())
        files = list((model_folder / part["name"]).glob("*.safetensors"))
        assert part["parameters"] == count
        assert part["files"] == [file.name for file in files]
        assert part["size"] == files[0].stat().st_size > 4 * count
        assert part["dtypes"] == ["float32"]
    assert said["parameters"] == sum(part["parameters"] for part in said["parts"])
    assert said["memory"] == {"float32": 4 * said["parameters"], "float16": 2 * said["parameters"]}
    assert said["prediction"] == "epsilon"
    assert said["schedule"] == {
        "kind": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "train_steps": 1000,
        "zero_terminal_snr": False,
    }
    assert said["sampler"] == {"name": "ddim", "spacing": "trailing", "eta": 0.0}
    assert said["defaults"] == {"steps": 3, "guidance": 2.0, "width": 8, "height": 8}
    assert said["tokens"] == {"vocabulary": model.text.tokenizer.vocab_size, "positions": 16, "context_width": 8}
    assert said["latents"] == {"channels": 4, "height": 4, "width": 4, "factor": 2}


def test_no_weights_are_read(run: Callable[..., Any], model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted(*_: Any) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(network, "load_weights", unwanted)
    assert run("info", model_folder).code == 0
    with pytest.raises(AssertionError, match="weights were read"):
        load_model(model_folder)


def test_the_table_is_for_people(run: Callable[..., Any], model_folder: Path) -> None:
    outcome = run("info", model_folder)
    assert (outcome.code, outcome.err) == (0, "")
    for words in ("unet", "text_encoder", "float32", "scaled_linear, 1000 steps", "ddim, trailing spacing", "f = 2"):
        assert words in outcome.out
    assert "3 steps, guidance 2, 8x8 pixels" in outcome.out
    assert "not quite pure noise" in outcome.out


def test_the_shipped_model_is_known_by_name(run: Callable[..., Any]) -> None:
    by_default, by_name = told(run), told(run, "emoji")
    assert by_default == by_name
    assert by_name["folder"] == str(shipped_models()["emoji"])
    assert by_name["parts"][0]["dtypes"] == ["float16"]
    assert by_name["schedule"]["zero_terminal_snr"]


def test_other_schedules_and_types(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    model = load_model(model_folder)
    for name, schedule in {
        "cosine": Schedule("squaredcos_cap_v2", rescale_zero_snr=True),
        "trained": Schedule(num_train_timesteps=3, trained_betas=(0.1, 0.2, 0.3)),
    }.items():
        model.schedule = schedule
        save_model(model, tmp_path / name, dtype=torch.float16)
    cosine, trained = told(run, "cosine"), told(run, "trained")
    assert (cosine["schedule"]["kind"], cosine["schedule"]["beta_start"]) == ("squaredcos_cap_v2", None)
    assert cosine["schedule"]["zero_terminal_snr"]
    assert {dtype for part in cosine["parts"] for dtype in part["dtypes"]} == {"float16"}
    assert (trained["schedule"]["kind"], trained["schedule"]["train_steps"]) == ("trained_betas", 3)
    assert "pure noise (zero terminal SNR)" in run("info", "cosine").out
    assert "trained_betas, 3 steps\n" in "\n".join(line.rstrip() for line in run("info", "trained").out.splitlines())


def test_another_sampler_can_be_asked_for(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    assert told(run, model_folder, "--sampler", "heun")["sampler"]["name"] == "heun"
    shutil.copytree(model_folder, tmp_path / "plms")
    index = tmp_path / "plms" / "model_index.json"
    index.write_text(index.read_text().replace("DDIMScheduler", "VQDiffusionScheduler"))
    outcome = run("info", "plms")
    assert outcome.code == 2
    assert "--sampler" in outcome.err
    assert told(run, "plms", "--sampler", "ddim")["sampler"]["name"] == "ddim"


@pytest.mark.capability("predicted-memory", "tiles")
def test_memory_with_tiles(run: Callable[..., Any], refused: Callable[..., str], model_folder: Path) -> None:
    """The tiny model's tiles are of 8 x 8 pixels; as many at once as are asked for, one at a time in tiles."""
    needed = {}
    for tiles in ("off", "on", "auto", None):
        more = [] if tiles is None else ["--tiles", tiles]
        costs = told(run, model_folder, "--memory", "--size", "64x64", "--batch-size", "4", *more)["painting"]
        needed[tiles] = costs["float32"]["activations"]["decoder"]
    assert needed["on"] < needed["off"]
    assert needed["auto"] == needed[None] == needed["off"]
    assert "--tiles tell of which painting to predict the memory; add --memory" in refused(
        "info", model_folder, "--tiles", "on"
    )
    assert "'decode' is unknown; choose auto, on or off" in refused(
        "info", model_folder, "--memory", "--tiles", "decode"
    )


def test_what_is_no_model(refused: Callable[..., str], model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no model")
    shutil.copytree(model_folder, tmp_path / "half")
    (tmp_path / "half" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    shutil.copytree(model_folder, tmp_path / "mixed")
    shutil.copy(
        tmp_path / "mixed" / "vae" / "diffusion_pytorch_model.safetensors",
        tmp_path / "mixed" / "unet" / "diffusion_pytorch_model.safetensors",
    )
    for name, said in {
        "no/model": "'no/model' does not exist",
        "empty": "no model_index.json",
        "file": "file is neither a safetensors file nor one of torch.save",
        "half": "diffusion_pytorch_model.safetensors is missing",
        "mixed": "that config.json asks for",
        "\udcff": r"\udcff",
    }.items():
        assert said in refused("info", name)
        assert said in refused("info", name, "--json")
    assert "'magic'" in refused("info", model_folder, "--sampler", "magic")


def test_more_at_once_than_a_request_can_have(refused: Callable[..., str]) -> None:
    assert "100000" in refused("info", "--memory", "--batch-size", "1000000000000000000")
