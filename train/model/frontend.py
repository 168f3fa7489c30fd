"""The network as the loop calls it: behind the scaling of its input, shared among ranks, compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from train.data.batches import DeviceBatch
from train.device.device import Compiler
from train.device.distributed import Ranks
from train.model.student import scaled


class Ear(nn.Module):
    """Hears 16-bit samples (rows, samples), made louder by gain (rows, 1), as its network wants them.

    Scaling belongs into the same compiled graph: what travels through memory then is 16 bits a sample.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, waveform: Tensor, gain: Tensor | None = None) -> Any:
        return self.network(heard(waveform, gain))


def heard(waveform: Tensor, gain: Tensor | None = None) -> Tensor:
    """The waveform that a network gets: float32 (rows, samples) in [-256, 256], times the gain."""
    return scaled(waveform) if gain is None else scaled(waveform) * gain


def shared(ear: Ear, device: torch.device, ranks: Ranks) -> nn.Module:
    """The ear with its gradients averaged over all ranks; alone, the ear itself.

    On GPUs batch norm takes its statistics over all ranks' clips (never run on more than one GPU by its authors).
    SyncBatchNorm refuses CPU tensors, so there each rank normalises its own share.
    """
    if ranks.world == 1:
        return ear
    if device.type == "cuda":
        ear.network = nn.SyncBatchNorm.convert_sync_batchnorm(ear.network)  # type: ignore[no-untyped-call]
        # The statistics are the same on all ranks already, so they are not sent around at each step.
        device_ids = [device.index]
        return DistributedDataParallel(ear, device_ids, broadcast_buffers=False, gradient_as_bucket_view=True)
    return DistributedDataParallel(ear, gradient_as_bucket_view=True)


def hearing(ear: nn.Module, compiled: Compiler) -> Callable[[DeviceBatch], Any]:
    """The compiled ear as a function of a batch."""
    fast = compiled(ear)
    return lambda batch: fast(batch.waveform, batch.gain)
