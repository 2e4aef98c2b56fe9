"""The weights of FID's Inception: one file of tensors, under torchvision's names.

pytorch-fid and torch-fidelity publish it as pt_inception-2015-12-05-6726825d.pth; the same as safetensors is read, too.
"""

from __future__ import annotations

from pathlib import Path

import torch

from latentbrush.formats.empty import without_memory
from latentbrush.formats.keys import INCEPTION
from latentbrush.formats.weights import load_file
from latentbrush.nn import Inception

__all__ = ["load_inception"]


def load_inception(path: str | Path, *, dtype: torch.dtype = torch.float32) -> Inception:
    """Read FID's Inception from a file of its weights, in eval mode; no code in it is run.

    UserError for whatever is missing, unused, mis-shaped or not finite, as torchvision's own weights are, whose network
    is another.
    """
    with without_memory():
        network = Inception()
    load_file(network, Path(path), INCEPTION, dtype, "FID's Inception (2015-12-05)")
    return network.eval()
