"""The executor on one machine: decode workers feed batched teacher processes through shared-memory slots.

Everything that decides a byte of the result follows the plan's order and not that of arrival: batches are cut in clip
order within a shard, and videos come out in the order they went in. Only the waiting differs with the number of workers.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections import deque
from collections.abc import Iterable, Iterator
from ctypes import c_double
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.sharedctypes import RawValue

from pipeline.decoder import ClipHead, Decoding, Summary, Task, run_decoder
from pipeline.labeller import Labelling, Posteriors, SlotClip, run_labeller
from pipeline.slots import Slots

POLL_SECONDS = 0.5
SPAWN = multiprocessing.get_context("spawn")  # children import what they need, and inherit no pipe of a neighbour


class TeacherFailed(RuntimeError):
    """A teacher process died: a fault of the set-up (memory, device, weights), never of one video."""


@dataclass(frozen=True)
class Machine:
    """How much of the machine is used; none of it changes a result, but for `device` and `batch_clips`."""

    devices: list[str]
    decoders: int
    slots: int
    batch_clips: int = 8
    stall_seconds: float = 60.0


@dataclass
class Clip:
    """A decoded clip, from its slot to its posteriors."""

    head: ClipHead
    slot: int
    posteriors: Posteriors | None = None


@dataclass
class Job:
    """A video under way; finished once its summary is there, complete once its clips are labelled too."""

    task: Task
    clips: list[Clip] = field(default_factory=list)
    summary: Summary | None = None
    batched: int = 0  # clips handed to a batch so far

    @property
    def complete(self) -> bool:
        return self.summary is not None and all(clip.posteriors is not None for clip in self.clips)


@dataclass
class Decoder:
    """The executor's side of a decode worker."""

    process: SpawnProcess
    pipe: Connection
    clock: c_double
    job: Job | None = None
    waits: bool = False  # has a clip in hand and no slot for it
    slot: int | None = None  # granted, and not yet filled


@dataclass
class Labeller:
    """The executor's side of a teacher process."""

    process: SpawnProcess
    pipe: Connection
    ready: bool = False
    batch: list[Clip] | None = None


