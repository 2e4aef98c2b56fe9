"""One side of loading.py, in a process of its own: python benchmarks/loader.py SIDE FOLDER DTYPE [digest]

SIDE is latentbrush or diffusers. Imports it, opens the folder in that type (float16 or float32), reads every number
once, and answers with one line of JSON: seconds and peak resident memory. `digest`: instead of figures, part -> SHA-256
of all its tensors with diffusers' and transformers' names.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PARTS = ("unet", "vae", "text_encoder")


def resident(line: str) -> int:
    """Bytes that Linux counts as this process's: VmHWM, the most there ever were, or VmRSS, those now."""
    status = Path("/proc/self/status").read_text().splitlines()
    [found] = [entry.split()[1] for entry in status if entry.startswith(f"{line}:")]
    return int(found) * 1024


def latentbrush_side() -> Callable[[str, Any], Mapping[str, Any]]:
    import latentbrush
    from latentbrush import formats

    def load(folder: str, dtype: Any) -> Mapping[str, Any]:
        model = latentbrush.load(folder, dtype=dtype, device="cpu")
        found = formats.folder.networks_of(model)
        kinds = {part: formats.network.KINDS[part][1] for part in PARTS}
        return {part: {kinds[part].theirs(n): t for n, t in found[part].state_dict().items()} for part in PARTS}

    return load


def diffusers_side() -> Callable[[str, Any], Mapping[str, Any]]:
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging

    logging.disable_progress_bar()

    def load(folder: str, dtype: Any) -> Mapping[str, Any]:
        pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=dtype)
        return {part: getattr(pipeline, part).state_dict() for part in PARTS}

    return load


def digest(state: Mapping[str, Any]) -> str:
    """Of names, types, shapes and numbers; whether a text tower's names begin with their segment, versions decide."""
    import torch

    total = hashlib.sha256()
    for key, tensor in sorted((key.removeprefix("text_model."), tensor) for key, tensor in state.items()):
        total.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()


def main() -> None:
    side, folder, name = sys.argv[1:4]
    load = {"latentbrush": latentbrush_side, "diffusers": diffusers_side}[side]()
    import torch

    before = resident("VmRSS")
    start, used = time.perf_counter(), time.process_time()
    parts = load(folder, getattr(torch, name))
    opened, processor = time.perf_counter() - start, time.process_time() - used
    if sys.argv[4:] == ["digest"]:
        print(json.dumps({part: digest(state) for part, state in parts.items()}))
        return
    peak = resident("VmHWM")
    torch.set_num_threads(1)  # as fast as memory is; several would wait for one another at every tensor
    for state in parts.values():
        for tensor in state.values():
            tensor.aminmax()
    ready = time.perf_counter() - start
    figures = {"opened": opened, "processor": processor, "ready": ready, "libraries": before}
    print(json.dumps({**figures, "peak_opened": peak, "peak_ready": resident("VmHWM")}))


if __name__ == "__main__":
    main()
