"""The commands as a whole: help, unknown words, training and data, and what a process imports."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from latentbrush import formats
from latentbrush.data import emoji
from latentbrush.data.folder import ImageFolder
from latentbrush.request import Precision

ROOT = Path(__file__).parents[2]


def python(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    command = [sys.executable, *(str(argument) for argument in arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["txt2img", "train", "data"]),
        (["--help"], ["txt2img", "train", "data"]),
        (["txt2img", "--help"], ["PROMPT", "--steps", "--size", "--guidance", "--overwrite"]),
        (["txt2img", "--help"], ["auto", *get_args(Precision)]),
        (["reproduce", "--help"], ["FILE", "--model", "--image", "--out", "--overwrite", "--large"]),
        (["train", "--help"], ["RECIPE", "--run", "--resume", "--set"]),
        (["evaluate", "--help"], ["composition"]),
        (["evaluate", "composition", "--help"], ["--model", "--data", "--seeds", "--out", "--overwrite"]),
        (["data", "--help"], ["emoji"]),
        (["data", "emoji", "--help"], ["DIRECTORY"]),
    ],
)
def test_help_is_on_standard_output(arguments: list[str], words: list[str], run: Callable[..., Any]) -> None:
    outcome = run(*arguments)
    assert (outcome.code, outcome.err) == (0, "")
    for word in words:
        assert word in outcome.out


HELP = """
import sys
from latentbrush.cli import main
import latentbrush
COMMANDS = ("txt2img", "diffuse", "tokens", "info", "reproduce", "train", "evaluate", "data")
for command in ([], *([name] for name in COMMANDS), ["data", "emoji"], ["evaluate", "composition"]):
    try:
        main([*command, "--help"])
    except SystemExit as exit:
        assert exit.code == 0, command
    heavy = {"torch", "numpy", "tokenizers", "PIL"} & sys.modules.keys()
    assert not heavy, (command, heavy)
print("light")
"""


@pytest.mark.capability("help-without-torch")
def test_no_help_imports_torch(tmp_path: Path) -> None:
    done = python("-c", HELP, cwd=tmp_path)
    assert done.stdout.endswith("light\n"), done.stderr


INFERENCE = """
import sys
import latentbrush
model = latentbrush.load(sys.argv[1])
latentbrush.generate(model, latentbrush.ImageRequest(prompt="a red heart"))[0].image.save("x.png")
foreign = {"transformers", "diffusers", "accelerate", "torchvision"} & sys.modules.keys()
assert not foreign, foreign
compiler = {"torch._dynamo", "sympy"} & sys.modules.keys()  # a third of the time to a first picture
assert not compiler, compiler
print("ours alone")
"""


@pytest.mark.capability("quick-start")
def test_inference_imports_no_other_implementation(model_folder: Path, tmp_path: Path) -> None:
    done = python("-c", INFERENCE, model_folder, cwd=tmp_path)
    assert done.stdout == "ours alone\n", done.stderr
    assert (tmp_path / "x.png").is_file()


@pytest.mark.capability("one-line-errors")
def test_a_process_ends_with_code_2_and_one_line(tmp_path: Path) -> None:
    done = python("-m", "latentbrush", "txt2img", "x", "--steps", "many", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "latentbrush: error: Invalid value for '--steps': 'many' is not a whole number; give one such as 20\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.capability("one-line-errors")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["paint"], "'paint'"),
        (["--version"], "--version"),
        (["data"], "command"),
        (["data", "cats"], "'cats'"),
        (["data", "emoji"], "'directory'"),
        (["data", "emoji", "a", "b"], "b"),
        (["data", "emoji", "file"], "file is not a folder"),
        (["data", "emoji", "full"], "full is not empty"),
        (["train"], "Missing argument 'recipe'; see latentbrush COMMAND --help"),
        (["train", "recipe.yaml"], "--run"),
        (["train", "absent.yaml", "--run", "run"], "absent.yaml"),
        (["train", "full", "--run", "run"], "full"),
        (["train", "recipe.yaml", "--run", "run", "--set", "steps"], "'steps'"),
        (["train", "recipe.yaml", "--run", "run", "--set", "steps=-5"], "-5"),
        (["train", "recipe.yaml", "--run", "run", "--set", "speed=9"], "speed"),
        (["train", "recipe.yaml", "--run", "run", "--set", "stage=gan"], "'gan'"),
        (["train", "recipe.yaml", "--run", "full"], "full exists and is not empty"),
        (["train", "recipe.yaml", "--run", "file"], "file is no folder; name a new one"),
        (["train", "recipe.yaml", "--run", "run", "--resume"], "run holds no run to resume"),
        (["train", "recipe.yaml", "--run", "run", "--faster"], "--faster"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(
    arguments: list[str], said: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary.txt").write_text("mine", encoding="utf-8")
    assert said in refused(*arguments)


def test_a_full_standard_output_is_named(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed may find no room either, and a stream has no name."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(formats, "summarise", full)
    outcome = run("info")
    assert outcome.code == 2
    assert outcome.err.startswith("latentbrush: error: standard output, or a file, could not be read or written: No sp")


RECIPE = {
    "stage": "autoencoder",
    "data": {"path": "world", "size": 8},
    "autoencoder": {"channels": [8, 8], "groups": 4},
    "optimiser": {"lr": 0.001},
    "steps": 1,
    "batch": 2,
}


def test_training_on_an_absent_world_is_one_line(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    outcome = run("train", "recipe.yaml", "--run", "run")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "world is not a folder" in outcome.err
    # Having changed nothing else, the same command must work once the world is there.
    assert not (tmp_path / "run").exists()


@pytest.mark.capability("emoji-data")
@pytest.mark.emoji
def test_the_emoji_world_is_drawn(
    debian_emoji: None, run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tmp_path / "emoji-test.txt"
    few.write_text(
        "# group: Smileys & Emotion\n# subgroup: heart\n"
        "2764 FE0F ; fully-qualified # ❤️ E0.6 red heart\n"
        "1F49C ; fully-qualified # 💜 E0.6 purple heart\n",
        encoding="utf-8",
    )
    build = functools.partial(emoji.build_emoji_world, emoji_test=few)  # all 3,655 would take a minute
    monkeypatch.setattr(emoji, "build_emoji_world", build)
    outcome = run("data", "emoji", "new/world")
    assert (outcome.code, outcome.out, outcome.err) == (0, "new/world: 2 pictures\n", "")
    assert [record["name"] for record in ImageFolder("new/world").records] == ["red heart", "purple heart"]
