"""A tiny model's folder, and a way to run a command in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from latentbrush.cli import main
from latentbrush.conditioning import TextConditioner, train_tokenizer
from latentbrush.formats import save_model
from latentbrush.model import LatentDiffusion, ModelDefaults
from latentbrush.nn import AutoencoderConfig, AutoencoderKL, CLIPTextConfig, CLIPTextModel, UNet, UNetConfig


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 x 8 pictures in 3 steps, f = 2, from random weights."""
    torch.manual_seed(0)
    autoencoder = AutoencoderConfig(
        channels=(8, 8), layers_per_block=1, mid_attention=False, groups=4, scaling_factor=1.0, sample_size=8
    )
    unet = UNet(
        UNetConfig(
            sample_size=4,
            channels=(8,),
            layers_per_block=1,
            attention=(True,),
            heads=(2,),
            depth=(1,),
            context_width=8,
            groups=4,
        )
    )
    for parameter in unet.parameters():  # it starts as the zero function, which would paint without the prompt
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    text = CLIPTextConfig(vocab_size=520, width=8, layers=1, heads=2, mlp_width=8, max_positions=16)
    model = LatentDiffusion(
        AutoencoderKL(autoencoder),
        unet,
        TextConditioner(train_tokenizer(["a red heart", "a blue cat"], 520, 16), CLIPTextModel(text)),
        plan_options={"spacing": "trailing"},
        defaults=ModelDefaults(steps=3, guidance=2.0, width=8, height=8),
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(model, folder)
    return folder


@pytest.fixture
def model_copy(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model to change."""
    return Path(shutil.copytree(model_folder, tmp_path_factory.mktemp("copy") / "tiny"))


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Outcome]:
    """Runs `latentbrush ARGUMENTS` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str | Path) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        assert isinstance(caught.value.code, int)
        return Outcome(caught.value.code, *capsys.readouterr())

    return command


@pytest.fixture
def refused(run: Command, tmp_path: Path) -> Callable[..., str]:
    """Runs what must be refused: code 2, one line on standard error, nothing written. Returns the line."""

    def command(*arguments: str | Path) -> str:
        before = listing(tmp_path)
        outcome = run(*arguments)
        assert outcome.code == 2, outcome.err
        assert outcome.out == ""
        assert outcome.err.count("\n") == 1, outcome.err
        assert outcome.err.startswith("latentbrush: error: ")
        assert outcome.err.endswith("\n")
        assert listing(tmp_path) == before
        return outcome.err

    return command


def listing(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
