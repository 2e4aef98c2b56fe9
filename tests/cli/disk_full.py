"""Run by test_disks.py in a mount namespace of its own: what the commands do on a full and on a read-only disk."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from latentbrush.cli import main
from latentbrush.errors import UserError
from latentbrush.formats import load_model, save_model


def ended(*line: str) -> dict[str, Any]:
    out, err = io.StringIO(), io.StringIO()
    code: Any = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(line)
        except SystemExit as ending:
            code = ending.code
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def painting(model: str, out: Path, *more: str) -> dict[str, Any]:
    return ended("txt2img", "a red heart", "--model", model, "--seed", "1", "--out", str(out), *more)


def mounted(disk: Path, *options: str) -> Path:
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(disk)], check=True)
    return disk


def listed(disk: Path) -> list[str]:
    return sorted(str(path.relative_to(disk)) for path in disk.rglob("*"))


def run(model: str, place: Path) -> dict[str, Any]:
    result: dict[str, Any] = {}
    # Three pages: noise does not compress, and one picture of it is larger than what the ballast leaves.
    full = mounted(place / "full", "-o", "size=512k")
    (full / "ballast").write_bytes(bytes(500 * 1024))
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    Image.fromarray(noise).save(place / "noise.png")
    result["full"] = ended(
        *("img2img", "x", "--model", model, "--image", str(place / "noise.png"), "--strength", "0"),
        *("--size", "128x128", "--out", str(full / "new/x.png")),
    )
    result["full_holds"] = listed(full)
    try:
        save_model(load_model(model), full / "model")
    except UserError as error:
        result["save"] = str(error)
    result["full_holds_then"] = listed(full)
    (full / "ballast").unlink()
    result["room"] = painting(model, full / "new/x.png")

    read_only = mounted(place / "read-only")
    (read_only / "there").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(read_only)], check=True)
    result["read_only"] = [painting(model, read_only / name) for name in ("x.png", "there/x.png", "new/x.png")]
    return result


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(run(sys.argv[1], Path(sys.argv[2]))))
