"""Batches on the device: read into pinned memory, copied on a stream of their own, short clips tiled there."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shards.format.clip import ClipSpec
from shards.loader.batch import Batch, Skip
from train.data.augment import Augment

IN_FLIGHT = 2  # host batches that may be on their way to the device while others are being filled


class Reader(Protocol):
    """Where host batches come from and go back to: the readers of shards/loader."""

    def __next__(self) -> Batch: ...

    def release(self, batch: Batch) -> None: ...

    def close(self) -> None: ...


@dataclass
class DeviceBatch:
    """What one step is taken on. Rows from `len(clips)` on hold no clip (a last validation batch).

    In training another clip stands in the row of a skipped one; in validation that row holds no clip.
    """

    waveform: Tensor  # int16 (rows, samples); a short clip repeats until the end
    gain: Tensor | None  # float32 (rows, 1), to multiply the waveform by
    posteriors: dict[str, Tensor]  # head -> float16 (rows, windows, classes), repeated like the sound
    clips: NDArray[np.int64]  # (count,), catalog indices; -1 where the reader gives no numbers
    consumed: int  # clips of the stream, all ranks together, once this batch is trained on
    skipped: list[Skip] = field(default_factory=list)


class DeviceBatches:
    """Iterates over a reader's batches as they lie on `device`; each host buffer goes back once it is copied.

    Copies run beside the arithmetic: the loop launches work ahead of the device, and a copy waits for none of it.
    """

    def __init__(
        self,
        reader: Reader,
        clip: ClipSpec,
        device: torch.device,
        *,
        augment: Augment | None = None,
        seed: int = 0,
        consumed: int = 0,
    ) -> None:
        self._reader, self._clip, self._device = reader, clip, device
        self._augment, self._seed = augment or Augment(), seed
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._copying: deque[tuple[torch.cuda.Event, Batch]] = deque()
        self.consumed = consumed  # clips of the stream, all ranks together, up to the batch handed out last

    def __iter__(self) -> Iterator[DeviceBatch]:
        return self

    def __next__(self) -> DeviceBatch:
        self._give_back()
        batch = next(self._reader)
        if self._stream is None:
            ready = self._prepare(batch)
            self._reader.release(batch)
        else:
            with torch.cuda.stream(self._stream):
                ready = self._prepare(batch)
                self._copying.append((self._stream.record_event(), batch))
            self._hand_over(ready)
        self.consumed = ready.consumed
        return ready

    def close(self) -> None:
        """Stop reading; no copy is under way afterwards."""
        for copied, _ in self._copying:
            copied.synchronize()
        self._copying.clear()
        self._reader.close()

    def _give_back(self) -> None:
        while self._copying and (len(self._copying) >= IN_FLIGHT or self._copying[0][0].query()):  # type: ignore[no-untyped-call]
            copied, batch = self._copying.popleft()
            copied.synchronize()
            self._reader.release(batch)

    def _prepare(self, batch: Batch) -> DeviceBatch:
        """The batch's bytes on the device, on the current stream; then what is left to do to them there."""
        shifts, gains = self._augment.draw(self._seed, batch.position + np.arange(batch.rows), self._clip.samples)
        waveform = self._send(batch.waveform)
        posteriors = {head: self._send(posterior) for head, posterior in batch.posteriors.items()}
        short = (batch.lengths < self._clip.samples) | (batch.windows < self._clip.windows)
        changed = np.flatnonzero((short | (shifts > 0)) & (batch.lengths > 0))
        if len(changed):
            for row in changed.tolist():
                _repeat(waveform[row], int(batch.lengths[row]), int(shifts[row]))
            columns = (changed, shifts[changed], batch.windows[changed])
            rows, shift, windows = (self._send(column.astype(np.int64)) for column in columns)
            for posterior in posteriors.values():
                _repeat_windows(posterior, rows, windows, shift / self._clip.window_samples)
        gain = None if gains is None else self._send(gains.astype(np.float32)[:, None])
        return DeviceBatch(waveform, gain, posteriors, batch.clips, batch.consumed, batch.skipped)

    def _send(self, array: NDArray[np.generic]) -> Tensor:
        tensor = torch.from_numpy(array)
        if self._stream is None:
            return tensor.clone()
        return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(self._device, non_blocking=True)

    def _hand_over(self, ready: DeviceBatch) -> None:
        """Let the loop's stream wait for the copies, and keep their memory until that stream is through with it."""
        current = torch.cuda.current_stream(self._device)
        current.wait_event(self._copying[-1][0])
        for tensor in [ready.waveform, ready.gain, *ready.posteriors.values()]:
            if tensor is not None:
                tensor.record_stream(current)


def pinned_ring(
    count: int, rows: int, clip: ClipSpec, classes: Mapping[str, int], device: torch.device
) -> Sequence[Batch]:
    """Host batches for a reader to fill, in pinned memory where a GPU copies from them. `count` are read ahead."""
    pin = device.type == "cuda"
    return [
        Batch(
            waveform=torch.zeros((rows, clip.samples), dtype=torch.int16, pin_memory=pin).numpy(),
            lengths=np.zeros(rows, np.int32),
            windows=np.zeros(rows, np.int32),
            posteriors={
                head: torch.zeros((rows, clip.windows, size), dtype=torch.float16, pin_memory=pin).numpy()
                for head, size in classes.items()
            },
        )
        for _ in range(count + IN_FLIGHT)
    ]


def _repeat(values: Tensor, length: int, shift: int) -> None:
    """Fill values (size,) with their first `length` entries over and over, and begin the whole at `shift`."""
    size = len(values)
    repeated = values[:length].repeat(-(-size // length))[:size]
    values[: size - shift] = repeated[shift:]
    values[size - shift :] = repeated[:shift]


def _repeat_windows(values: Tensor, rows: Tensor, windows: Tensor, shift: Tensor) -> None:
    """The same for `rows` of values (all rows, size, classes), each with its windows and its shift in windows.

    A window that begins a fraction f into one and ends in the next has (1 - f) of the first's label and f of the other.
    """
    size, whole = values.shape[1], shift.floor()
    first = torch.arange(size, device=values.device) + whole.long()[:, None]  # (rows, size)
    one, other = (values[rows[:, None], index % size % windows[:, None]].float() for index in (first, first + 1))
    values[rows] = torch.lerp(one, other, (shift - whole).float()[:, None, None]).to(values.dtype)
