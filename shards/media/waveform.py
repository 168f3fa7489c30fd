"""Any media file's sound -> mono int16 at one rate, on its own timeline: the same way for training and evaluation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.error import ArgumentError
from av.filter import Graph
from numpy.typing import NDArray

from shards.media.file import MediaFile, UnreadableMedia

RESAMPLER = "ffmpeg swresample, default filter, s16 mono downmix, placed by time stamps"
RATES = (1_000, 1_000_000)  # Hz that are believed: a file that claims 1 Hz would be resampled to days of sound
JUMP_SECONDS = 0.02  # time stamps of one unbroken run jitter by less (Matroska keeps milliseconds)


class ImpossibleFrame(Exception):
    """A decoded frame says of itself what no sound is: its packet was damaged, or made to harm."""


class Resampler:
    """An unbroken run of frames of one format on its way through swresample.

    To s16, since a downmix to float is not normalised. Read once a second: to read after each frame costs more than to
    resample.
    """

    def __init__(self, frame: av.AudioFrame, begin: float, sample_rate: int) -> None:
        if not RATES[0] <= frame.sample_rate <= RATES[1]:
            raise ImpossibleFrame(f"{frame.sample_rate} samples a second")
        self.end = begin  # seconds, of the frames fed so far
        self.unit = float(frame.time_base or 1)  # seconds
        self._begin, self._rate, self._fed, self._unread = begin, frame.sample_rate, 0, 0
        graph = self._graph = Graph()  # its filters do not keep it alive
        self._source = graph.add(
            "abuffer",
            sample_rate=str(frame.sample_rate),
            sample_fmt=frame.format.name,
            channel_layout=frame.layout.name,
            time_base=f"1/{frame.sample_rate}",
        )
        convert = graph.add("aformat", sample_rates=str(sample_rate), sample_fmts="s16", channel_layouts="mono")
        self._sink = graph.add("abuffersink")
        try:
            graph.link_nodes(self._source, convert, self._sink).configure()
        except ArgumentError as error:
            raise ImpossibleFrame(f"{frame.format.name}, {frame.layout.name}") from error
        graph.set_audio_frame_size(sample_rate)

    def push(self, frame: av.AudioFrame) -> list[NDArray[np.int16]]:
        """Pieces of int16 (samples,) that became ready. Raises av.error.ArgumentError for a frame of another format."""
        self._source.push(frame)
        samples = frame.samples
        self._fed += samples
        self._unread += samples
        self.end = self._begin + self._fed / self._rate
        if self._unread < self._rate:
            return []
        self._unread = 0
        return self._read()

    def finish(self) -> list[NDArray[np.int16]]:
        """What is left."""
        self._source.push(None)
        return self._read()

    def _read(self) -> list[NDArray[np.int16]]:
        ready = []
        while True:
            try:
                ready.append(cast(av.AudioFrame, self._sink.pull()).to_ndarray()[0].astype(np.int16, copy=False))
            except (BlockingIOError, EOFError):
                return ready


class AudioTrack:
    """Mono int16 samples on the media's timeline: fed decoded frames, it hands out stretches and forgets them.

    Sample n stands for the time n / sample_rate. Within an unbroken run of frames samples follow each other exactly;
    where a frame's time stamp departs from that by more than JUMP_SECONDS the resampler is emptied and starts anew at
    the frame's own time, so that missing packets leave silence and overlapping ones are cut.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.written = 0  # one past the last sample that is ready; up to a second more is being resampled
        self.end_seconds: float | None = None  # where the frames fed so far end; None before the first
        self._pieces: deque[tuple[int, NDArray[np.int16]]] = deque()  # (first sample, samples), ascending
        self._run: Resampler | None = None
        self._next = 0  # where the run's next sample goes
        self._taken: int | None = None  # one past the last sample of take_ready; None before the first

    def push(self, frames: Iterable[av.AudioFrame]) -> None:
        """Takes the next decoded frames; one without a time stamp follows the one before it."""
        for frame in frames:
            with suppress(ImpossibleFrame):  # silence where it would have been
                self._push(frame)

    def _push(self, frame: av.AudioFrame) -> None:
        run, stamp = self._run, frame.pts
        if run is None or (stamp is not None and abs(stamp * run.unit - run.end) > JUMP_SECONDS):
            run = self._start_run(frame)
        if not frame.samples:
            return
        try:
            ready = run.push(frame)
        except ArgumentError:  # its format is not that of the frames before
            run = self._start_run(frame)
            ready = run.push(frame)
        self.end_seconds = run.end
        self._place(ready)

    def finish(self) -> None:
        """No more frames will come."""
        if self._run is not None:
            self._place(self._run.finish())
            self._run = None

    def take(self, first: int, samples: int) -> NDArray[np.int16]:
        """int16 (samples,) from sample `first` on, silent where no sound is; everything before its end is forgotten."""
        end = first + samples
        waveform = np.zeros(samples, np.int16)
        while self._pieces and self._pieces[0][0] < end:
            begin, piece = self._pieces.popleft()
            low, high = max(begin, first), min(begin + len(piece), end)
            if low < high:
                waveform[low - first : high - first] = piece[low - begin : high - begin]
            if begin + len(piece) > end:
                self._pieces.appendleft((end, piece[end - begin :]))
        return waveform

    def take_ready(self) -> NDArray[np.int16]:
        """int16 (samples,): all that is ready and was not handed out before, each following the one before it."""
        if not self._pieces:
            return np.empty(0, np.int16)
        first = self._pieces[0][0] if self._taken is None else self._taken
        self._taken = self.written
        return self.take(first, self.written - first)

    def _start_run(self, frame: av.AudioFrame) -> Resampler:
        before = self.end_seconds
        begin = (before if frame.pts is None else frame.time) or 0.0
        self.finish()
        self._run = Resampler(frame, begin, self.sample_rate)
        self._next = round(begin * self.sample_rate)
        if before is None:
            self.written = self._next
        return self._run

    def _place(self, ready: list[NDArray[np.int16]]) -> None:
        for samples in ready:
            fresh = samples[max(0, self.written - self._next) :]  # what overlaps is cut
            self._next += len(samples)
            if len(fresh):
                self._pieces.append((self._next - len(fresh), fresh))
                self.written = self._next


