"""What a loaded model says about its files."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from latentbrush import origin
from latentbrush.errors import UserError
from latentbrush.formats import load_model
from latentbrush.model import LatentDiffusion
from latentbrush.origin import Origin

pytestmark = pytest.mark.capability("reproduce")

UNET = "unet/diffusion_pytorch_model.safetensors"


def origin_of(folder: Path, sampler: str | None = None) -> Origin:
    found = load_model(folder, sampler=sampler).origin
    assert found is not None
    return found


def test_weights_by_their_path_in_the_folder(folder: Path) -> None:
    weights = origin_of(folder).weights
    assert set(weights) == {
        UNET,
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
    }
    for path, sha256 in weights.items():
        assert sha256 == hashlib.sha256((folder / path).read_bytes()).hexdigest()


def test_a_variant_is_the_file_that_was_read(folder: Path) -> None:
    half = (folder / UNET).with_suffix(".fp16.safetensors")
    (folder / UNET).rename(half)
    assert half.relative_to(folder).as_posix() in origin_of(folder).weights


def test_settings_are_all_json_files(folder: Path) -> None:
    before = origin_of(folder).settings
    assert before == origin_of(folder).settings
    (folder / "README.md").write_text("no setting")
    assert before == origin_of(folder).settings
    for part in ("scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json", "latentbrush.json"):
        content = json.loads((folder / part).read_text())
        (folder / part).write_text(json.dumps(content, indent=7))
        after = origin_of(folder).settings
        assert after != before
        before = after


def test_only_regular_files_are_settings(folder: Path) -> None:
    """A pipe would be waited for when the picture is painted."""
    before = origin_of(folder).settings
    os.mkfifo(folder / "unet" / "pipe.json")
    (folder / "vae" / "folder.json").mkdir()
    (folder / "vae" / "nowhere.txt").symlink_to("absent.txt")
    assert origin_of(folder).settings == before


def test_a_setting_has_an_end(folder: Path) -> None:
    with (folder / "tokenizer" / "x.txt").open("w") as file:
        file.truncate(10**11)  # sparse: it takes no room
    with pytest.raises(UserError, match=r"x\.txt has 100000000000 bytes, settings at most 67108864; take it out"):
        load_model(folder)


def test_files_are_read_once_and_only_when_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte takes seconds."""
    read: list[Path] = []
    original = origin.sha256_of
    monkeypatch.setattr(origin, "sha256_of", lambda path: (read.append(path), original(path))[1])
    found = origin_of(folder)
    assert read == []
    assert found.weights is found.weights
    assert len(read) == 3


def test_a_file_written_since_is_not_what_was_loaded(folder: Path) -> None:
    found = origin_of(folder)
    status = (folder / UNET).stat()
    os.utime(folder / UNET, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    (folder / "vae" / "config.json").unlink()
    assert sorted(found.weights) == ["text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors"]
    assert found.settings is None


def test_the_sampler_chosen_in_loading(folder: Path) -> None:
    assert origin_of(folder).sampler is None
    assert origin_of(folder, "heun").sampler == "heun"


def test_a_model_made_in_memory_has_none(model: LatentDiffusion) -> None:
    assert model.origin is None
