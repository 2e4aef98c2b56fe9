"""How often a painting of the emoji model is nearest to the original its caption names.

    python benchmarks/composition.py --model emoji --data data/emoji [--seeds 4]

Prints one JSON object: for every part of the data (held-out validation and test halves, their hard pairs, and
as many training pictures) the mean over seeds and each seed's share, and the ceiling, which is the same test on
the autoencoder's reconstruction of the original. Distances are taken without shifts, and base and attributes are
not told apart.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

import latentbrush
from latentbrush.data.emoji import EmojiRecord
from latentbrush.data.folder import ImageFolder
from latentbrush.data.pixels import to_signed
from latentbrush.evaluation import nearest_accuracy
from latentbrush.model import LatentDiffusion
from latentbrush.pipeline import paint, resolve

BATCH = 64


def painted(model: LatentDiffusion, names: list[str], seed: int) -> Tensor:
    """(B, 3, H, W): a picture of every name, picture i from seed * 100000 + i."""
    request = resolve(model, latentbrush.ImageRequest(prompt=""))
    seeds = [seed * 100_000 + i for i in range(len(names))]
    parts = [
        paint(model, names[start : start + BATCH], seeds[start : start + BATCH], request)
        for start in range(0, len(names), BATCH)
    ]
    return torch.cat(parts)


@torch.inference_mode()
def reconstructed(model: LatentDiffusion, pictures: Tensor) -> Tensor:
    return model.autoencoder.decode(model.autoencoder.encode(to_signed(pictures)).mode())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--data", type=Path, default=Path("data/emoji"))
    parser.add_argument("--seeds", type=int, default=4)
    arguments = parser.parse_args()
    model = latentbrush.load(arguments.model)
    folder = ImageFolder(arguments.data)
    records = [EmojiRecord.parse(record) for record in folder.records]
    pictures = folder.load(model.defaults.width)
    held_out = {half: [i for i, r in enumerate(records) if r.split == half] for half in ("validation", "test")}
    train = [i for i, record in enumerate(records) if record.split == "train"]
    # Trained variants of the very people the test half holds out, so that the two can be compared.
    bases = {records[i].base for i in held_out["test"] if records[i].attributes}
    people = [i for i in train if records[i].base in bases and records[i].attributes]
    parts = {
        **held_out,
        "test_hard": [i for i in held_out["test"] if records[i].hard],
        "train_same_people": people[:: max(1, len(people) // 100)][:100],
        "train": train[:: max(1, len(train) // 100)][:100],
    }
    result: dict[str, object] = {"model": arguments.model, "seeds": arguments.seeds}
    for name, chosen in parts.items():
        wanted = torch.tensor(chosen)
        names = [records[i].name for i in chosen]
        shares = [nearest_accuracy(painted(model, names, seed), pictures, wanted) for seed in range(arguments.seeds)]
        result[name] = {
            "count": len(chosen),
            "accuracy": round(sum(shares) / len(shares), 4),
            "by_seed": [round(share, 4) for share in shares],
            "ceiling": round(nearest_accuracy(reconstructed(model, pictures[wanted]), pictures, wanted), 4),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
