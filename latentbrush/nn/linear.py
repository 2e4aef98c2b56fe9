"""A linear layer that is computed by the quicker of two libraries."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Linear"]

LEAST_ROWS = 32
"""Below that a convolution costs more to prepare than it saves."""


class Linear(nn.Linear):
    """`nn.Linear`, on a CPU in float32 computed as a convolution with a 1x1 kernel.

    For a product of matrices torch asks Intel's MKL, which takes the widest instructions on Intel's processors only;
    its convolutions ask oneDNN, which goes by what the processor can do. On an AMD EPYC with AVX-512 the same layer
    takes 0.4 to 0.8 of the time this way, forwards and backwards (benchmarks/linear.py). Channels come last in the
    convolution, so that nothing is moved in memory.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        rows = x.numel() // self.in_features
        quicker = rows >= LEAST_ROWS and x.dtype == torch.float32 and x.device.type in ("cpu", "meta")
        if not quicker or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch leaves it so
            return super().forward(x)
        columns = x.reshape(1, rows, 1, self.in_features).permute(0, 3, 1, 2)
        y = F.conv2d(columns, self.weight[:, :, None, None], self.bias)
        return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.out_features)
