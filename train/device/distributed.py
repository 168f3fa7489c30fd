"""Training in several processes: this one's rank, what all ranks agree on, their sums and mean gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from shards.errors import UserError, require_same

V = TypeVar("V")


@dataclass(frozen=True)
class Ranks:
    """This process among all of them; alone it is rank 0 of 1. Only rank 0 writes anything."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0  # on its machine
    control: dist.ProcessGroup | None = None  # for what the hosts agree on, never waiting for a GPU
    writing: Lock = field(default_factory=Lock)  # held while a file is written, which the death of others lets end

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def average(self, values: Tensor) -> Tensor:
        """The mean over all ranks; `values` stay as they are."""
        return self.total(values.clone()) / self.world

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.control is not None:
            dist.barrier(self.control)

    def share(self, value: V) -> V:
        """Rank 0's value, for everyone."""
        values = [value]
        if self.control is not None:
            dist.broadcast_object_list(values, 0, self.control)
        return values[0]

    def gather(self, value: V) -> list[V]:
        """Every rank's value, in their order, for everyone."""
        values = [value] * self.world
        if self.control is not None:
            dist.all_gather_object(values, value, self.control)
        return values

    def require_same(self, facts: Mapping[str, Any], remedy: str) -> None:
        """Raise ContractError, on every rank, where a rank's facts are not those of rank 0."""
        found = self.gather(facts)
        for rank, its_facts in enumerate(found):
            require_same(found[0], its_facts, f"rank {rank}", remedy, this="rank 0")

    def require_shares(self, batch: int, parts: int) -> None:
        """Raise UserError where the ranks cannot share each of the parts of a batch evenly."""
        if batch % (parts * self.world):
            each = f", {batch // parts} for each of accumulate={parts} parts," if parts > 1 else ""
            raise UserError(
                f"a batch of {batch} clips{each} cannot be shared by {self.world} ranks: set batch to a multiple of "
                f"{parts * self.world}"
            )

    def agree_on(self, tensors: Iterable[Tensor]) -> None:
        """Rank 0's values for everyone, in place."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give everyone the mean of all ranks' gradients, in one exchange in which each number has one place for ever.

        DistributedDataParallel moves them about after the first step that it sees, and three ranks and more add up by
        place: a run that was resumed would not be the undisturbed one any more.
        """
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.world > 1:
            mean = self.total(torch.cat([gradient.flatten() for gradient in gradients])) / self.world
            parts = torch.split(mean, [gradient.numel() for gradient in gradients])
            for gradient, part in zip(gradients, parts, strict=True):
                gradient.copy_(part.view_as(gradient))
