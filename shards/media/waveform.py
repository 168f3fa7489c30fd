"""Any media file's sound -> mono int16 at one rate, on its own timeline: the same way for training and evaluation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.error import ArgumentError
from numpy.typing import NDArray

from shards.media.demux import Demuxer
from shards.media.file import MediaFile
from shards.media.placement import JUMP_SECONDS, SPLIT_SECONDS, STEADY_SECONDS, FramePlacer, PlacedFrame
from shards.media.rejects import UnreadableMedia
from shards.media.resample import RATES, RESAMPLER, TOO_LOUD, ChannelStats, ImpossibleFrame, Resampler
from shards.media.wave import Shortfall, read_header

__all__ = [
    "JUMP_SECONDS",
    "RESAMPLER",
    "AudioTrack",
    "TrackChoice",
    "audible_track",
    "read_waveform",
    "stream_waveform",
]

LACKING_SECONDS = 0.5  # of what a header promises; codecs add some at both ends
HOLE_SECONDS = 600.0  # without sound, in one that is read from end to end: a leap of its clock, and is left out


class AudioTrack:
    """Mono int16 samples on the media's timeline: fed decoded frames, it hands out stretches and forgets them.

    Sample n stands for the time n / sample_rate. Within an unbroken run of frames samples follow each other exactly;
    where the stamps of the frames ahead all say so (see placement.py), the resampler is emptied and starts anew at
    their time, so that missing packets leave silence and overlapping ones are cut. Channels are mixed, or, with `left`,
    the first is taken alone.
    """

    def __init__(self, sample_rate: int, *, left: bool = False) -> None:
        self.sample_rate = sample_rate
        self.left = left
        self.written = 0  # one past the last sample that is ready; up to 1.5 seconds more are on their way
        self.begin_seconds: float | None = None  # where the first frame was placed
        self.end_seconds: float | None = None  # where the frames placed so far end; None before the first
        self.gaps = 0  # filled with silence, of more than SPLIT_SECONDS
        self.gap_seconds = 0.0
        self.overlap_seconds = 0.0  # of sound that was cut, since it claimed a time that had been given to other sound
        self.hole_seconds = 0.0  # left out by take_ready
        self.missing = 0  # of the samples that `take` gave last, those where no sound is
        self.stats = ChannelStats()
        self._placer = FramePlacer()
        self._pieces: deque[tuple[int, NDArray[np.int16]]] = deque()  # (first sample, samples), ascending
        self._run: Resampler | None = None
        self._next = 0  # where the run's next sample goes
        self._taken: int | None = None  # one past the last sample of take_ready; None before the first

    @property
    def smoothed(self) -> int:
        """Frames that stand more than STEADY_SECONDS from where their time stamps say."""
        return self._placer.smoothed

    @property
    def non_finite(self) -> int:
        """Samples, of all channels, that were no numbers and became silence."""
        return self.stats.non_finite

    @property
    def cancels(self) -> bool:
        """Whether next to nothing is left of its channels where they are mixed; settled when `stats.measured`."""
        return self.stats.cancels

    @property
    def mono(self) -> str:
        """How the channels became one, where that is not their mean."""
        return "left channel: the channels cancel" if self.left else ""

    @property
    def repairs(self) -> list[str]:
        """What was mended so far, in words."""
        loud = self.stats.too_loud
        found = {
            f"gaps filled with silence: {self.gaps}, of {self.gap_seconds:.2f} s in all": self.gaps,
            f"{self.hole_seconds:.0f} s without sound left out": self.hole_seconds,
            f"{self.overlap_seconds:.2f} s of overlapping sound cut": self.overlap_seconds,
            f"time stamps that were slightly off, corrected: {self.smoothed}": self.smoothed,
            f"samples that are no numbers, made silent: {self.non_finite}": self.non_finite,
            f"samples beyond {TOO_LOUD:g} times full scale, clipped: {loud}": loud,
            self.mono: self.mono,
            f"{self.stats.lost_seconds:.0f} s nearly silent: the channels cancel": self.stats.lost_seconds,
        }
        return [words for words, happened in found.items() if happened]

    def push(self, frames: Iterable[av.AudioFrame]) -> None:
        """Takes the next decoded frames; one without a time stamp follows the one before it."""
        for frame in frames:
            if frame.samples and RATES[0] <= frame.sample_rate <= RATES[1]:
                for placed in self._placer.push(frame):
                    self._push(placed)

    def _push(self, placed: PlacedFrame) -> None:
        with suppress(ImpossibleFrame):  # silence where it would have been
            run = self._run
            if run is None or placed.begins:
                run = self._start_run(placed.frame, placed.time)
            try:
                ready = run.push(placed.frame)
            except ArgumentError:  # its format is not that of the frames before
                stamp = placed.frame.time
                exact = stamp is not None and abs(stamp - run.end) < STEADY_SECONDS
                run = self._start_run(placed.frame, stamp if exact and stamp is not None else run.end)
                ready = run.push(placed.frame)
            self.end_seconds = run.end
            self._place(ready)

    def finish(self) -> None:
        """No more frames will come."""
        for placed in self._placer.finish():
            self._push(placed)
        self._finish_run()

    def take(self, first: int, samples: int) -> NDArray[np.int16]:
        """int16 (samples,) from sample `first` on, silent where no sound is; everything before its end is forgotten."""
        end = first + samples
        waveform = np.zeros(samples, np.int16)
        self.missing = samples
        while self._pieces and self._pieces[0][0] < end:
            begin, piece = self._pieces.popleft()
            low, high = max(begin, first), min(begin + len(piece), end)
            if low < high:
                waveform[low - first : high - first] = piece[low - begin : high - begin]
                self.missing -= high - low
            if begin + len(piece) > end:
                self._pieces.appendleft((end, piece[end - begin :]))
        return waveform

    def take_ready(self) -> Iterator[NDArray[np.int16]]:
        """All that is ready and was not handed out before: int16 (samples,) each, a second or less, without a break.

        A stretch of more than HOLE_SECONDS without sound is left out.
        """
        while self._pieces:
            begin, piece = self._pieces[0]
            first = begin if self._taken is None else self._taken
            if begin - first > HOLE_SECONDS * self.sample_rate:
                self.hole_seconds += (begin - first) / self.sample_rate
                first = begin
            silence = min(begin - first, self.sample_rate)
            self._taken = first + (silence or len(piece))
            yield np.zeros(silence, np.int16) if silence else self._pieces.popleft()[1]

    def _start_run(self, frame: av.AudioFrame, begin: float) -> Resampler:
        before = self.end_seconds
        self._finish_run()
        self._run = Resampler(frame, begin, self.sample_rate, self.stats, left=self.left)
        self._next = round(begin * self.sample_rate)
        if before is None:
            self.begin_seconds, self.written = begin, self._next
        elif begin - before > SPLIT_SECONDS:
            self.gaps += 1
            self.gap_seconds += begin - before
        elif before - begin > SPLIT_SECONDS:
            self.overlap_seconds += before - begin
        return self._run

    def _finish_run(self) -> None:
        if self._run is not None:
            self._place(self._run.finish())
            self._run = None

    def _place(self, ready: list[NDArray[np.int16]]) -> None:
        for samples in ready:
            fresh = samples[max(0, self.written - self._next) :]  # what overlaps is cut
            self._next += len(samples)
            if len(fresh):
                self._pieces.append((self._next - len(fresh), fresh))
                self.written = self._next


class TrackChoice(NamedTuple):
    """A sound track by its stream index, and whether its first channel is taken alone, since the two cancel."""

    stream: int
    left: bool


def read_waveform(path: Path, sample_rate: int, log: Callable[[str], None] = lambda line: None) -> NDArray[np.int16]:
    """int16 (samples,): all sound of a media file, mono, from the sound's own start.

    Of several tracks the default one, unless it is digitally silent and another is not; of channels that cancel
    the first. What was mended, or is missing by the file's own header, goes to `log` in a line. Raises UnreadableMedia.
    """
    return np.concatenate(list(stream_waveform(path, sample_rate, log)))


def stream_waveform(
    path: Path, sample_rate: int, log: Callable[[str], None] = lambda line: None
) -> Iterator[NDArray[np.int16]]:
    """The same in pieces of about a second, in memory that does not grow.

    Raises UnreadableMedia, at the end where nothing could be decoded.
    """
    header = read_header(path)
    with MediaFile(path) as media:
        tracks = media.audio_streams()
        choice = TrackChoice(tracks[0].index, False)
        if len(tracks) > 1:
            choice = audible_track(path, sample_rate) or choice
    audio = AudioTrack(sample_rate, left=choice.left)
    if header and header.shortfall:
        log(str(header.shortfall))
    given, held = 0, list[NDArray[np.int16]]()
    for piece in _pieces(path, choice.stream, audio, log=log):
        held.append(piece)
        if audio.left or audio.stats.measured or not audio.stats.energy:
            if audio.cancels and not audio.left:
                break
            given += sum(map(len, held))
            yield from held
            held = []
    if audio.cancels and not audio.left:
        audio = AudioTrack(sample_rate, left=True)
        yield from _without(given, _pieces(path, choice.stream, audio, log=log))
    else:
        yield from held
    if audio.repairs:
        log("; ".join(audio.repairs))


def _pieces(
    path: Path,
    index: int,
    audio: AudioTrack,
    progress: Callable[[], None] = lambda: None,
    log: Callable[[str], None] = lambda line: None,
) -> Iterator[NDArray[np.int16]]:
    """All that one sound track gives, through `audio`. Raises UnreadableMedia, at the end where that is nothing."""
    header = read_header(path)
    with Demuxer(path, options=header.options if header else {}, progress=progress) as media:
        stream = media.audio_stream(index)
        pictures = []
        with suppress(UnreadableMedia):  # they know of the film's clock what sound alone does not
            pictures = [media.video_stream()]
        for packet in media.packets(stream, beside=pictures):
            progress()
            audio.push(media.decoded(stream.codec_context.decode, packet))
            yield from audio.take_ready()
        audio.push(media.decoded(stream.codec_context.decode, None))
        audio.finish()
        if audio.end_seconds is not None and not pictures:
            shortfall = Shortfall(media.stated_seconds(stream), audio.end_seconds - (audio.begin_seconds or 0.0))
            if shortfall.promised - shortfall.found > LACKING_SECONDS:
                log(str(shortfall))
    yield from audio.take_ready()
    if audio.end_seconds is None:
        raise UnreadableMedia("damaged" if media.errors else "no_audio", "no sound could be decoded")
    if audio.non_finite and audio.non_finite == audio.stats.samples:
        raise UnreadableMedia("damaged", "none of the samples of its sound is a number")


def _without(samples: int, pieces: Iterable[NDArray[np.int16]]) -> Iterator[NDArray[np.int16]]:
    """The pieces behind the first so many samples."""
    for piece in pieces:
        if len(rest := piece[samples:]):
            yield rest
        samples = max(samples - len(piece), 0)


def audible_track(path: Path, sample_rate: int, progress: Callable[[], None] = lambda: None) -> TrackChoice | None:
    """The first sound track, the main one before the others, that is not digitally silent; None if all are.

    Reads each up to where its sound is heard and, if it has several channels, it is settled whether they cancel;
    nothing but sound. Raises UnreadableMedia where no track has a sample that is a number.
    """
    with MediaFile(path) as media:
        tracks = [stream.index for stream in media.audio_streams()]
    faults: list[UnreadableMedia] = []
    for index in tracks:
        audio, audible = AudioTrack(sample_rate), False
        try:
            for piece in _pieces(path, index, audio, progress):
                audible = audible or bool(piece.any())
                if audio.stats.measured and (audible or audio.cancels):
                    break
        except UnreadableMedia as fault:
            faults.append(fault)
        if audible or audio.cancels:
            return TrackChoice(index, left=audio.cancels)
    if len(faults) == len(tracks):
        raise faults[0]
    return None
