"""What torch-fidelity's Inception makes of pictures, for tests to compare with: made with torch-fidelity 0.4.0.

The package wants torchvision, which the tests do not have, for other things than this network, so it is none of
theirs: this file writes inception.json beside itself from the package's unpacked wheel. The places that sFID compares
are read where its Mixed_6d hands them on.

    python tests/parity/inception.py UNPACKED_WHEEL
"""

import importlib
import json
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import torch
from tiny_inception import drawn_pictures, drawn_weights

PATH = Path(__file__).with_suffix(".json")
EVERY = 16
"""Of all numbers each sixteenth is kept."""
SIDES = {"small": (40, 52), "large": (310, 400), "exact": (299, 299)}


def main(wheel):
    package = ModuleType("torch_fidelity")
    package.__path__ = [str(Path(wheel) / "torch_fidelity")]
    sys.modules["torch_fidelity"] = package
    resize = importlib.import_module("torch_fidelity.interpolate_compat_tensorflow")
    theirs = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")

    with tempfile.NamedTemporaryFile() as file:
        torch.save(drawn_weights(), file.name)
        network = theirs.FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], file.name).double()
    # By its own words for it, it computes in float32 all the same.
    network.feature_extractor_internal_dtype = torch.float64
    network.load_state_dict(drawn_weights())
    seen = []
    network.Mixed_6d.register_forward_hook(lambda module, x, out: seen.append(out))
    # It rounds to float32 what it gives, as the logits; the hooks read it before.
    network.AvgPool.register_forward_hook(lambda module, x, out: seen.append(out))
    found = {}
    for name, (height, width) in SIDES.items():
        seen.clear()
        _, logits = network(drawn_pictures(1, height, width))
        places, pooled = seen
        found[name] = {
            "spatial": places[0, :7].permute(1, 2, 0).flatten()[::EVERY].tolist(),
            "pooled": pooled.flatten()[::EVERY].tolist(),
            "logits": logits.flatten()[::EVERY].tolist(),
        }
    small = drawn_pictures(1, 5, 7).double()
    resized = resize.interpolate_bilinear_2d_like_tensorflow1x(small, size=(299, 299), align_corners=False)
    found["resized"] = resized.flatten()[::997].tolist()
    PATH.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
