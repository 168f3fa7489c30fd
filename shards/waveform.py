"""Any media file's sound -> mono int16 at one rate, on the media's own timeline: the same way for training and evaluation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import av
import numpy as np
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from shards.media import HOLE_SECONDS, MediaFile, Reason, UnreadableMedia

__all__ = ["RESAMPLER", "Reason", "SoundTrack", "UnreadableMedia", "choose_track", "is_audible", "read_waveform"]

RESAMPLER = "ffmpeg swresample, default filter, s16 mono downmix, placed by time stamps"
JUMP_SECONDS = 0.02  # time stamps of one unbroken run jitter by less (Matroska keeps milliseconds)


class SoundTrack:
    """Mono int16 samples on the media's timeline: fed decoded frames, it hands out stretches and forgets them.

    Sample n stands for the time n / sample_rate. Within an unbroken run of frames samples follow each other exactly; where a
    frame's time stamp departs from that by more than JUMP_SECONDS the resampler is emptied and starts anew at the frame's
    own time, so that missing packets leave silence and overlapping ones are cut.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.ended = False  # after a leap of HOLE_SECONDS nothing more is taken
        self._pieces: deque[tuple[int, NDArray[np.int16]]] = (
            deque()
        )  # (first sample, samples), ascending, not overlapping
        self._resampler: AudioResampler | None = None
        self._source: tuple[str, str, int] | None = None  # what the resampler was built for
        self._anchor = 0.0  # seconds at which the present run began
        self._run = 0  # source samples in it so far
        self._next = 0  # where the resampler's next sample goes
        self._begin: float | None = None
        self._written = 0

    @property
    def begin_seconds(self) -> float | None:
        """Where the sound begins, None before any has come."""
        return self._begin

    @property
    def written(self) -> int:
        """One past the last sample that is ready; the resampler may hold up to a second more."""
        return self._written

    @property
    def end_seconds(self) -> float | None:
        """Where the sound that was fed so far ends."""
        return None if self._source is None else self._anchor + self._run / self._source[2]

    def push(self, frame: av.AudioFrame) -> None:
        """Takes the next decoded frame; one without a time stamp follows the one before it."""
        if self.ended or not frame.samples:
            return
        expected = self.end_seconds
        time = frame.time if frame.pts is not None else (expected or 0.0)
        if expected is not None and time - expected > HOLE_SECONDS:
            self.ended = True
            return
        source = (frame.format.name, frame.layout.name, frame.sample_rate)
        if source != self._source or expected is None or abs(time - expected) > JUMP_SECONDS:
            self._start_run(time, source)
        self._run += frame.samples
        frame.pts = None  # its place is settled; the resampler is not to second-guess it
        self._place(self._resampler.resample(frame))

    def push_all(self, frames: Iterable[av.AudioFrame]) -> None:
        """Takes the next decoded frames."""
        for frame in frames:
            self.push(frame)

    def finish(self) -> None:
        """Empties the resampler: no more frames will come."""
        if self._resampler is not None:
            self._place(self._resampler.resample(None))
            self._resampler = None

    def take(self, first: int, samples: int) -> NDArray[np.int16]:
        """int16 (samples,) from sample `first` on, silent where there is no sound; everything before its end is forgotten."""
        waveform = np.zeros(samples, np.int16)
        while self._pieces and self._pieces[0][0] < first + samples:
            begin, piece = self._pieces.popleft()
            low, high = max(begin, first), min(begin + len(piece), first + samples)
            if low < high:
                waveform[low - first : high - first] = piece[low - begin : high - begin]
            if begin + len(piece) > first + samples:
                self._pieces.appendleft((first + samples, piece[first + samples - begin :]))
                break
        return waveform

    def take_ready(self) -> NDArray[np.int16]:
        """int16 (samples,): all that is ready and was not handed out before."""
        first = self._pieces[0][0] if self._pieces else self._written
        return self.take(first, self._written - first)

    def _start_run(self, time: float, source: tuple[str, str, int]) -> None:
        self.finish()
        # frames of a second: handing samples over one small frame at a time costs more than resampling them
        self._resampler = AudioResampler("s16", "mono", self.sample_rate, frame_size=self.sample_rate)
        self._source = source
        self._anchor, self._run = time, 0
        self._next = round(time * self.sample_rate)
        if self._begin is None:
            self._begin, self._written = time, self._next

    def _place(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:
            samples = frame.to_ndarray()[0]
            fresh = samples[max(0, self._written - self._next) :]  # what overlaps is cut
            self._next += len(samples)
            if len(fresh):
                self._pieces.append((self._next - len(fresh), fresh))
                self._written = self._next


def read_waveform(path: Path, sample_rate: int) -> NDArray[np.int16]:
    """int16 (samples,): all sound of a media file, mono, from the sound's own start.

    Raises UnreadableMedia.
    """
    with MediaFile(path) as media:
        stream = media.sound(choose_track(path, media, sample_rate))
        sound = SoundTrack(sample_rate)
        for packet in media.packets(stream):
            sound.push_all(media.decode(stream, packet))
        sound.push_all(media.decode(stream, None))
        sound.finish()
    waveform = sound.take_ready()
    if not len(waveform):
        raise UnreadableMedia("damaged" if media.errors else "no_audio", "no sound could be decoded")
    return waveform


def choose_track(path: Path, media: MediaFile, sample_rate: int, progress: Callable[[], None] = lambda: None) -> int:
    """Index of the sound track to read: the default one, unless it is digitally silent and another is not."""
    tracks = [stream.index for stream in media.sounds()]
    if len(tracks) == 1:
        return tracks[0]
    return next((index for index in tracks if is_audible(path, index, sample_rate, progress)), tracks[0])


def is_audible(path: Path, index: int, sample_rate: int, progress: Callable[[], None] = lambda: None) -> bool:
    """Whether any sample of this track is not zero; reads no further than the first such sample, and nothing but sound."""
    sound = SoundTrack(sample_rate)
    with MediaFile(path) as media:
        stream = media.sound(index)
        for packet in media.packets(stream):
            progress()
            sound.push_all(media.decode(stream, packet))
            if sound.take_ready().any():
                return True
        sound.push_all(media.decode(stream, None))
    sound.finish()
    return bool(sound.take_ready().any())
