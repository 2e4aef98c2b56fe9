"""One side of text_to_image.py, in a process of its own: python benchmarks/painter.py latentbrush|diffusers [FOLDER]

FOLDER is a model's, by default the shipped one.
Reads an order a line, a JSON object of count, steps, seed and perhaps out (then the pictures are saved as
OUT-0.png, ...), and answers each with a line of figures. Nothing is loaded before the first order.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

PROMPT, GUIDANCE = "a red heart", 3.0
MODEL = Path(__file__).parents[1] / "latentbrush" / "models" / "emoji"

Paint = Callable[[int, int, int], Sequence[Image.Image]]
"""(count, steps, seed) -> pictures, picture i from seed + i."""


def latentbrush_side(folder: Path) -> Paint:
    import latentbrush
    from latentbrush import GuidanceRequest, ImageRequest, Sampling

    model = latentbrush.load(folder)

    def paint(count: int, steps: int, seed: int) -> list[Image.Image]:
        sampling = Sampling(steps=steps, seed=seed, count=count, batch_size=count)
        request = ImageRequest(prompt=PROMPT, sampling=sampling, guidance=GuidanceRequest(weight=GUIDANCE))
        return [picture.image for picture in latentbrush.generate(model, request)]

    return paint


def diffusers_side(folder: Path) -> Paint:
    import torch
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)

    def paint(count: int, steps: int, seed: int) -> list[Image.Image]:
        generators = [torch.Generator("cpu").manual_seed(seed + i) for i in range(count)]
        images: list[Image.Image] = pipeline(
            [PROMPT] * count, num_inference_steps=steps, guidance_scale=GUIDANCE, generator=generators
        ).images
        return images

    return paint


def main() -> None:
    load = {"latentbrush": latentbrush_side, "diffusers": diffusers_side}[sys.argv[1]]
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else MODEL
    paint: Paint | None = None
    for line in sys.stdin:
        order = json.loads(line)
        paint = paint or load(folder)
        start, used = time.perf_counter(), time.process_time()
        images = paint(order["count"], order["steps"], order["seed"])
        seconds, processor = time.perf_counter() - start, time.process_time() - used
        if "out" in order:
            for i, image in enumerate(images):
                image.save(f"{order['out']}-{i}.png")
        answer = {
            "seconds": seconds,
            "processor_seconds": processor,
            "process_seconds": time.process_time(),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,  # Linux counts in KiB
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
