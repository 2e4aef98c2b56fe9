"""Several processes that share a set of pictures, as `torchrun` starts them, and one that speaks for all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from latentbrush.errors import UserError, short
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

    def merged(self, own: Callable[[], Gathered]) -> Gathered:
        """What all gather, each by its `own`, the same in every one. UserError in all where one has it."""
        if self.world == 1:
            return own()
        mine: Gathered | UserError
        try:
            mine = own()
        except UserError as error:  # the others must not wait for what never comes
            mine = error
        every: list[Any] = [None] * self.world
        try:
            dist.all_gather_object(every, mine)
        except RuntimeError:
            raise UserError("another of the processes has ended before its time; see what it printed") from None
        for one in every:
            if isinstance(one, UserError):
                raise one
        first, *others = every
        whole = Gathered(first.name, first.identity)
        for one in (first, *others):
            whole.merge(one)
        return whole


@contextmanager
def processes() -> Iterator[Processes]:
    """As WORLD_SIZE and RANK say; alone without them."""
    world = os.environ.get("WORLD_SIZE", "1")
    if world == "1":
        yield Processes()
        return
    try:
        dist.init_process_group("gloo")
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"WORLD_SIZE is {short(world)}, but the processes find one another not ({reason}); start them with "
            "torchrun, or unset WORLD_SIZE"
        ) from None
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
