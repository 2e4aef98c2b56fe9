"""N steps, an interruption, M more steps: bit for bit what N + M steps give. Of every stage."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_contrastive import contrastive_recipe
from tiny_vq import vq_recipe
from tiny_world import autoencoder_recipe, make_world, text_to_image_recipe

from latentbrush.errors import UserError
from latentbrush.training import FirstStageRecipe, TextToImageRecipe, TrainingProgress, run_recipe

pytestmark = pytest.mark.capability("resume")


class PowerCutError(Exception):
    """What ends a run in the middle; no part of the package knows it."""


def cut_at(step: int) -> Callable[[TrainingProgress], None]:
    def on_step(progress: TrainingProgress) -> None:
        if progress.step == step:
            raise PowerCutError

    return on_step


def recipe_of(stage: str, world: Path, first_stage: Path, **changes: Any) -> FirstStageRecipe | TextToImageRecipe:
    if stage == "autoencoder":
        return autoencoder_recipe(world, **changes)
    if stage.startswith("vq-"):
        return vq_recipe(world, codebook={"rule": stage.removeprefix("vq-")}, **changes)
    return text_to_image_recipe(world, first_stage, **changes)


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and tensor in a checkpoint, by its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}/{key}")
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from leaves(inner, f"{path}/{i}")
    else:
        yield path, value


def assert_same_checkpoint(one: Path, other: Path) -> None:
    first, second = (dict(leaves(torch.load(run / "checkpoint.pt", weights_only=True))) for run in (one, other))
    assert first.keys() == second.keys()
    for path, value in first.items():
        same = torch.equal(value, second[path]) if isinstance(value, torch.Tensor) else value == second[path]
        assert same, path


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("stage", ["autoencoder", "vq-learned", "vq-ema", "text-to-image"])
def test_resuming_is_bit_equal_to_never_stopping(stage: str, world: Path, first_stage: Path, tmp_path: Path) -> None:
    recipe = recipe_of(stage, world, first_stage)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_recipe(recipe, whole)

    # The last checkpoint is of step 8; losses of step 10 are in the log already and will come again.
    with pytest.raises(PowerCutError):
        run_recipe(recipe, parts, on_step=cut_at(11))
    assert log_of(parts)[-1]["step"] == 10
    assert not (parts / "model").exists()
    # What a power cut may leave: half a checkpoint beside the whole one, half a line in the log.
    (parts / "checkpoint.tmp").write_bytes((parts / "checkpoint.pt").read_bytes()[:1000])
    with (parts / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"step": 11, "lo')
    torch.manual_seed(99)  # no draw may depend on what this process drew before
    seen: list[int] = []
    run_recipe(recipe, parts, resume=True, on_step=lambda progress: seen.append(progress.step))

    assert seen == list(range(9, 15))
    assert_same_checkpoint(whole, parts)
    assert (whole / "log.jsonl").read_bytes() == (parts / "log.jsonl").read_bytes()
    keys = [(line["step"], "loss" in line) for line in log_of(parts)]
    assert len(keys) == len(set(keys))
    assert [step for step, loss in keys if loss] == [10, 14]
    assert [step for step, loss in keys if not loss] == [4, 8, 12, 14]
    assert files_of(whole / "model") == files_of(parts / "model")
    assert files_of(whole / "samples") == files_of(parts / "samples")


def test_resuming_before_the_first_checkpoint_begins_anew(world: Path, first_stage: Path, tmp_path: Path) -> None:
    recipe = autoencoder_recipe(world, steps=3, validate_every=1)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_recipe(recipe, whole)
    with pytest.raises(PowerCutError):
        run_recipe(recipe, parts, on_step=cut_at(2))
    assert len(log_of(parts)) == 2
    run_recipe(recipe, parts, resume=True)
    assert_same_checkpoint(whole, parts)
    assert log_of(whole) == log_of(parts)


def test_a_run_goes_on_without_its_samples(world: Path, tmp_path: Path) -> None:
    recipe = autoencoder_recipe(world, steps=2, validate_every=1)
    with pytest.raises(PowerCutError):
        run_recipe(recipe, tmp_path / "run", on_step=cut_at(1))
    shutil.rmtree(tmp_path / "run" / "samples")
    run_recipe(recipe, tmp_path / "run", resume=True)
    assert sorted(path.name for path in (tmp_path / "run" / "samples").iterdir())[-1] == "step-000002.png"


def test_resuming_a_finished_run_writes_the_same_model(world: Path, tmp_path: Path) -> None:
    recipe = autoencoder_recipe(world, steps=2)
    run_recipe(recipe, tmp_path / "run")
    before, log = files_of(tmp_path / "run" / "model"), log_of(tmp_path / "run")
    # Statistics are folded into the averaged weights: doing it again must not fold them twice.
    run_recipe(recipe, tmp_path / "run", resume=True)
    assert files_of(tmp_path / "run" / "model") == before
    assert log_of(tmp_path / "run") == log


def rename_a_caption(world: Path) -> None:
    lines = (world / "metadata.jsonl").read_text("utf-8").splitlines()
    record = json.loads(lines[0])
    record["keywords"] = ["another", *record["keywords"][1:]]
    (world / "metadata.jsonl").write_text("\n".join([json.dumps(record), *lines[1:]]) + "\n", encoding="utf-8")


@pytest.mark.parametrize("stage", ["autoencoder", "contrastive", "text-to-image"])
def test_a_run_goes_on_with_the_same_captions_only(stage: str, first_stage: Path, tmp_path: Path) -> None:
    world = make_world(tmp_path / "emoji")
    tokens = {"vocab_size": 514, "max_length": 8}  # bytes alone: the words do not show in the vocabulary
    recipe = {
        "autoencoder": lambda: autoencoder_recipe(world, steps=2),
        "contrastive": lambda: contrastive_recipe(world, steps=2, tokenizer=tokens),
        "text-to-image": lambda: text_to_image_recipe(world, first_stage, steps=2, tokenizer=tokens),
    }[stage]()
    run_recipe(recipe, tmp_path / "run")
    run_recipe(recipe, tmp_path / "run", resume=True)
    rename_a_caption(world)
    with pytest.raises(UserError, match="have changed since its checkpoint"):
        run_recipe(recipe, tmp_path / "run", resume=True)


def test_a_damaged_checkpoint_is_named(world: Path, tmp_path: Path) -> None:
    recipe = autoencoder_recipe(world, steps=2)
    run_recipe(recipe, tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    for damaged in (b"", b"no checkpoint", checkpoint.read_bytes()[:3000]):
        checkpoint.write_bytes(damaged)
        with pytest.raises(UserError, match=r"checkpoint\.pt is damaged"):
            run_recipe(recipe, tmp_path / "run", resume=True)
        assert checkpoint.read_bytes() == damaged


@pytest.mark.parametrize(
    "change",
    [
        {"step": "x"},
        {"step": -5},
        {"step": 10**9},
        {"step": None},
        {"data": None},
        {"module": {}},
        {"optimiser": {}},
        {"ema": {}},
    ],
    ids=str,
)
def test_a_checkpoint_of_other_content_is_damaged(change: dict[str, Any], finished: Path, world: Path) -> None:
    checkpoint, log = finished / "checkpoint.pt", (finished / "log.jsonl").read_bytes()
    state = torch.load(checkpoint, weights_only=True) | change
    torch.save({key: value for key, value in state.items() if value is not None}, checkpoint)
    with pytest.raises(UserError, match=r"checkpoint\.pt is damaged"):
        run_recipe(autoencoder_recipe(world, steps=2), finished, resume=True)
    assert (finished / "log.jsonl").read_bytes() == log


@pytest.mark.parametrize("content", [{"a": 1}, [1], {"step": 1}], ids=str)
def test_what_is_no_checkpoint_at_all_is_damaged(content: Any, finished: Path, world: Path) -> None:
    torch.save(content, finished / "checkpoint.pt")
    with pytest.raises(UserError, match=r"checkpoint\.pt is damaged"):
        run_recipe(autoencoder_recipe(world, steps=2), finished, resume=True)


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_once, tmp_path / "run"))


@pytest.fixture(scope="module")
def finished_once(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("finished") / "run"
    run_recipe(autoencoder_recipe(world, steps=2), run)
    return run
