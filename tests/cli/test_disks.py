"""Disks that are full, read-only, or refuse a file's size: one line, exit code 2, nothing half-written."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from PIL import Image

from latentbrush.errors import UserError
from latentbrush.formats import load_model, save_model
from latentbrush.training import Run
from latentbrush.training.recipe import AutoencoderRecipe

pytestmark = pytest.mark.capability("whole-files")

ROOT = Path(__file__).parents[2]


CAP_SYS_ADMIN = 1 << 21
"""The kernel's right to mount, among others: a bit of the masks in /proc/self/status."""


def may_mount(status: str) -> bool:
    """What the text of /proc/self/status says of this process."""
    masks = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return bool(int(masks.get("CapEff", "0"), 16) & CAP_SYS_ADMIN)


def nobody_mounts(status: str) -> NoReturn:
    """Skip; but fail in CI with the right to mount, where a skipped test would hide that mounting is broken."""
    message = "this system lets nobody mount a disk"
    if os.environ.get("CI") == "true" and may_mount(status):
        pytest.fail(f"{message}, though the kernel gives the right to")
    pytest.skip(message)


@pytest.fixture
def namespace() -> list[str]:
    """A command before which others may mount without anyone else seeing it. Skips where the system lets nobody.

    Many containers are such systems; the limit on file sizes below is tested everywhere.
    """
    for command in (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]):
        try:
            done = subprocess.run([*command, "sh", "-c", "mount -t tmpfs tmpfs /mnt"], capture_output=True, check=False)
        except FileNotFoundError:
            break
        if done.returncode == 0:
            return command
    nobody_mounts(Path("/proc/self/status").read_text())


@pytest.mark.parametrize(
    ("ci", "mask", "outcome"),
    [
        ("true", "000001fffeffffff", pytest.fail.Exception),
        ("true", "00000000a80425fb", pytest.skip.Exception),  # root in a container, as Docker makes it
        ("true", "0000000000000000", pytest.skip.Exception),
        ("", "000001fffeffffff", pytest.skip.Exception),
    ],
)
def test_the_full_disk_is_not_passed_over_in_ci(
    ci: str, mask: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="lets nobody mount"):
        nobody_mounts(f"Name:\tpython\nCapInh:\t0000000000000000\nCapEff:\t{mask}\n")


def test_full_and_read_only_disks(namespace: list[str], model_folder: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("disk_full.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*namespace, sys.executable, str(script), str(model_folder), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    is_refused(result["full"], "new/x.png", "No space left on device", "make room or choose another place")
    assert result["full_holds"] == ["ballast"]  # not even the folder `new`
    assert "No space left on device" in result["save"] or "cannot write" in result["save"]
    assert "\n" not in result["save"]
    assert result["full_holds_then"] == ["ballast"]
    assert result["room"]["code"] == 0
    for outcome, said in zip(
        result["read_only"], ("read-only); name another --out",) * 2 + ("Read-only file system",), strict=True
    ):
        is_refused(outcome, said, "name another --out")


def is_refused(outcome: dict[str, Any], *said: str) -> None:
    assert (outcome["code"], outcome["out"]) == (2, ""), outcome
    assert outcome["err"].count("\n") == 1, outcome
    for words in said:
        assert words in outcome["err"]


@pytest.fixture
def small_files() -> Iterator[None]:
    """The system refuses to write beyond 8,000 bytes of any file, in the middle of it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


def test_a_picture_that_grows_too_large(
    refused: Callable[..., str], model_folder: Path, tmp_path: Path, small_files: None
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    line = refused(
        *("img2img", "x", "--model", model_folder, "--image", "noise.png", "--strength", "0", "--out", "new/x.png"),
        *("--size", "100x100"),
    )
    assert "new/x.png (File too large); make room" in line


def test_a_model_and_a_checkpoint_that_grow_too_large(model_folder: Path, tmp_path: Path, small_files: None) -> None:
    with pytest.raises(UserError, match=r"cannot write .*safetensors"):
        save_model(load_model(model_folder), tmp_path / "model")
    values = {"stage": "autoencoder", "data": {"path": "x", "size": 8}, "optimiser": {"lr": 1}, "steps": 1, "batch": 1}
    recipe = AutoencoderRecipe.model_validate({**values, "autoencoder": {"channels": [8], "groups": 4}})
    run = Run(tmp_path / "run", recipe, resume=False)
    run.begin()
    with pytest.raises(UserError, match=r"cannot write .*checkpoint.pt .*--resume"):
        run.save_checkpoint({"noise": np.zeros(0), "many": list(range(9000))})
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["recipe.yaml", "run", "samples"]