class Executor:
    """Labels videos. Use as a context; `label` yields each video when it is complete, in the order given."""

    def __init__(self, decoding: Decoding, labelling: Labelling, machine: Machine) -> None:
        self.decoding, self.labelling, self.machine = decoding, labelling, machine
        self.slots = Slots.create(decoding.views, decoding.spec.frames, wanted=machine.slots, least=machine.batch_clips)
        self.free = deque(range(self.slots.count))
        self.order: deque[Job] = deque()  # under way, in the plan's order
        self.uncut: deque[Job] = deque()  # those of them that may still give clips to a batch
        self.batch: list[Clip] = []  # being filled
        self.batches: deque[list[Clip]] = deque()  # cut, and waiting for a teacher
        self.batch_shard = ""
        self.labellers = [self._start_labeller(device) for device in machine.devices]
        self.decoders = [self._start_decoder() for _ in range(machine.decoders)]

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (child.process for child in (*self.decoders, *self.labellers)):
            process.kill()
            process.join()
        self.slots.destroy()

    def label(self, tasks: Iterable[Task]) -> Iterator[Job]:
        """Yield every video, labelled or with the reason it is rejected for. Raises TeacherFailed."""
        self.tasks = iter(tasks)
        self.upcoming: Task | None = next(self.tasks, None)
        while self.upcoming is not None or self.order:
            self._assign()
            self._grant()
            self._cut_batches()
            self._dispatch()
            self._receive()
            self._kill_stalled()
            while self.order and self.order[0].complete:
                yield self.order.popleft()

    def _assign(self) -> None:
        for decoder in self.decoders:
            if decoder.job is None and self.upcoming is not None:
                decoder.job = Job(self.upcoming)
                decoder.clock.value = time.monotonic()
                self.order.append(decoder.job)
                self.uncut.append(decoder.job)
                self._send(decoder, self.upcoming)
                self.upcoming = next(self.tasks, None)

    def _grant(self) -> None:
        """Slots go out in plan order, and one batch's worth is kept for the first unfinished video.

        That video's clips are the next that a batch waits for. Were later videos allowed to take the last slots, they
        would hold them until a batch that cannot be cut; kept this way, whenever no slot is free, a full batch is there.
        """
        first = next((job for job in self.order if job.summary is None), None)
        waiting = [decoder for decoder in self.decoders if decoder.waits and decoder.job is not None]
        for decoder in sorted(waiting, key=_number):
            reserve = 0 if decoder.job is first else self.machine.batch_clips
            if len(self.free) > reserve:
                decoder.slot, decoder.waits = self.free.popleft(), False
                decoder.clock.value = time.monotonic()
                self._send(decoder, decoder.slot)

    def _cut_batches(self) -> None:
        """Move decoded clips into batches, in plan order; a batch never spans two shards, so a shard stands alone."""
        while self.uncut:
            job = self.uncut[0]
            if job.task.shard != self.batch_shard:
                self._close_batch()
                self.batch_shard = job.task.shard
            for clip in job.clips[job.batched :]:
                self.batch.append(clip)
                if len(self.batch) == self.machine.batch_clips:
                    self._close_batch()
            job.batched = len(job.clips)
            if job.summary is None:
                return
            self.uncut.popleft()
        if self.upcoming is None or self.upcoming.shard != self.batch_shard:
            self._close_batch()

    def _close_batch(self) -> None:
        if self.batch:
            self.batches.append(self.batch)
        self.batch = []

    def _dispatch(self) -> None:
        for labeller in self.labellers:
            if labeller.ready and labeller.batch is None and self.batches:
                labeller.batch = self.batches.popleft()
                clips = [SlotClip(clip.slot, clip.head.frames, clip.head.windows) for clip in labeller.batch]
                labeller.pipe.send(clips)

    def _receive(self) -> None:
        """Wait for the next messages, and take them in."""
        children = {child.pipe: child for child in (*self.decoders, *self.labellers)}
        for pipe in wait(list(children), timeout=POLL_SECONDS):
            child = children[pipe]  # type: ignore[index]
            try:
                message = child.pipe.recv()
            except (EOFError, ConnectionResetError):
                self._bury(child)
                continue
            if isinstance(child, Labeller):
                self._take_posteriors(child, message)
            else:
                self._take_decoded(child, message)

    def _take_posteriors(self, labeller: Labeller, message: str | list[Posteriors]) -> None:
        if isinstance(message, str):
            labeller.ready = True
            return
        assert labeller.batch is not None
        for clip, posteriors in zip(labeller.batch, message, strict=True):
            clip.posteriors = posteriors
            self.free.append(clip.slot)
        labeller.batch = None

    def _take_decoded(self, decoder: Decoder, message: str | ClipHead | Summary) -> None:
        assert decoder.job is not None
        if isinstance(message, ClipHead):
            assert decoder.slot is not None
            decoder.job.clips.append(Clip(message, decoder.slot))
            decoder.slot = None
        elif isinstance(message, Summary):
            decoder.job.summary = message
            decoder.job = None
        else:
            decoder.waits = True

    def _kill_stalled(self) -> None:
        """A decoder without progress is killed; the pipe's end then says so, and its video is rejected."""
        now = time.monotonic()
        for decoder in self.decoders:
            busy = decoder.job is not None and not decoder.waits
            if busy and now - decoder.clock.value > self.machine.stall_seconds:
                decoder.process.kill()
                self._replace(decoder, Summary("stalled", f"no progress for {self.machine.stall_seconds:g} s"))

    def _bury(self, child: Decoder | Labeller) -> None:
        """A process has ended by itself: reject its video and start another; without its teacher a run has to stop."""
        child.process.join()
        code = child.process.exitcode
        if isinstance(child, Labeller):
            raise TeacherFailed(f"a teacher process ended with exit code {code}; its own message stands above")
        self._replace(child, Summary("crashed", f"the decoder's process ended with exit code {code}"))

    def _replace(self, decoder: Decoder, summary: Summary) -> None:
        decoder.process.join()
        decoder.pipe.close()
        if decoder.slot is not None:
            self.free.append(decoder.slot)
        if decoder.job is not None:
            decoder.job.summary = summary
        self.decoders[self.decoders.index(decoder)] = self._start_decoder()

    def _send(self, decoder: Decoder, message: Task | int) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a dead worker's pipe says so when it is read
            decoder.pipe.send(message)

    def _start_decoder(self) -> Decoder:
        ours, theirs = SPAWN.Pipe()
        clock = RawValue(c_double, time.monotonic())
        arguments = (theirs, self.decoding, self.slots.memory.name, self.slots.count, clock)
        process = SPAWN.Process(target=run_decoder, args=arguments, daemon=True)
        process.start()
        theirs.close()
        return Decoder(process, ours, clock)

    def _start_labeller(self, device: str) -> Labeller:
        ours, theirs = SPAWN.Pipe()
        arguments = (theirs, self.labelling, device, self.slots.memory.name, self.slots.count)
        process = SPAWN.Process(target=run_labeller, args=arguments, daemon=True)
        process.start()
        theirs.close()
        return Labeller(process, ours)


def _number(decoder: Decoder) -> int:
    assert decoder.job is not None
    return decoder.job.task.number
