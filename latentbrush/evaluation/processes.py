"""Several processes that share a set of pictures, as `torchrun` starts them, and one that speaks for all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch.distributed as dist

from latentbrush.evaluation.gather import Gathered

__all__ = ["Processes", "processes"]


@dataclass(frozen=True)
class Processes:
    """This one is `rank` of `world`."""

    rank: int = 0
    world: int = 1

    @property
    def share(self) -> tuple[int, int]:
        return self.rank, self.world

    @property
    def speaks(self) -> bool:
        """Whether it is this one that prints and writes."""
        return self.rank == 0

    def merged(self, gathered: Gathered) -> Gathered:
        """What all have gathered, the same in every one."""
        if self.world == 1:
            return gathered
        every: list[Gathered | None] = [None] * self.world
        dist.all_gather_object(every, gathered)
        whole = Gathered(gathered.name, gathered.identity)
        for one in every:
            assert one is not None
            whole.merge(one)
        return whole


@contextmanager
def processes() -> Iterator[Processes]:
    """As WORLD_SIZE and RANK say; alone without them."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes()
        return
    dist.init_process_group("gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
