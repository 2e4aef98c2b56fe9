"""`ImageRequest`, the words that all rooms share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from latentbrush import Canvas, GuidanceRequest, ImageRequest, ModelRequest, Sampling
from latentbrush.errors import one_line, short
from latentbrush.request import Batch

ROOT = Path(__file__).parents[1]


def test_the_request_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, latentbrush; latentbrush.ImageRequest(prompt='x'); import latentbrush.request; "
        "print({'torch', 'numpy', 'PIL', 'tokenizers'} & sys.modules.keys())"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "set()\n", done.stderr


def test_a_prompt_is_enough() -> None:
    request = ImageRequest(prompt="a red heart")
    assert request.version == 1
    assert request.model.name == "emoji"
    assert (request.sampling.count, request.sampling.batch_size) == (1, 16)
    # What the model decides stays open.
    sampling = request.sampling
    assert (sampling.sampler, sampling.steps, sampling.seed, request.guidance.weight) == (None,) * 4
    assert (request.canvas.width, request.canvas.height) == (None, None)


def test_json_and_back() -> None:
    request = ImageRequest(
        prompt="빨간 하트 ❤",
        model=ModelRequest(name="here"),
        canvas=Canvas(width=64, height=32),
        sampling=Sampling(sampler="euler", steps=7, seed=2**63 - 1, count=3, batch_size=2),
        guidance=GuidanceRequest(weight=0.1, negative="blue"),
    )
    assert ImageRequest.model_validate_json(request.model_dump_json()) == request
    assert ImageRequest.model_validate(json.loads(json.dumps(request.model_dump(mode="json")))) == request
    assert json.loads(request.model_dump_json())["version"] == 1


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"promt": "x"}, "promt"),
        ({"model": {"nam": "x"}}, "model.nam"),
        ({"canvas": {"depth": 3}}, "canvas.depth"),
        ({"sampling": {"step": 3}}, "sampling.step"),
        ({"guidance": {"scale": 3}}, "guidance.scale"),
        ({"version": 2}, "version"),
        ({"version": None}, "version"),
        ({"prompt": None}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": "\udcff"}, "prompt"),
        ({"model": {"name": "\ud800"}}, "model.name"),
        ({"canvas": {"width": 0}}, "canvas.width"),
        ({"canvas": {"height": 32.5}}, "canvas.height"),
        ({"canvas": {"height": "32"}}, "canvas.height"),
        ({"sampling": {"steps": 0}}, "sampling.steps"),
        ({"sampling": {"steps": True}}, "sampling.steps"),
        ({"sampling": {"seed": -1}}, "sampling.seed"),
        ({"sampling": {"seed": 2**63}}, "sampling.seed"),
        ({"sampling": {"seed": 1.0}}, "sampling.seed"),
        ({"sampling": {"count": 0}}, "sampling.count"),
        ({"sampling": {"batch_size": 0}}, "sampling.batch_size"),
        ({"guidance": {"weight": float("nan")}}, "guidance.weight"),
        ({"guidance": {"weight": float("-inf")}}, "guidance.weight"),
        ({"guidance": {"weight": "strong"}}, "guidance.weight"),
        ({"guidance": {"negative": "\udcff"}}, "guidance.negative"),
    ],
)
def test_what_cannot_be_is_refused_where_it_stands(values: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ImageRequest.model_validate({"prompt": "x", **values})
    assert caught.value.error_count() == 1
    line = one_line(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{place}: ")


def test_a_request_needs_a_prompt() -> None:
    with pytest.raises(ValidationError) as caught:
        ImageRequest.model_validate({})
    assert one_line(caught.value) == "prompt: Field required"


@pytest.mark.parametrize("block", ["model", "canvas", "sampling", "guidance", None])
def test_requests_are_frozen(block: str | None) -> None:
    request = ImageRequest(prompt="x")
    target = request if block is None else getattr(request, block)
    for field in type(target).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(target, field, getattr(target, field))
    assert hash(request) == hash(ImageRequest(prompt="x"))


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"), [(1, 16, [1]), (5, 5, [5]), (5, 16, [5]), (5, 3, [3, 2]), (4, 2, [2, 2])]
)
def test_pictures_are_painted_in_batches(count: int, batch_size: int, sizes: list[int]) -> None:
    batches = list(Sampling(count=count, batch_size=batch_size).batches())
    assert batches == [Batch(first=sum(sizes[:i]), size=size) for i, size in enumerate(sizes)]


def test_values_in_messages_are_cut() -> None:
    """Files hold values of any length, and of any letters."""
    assert short("a\x1b\n") == r"'a\x1b\n'"
    assert len(short("x" * 10**6)) < 300
    with pytest.raises(ValidationError) as caught:
        ImageRequest.model_validate({"prompt": ["x" * 10**6]})
    assert len(one_line(caught.value)) < 400
