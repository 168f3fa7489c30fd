"""Training in several processes: this one's rank, sums over all ranks, and the network shared by them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from shards.errors import UserError, require_same
from train.model.frontend import Frontend

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

    def agree_on_buffers(self, network: nn.Module) -> None:
        """Rank 0's batch-norm statistics for everyone, so that all ranks validate the network that is saved."""
        if self.world > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)


def data_parallel(frontend: Frontend, device: torch.device, ranks: Ranks, *, sync_batch_norm: bool) -> nn.Module:
    """The network with its gradients averaged over all ranks; with one rank, as it is.

    Each rank normalises its own share, as the paper's one GPU did its 64 clips. `sync_batch_norm` takes the statistics
    over all ranks' clips, by 14 exchanges a step that all wait for; it takes no tensors of a CPU.
    """
    if ranks.world == 1:
        return frontend
    if sync_batch_norm:
        frontend.network = nn.SyncBatchNorm.convert_sync_batchnorm(frontend.network)  # type: ignore[no-untyped-call]
    device_ids = [device.index] if device.type == "cuda" else None
    parallel = DistributedDataParallel(frontend, device_ids, gradient_as_bucket_view=True)
    # Statistics are not sent around at each step: rank 0's are saved, and `agree_on_buffers` before they are used. Set
    # here, since the argument has another name in newer versions of torch.
    parallel.broadcast_buffers = False
    return parallel