def read_waveform(path: Path, sample_rate: int) -> NDArray[np.int16]:
    """int16 (samples,): all sound of a media file, mono, from the sound's own start.

    Of several tracks the default one, unless it is digitally silent and another is not. Raises UnreadableMedia.
    """
    return np.concatenate(list(stream_waveform(path, sample_rate)))


def stream_waveform(path: Path, sample_rate: int) -> Iterator[NDArray[np.int16]]:
    """The same in pieces of about a second, in memory that does not grow.

    Raises UnreadableMedia, at the end where nothing could be decoded.
    """
    with MediaFile(path) as media:
        several = len(media.audio_streams()) > 1
    track = audible_track(path, sample_rate) if several else None
    decoded = False
    audio = AudioTrack(sample_rate)
    with MediaFile(path) as media:
        stream = media.audio_stream(track)
        for packet in media.packets(stream):
            audio.push(media.decoded(stream.codec_context.decode, packet))
            if len(piece := audio.take_ready()):
                decoded = True
                yield piece
        audio.push(media.decoded(stream.codec_context.decode, None))
        audio.finish()
    if len(piece := audio.take_ready()):
        yield piece
    elif not decoded:
        raise UnreadableMedia("damaged" if media.errors else "no_audio", "no sound could be decoded")


def audible_track(path: Path, sample_rate: int, progress: Callable[[], None] = lambda: None) -> int | None:
    """Index of the first sound track, the default one before the others, that is not digitally silent; None if all are.

    Reads each up to its first sample that is not zero, and nothing but sound.
    """
    with MediaFile(path) as media:
        tracks = [stream.index for stream in media.audio_streams()]
    return next((index for index in tracks if _is_audible(path, index, sample_rate, progress)), None)


def _is_audible(path: Path, index: int, sample_rate: int, progress: Callable[[], None]) -> bool:
    audio = AudioTrack(sample_rate)
    with MediaFile(path) as media:
        stream = media.audio_stream(index)
        for packet in media.packets(stream):
            progress()
            audio.push(media.decoded(stream.codec_context.decode, packet))
            if audio.take_ready().any():
                return True
        audio.push(media.decoded(stream.codec_context.decode, None))
    audio.finish()
    return bool(audio.take_ready().any())
