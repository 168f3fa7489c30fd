"""One unbroken run of decoded frames -> mono int16 at one rate, and what its channels hold before they are mixed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import cast

import av
import numpy as np
from av.error import ArgumentError
from av.filter import Graph
from numpy.typing import NDArray

RESAMPLER = "ffmpeg swresample, default filter, s16 mono downmix, placed by time stamps"
RATES = (1_000, 1_000_000)  # Hz that are believed: a file that claims 1 Hz would be resampled to days of sound
BATCH = 2**16  # samples at most that are looked at and resampled at once; a second where that is less
MEASURED_SECONDS = 20.0  # of sound, after which it is settled whether channels cancel: as long as a clip
CANCELS = 0.01  # of the channels' mean energy that is left in their mean, 20 dB below
QUIET = 328  # of an int16 sample, 40 dB below full scale
TOO_LOUD = 2.0  # times full scale, of float samples: of ordinary sound lossy codecs overshoot by less
DTYPES = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "s64": np.int64, "flt": np.float32, "dbl": np.float64}

FLOATS = ("flt", "dbl")


class ImpossibleFrame(Exception):
    """A decoded frame says of itself what no sound is: its packet was damaged, or made to harm."""


@dataclass
class ChannelStats:
    """What the channels of a track have held so far. Non-finite samples are made zero as they are counted."""

    samples: int = 0  # in all channels
    non_finite: int = 0
    too_loud: int = 0  # beyond TOO_LOUD; they are clipped at full scale as all others
    channels: int = 0
    seconds: float = 0.0  # of several channels that were measured, from the first sample on that is not zero
    energy: float = 0.0  # sum of the squares of all their samples
    first: float = 0.0  # ... of those of the first channel
    mixed: float = 0.0  # sum of the squares of the channels' sums
    lost_seconds: float = 0.0  # behind those, in which the channels cancel, so that their mean is next to silent

    @property
    def cancels(self) -> bool:
        """Whether next to nothing is left of the channels where they are mixed, and the first one is heard."""
        return self.mixed < CANCELS * self.channels * self.energy and self.first > CANCELS * self.energy

    @property
    def measured(self) -> bool:
        return self.channels == 1 or self.seconds >= MEASURED_SECONDS

    def add(self, frame: av.AudioFrame, kind: str, channels: int) -> None:
        """The next samples of the track, of a format in DTYPES; those that are no numbers become silence in place."""
        self.channels = channels
        self.samples += frame.samples * channels
        if kind in FLOATS:
            for samples in _planes(frame, kind):
                self._repair(samples)
        if not self.measured:
            self._measure(frame, kind)

    def add_quiet(self, frame: av.AudioFrame, kind: str) -> None:
        """A stretch behind what was measured, of whose mean little is heard."""
        alone = ChannelStats(channels=self.channels)
        alone._measure(frame, kind)
        if alone.cancels:
            self.lost_seconds += frame.samples / frame.sample_rate

    def _repair(self, samples: NDArray[np.float64]) -> None:
        if max(samples.max(), -samples.min()) <= TOO_LOUD:  # no array; untrue of what is no number
            return
        bad = ~np.isfinite(samples)
        self.non_finite += int(bad.sum())
        samples[bad] = 0
        self.too_loud += int((np.abs(samples) > TOO_LOUD).sum())

    def _measure(self, frame: av.AudioFrame, kind: str) -> None:
        planes = np.stack(_planes(frame, kind)).astype(np.float64) - (128 if kind == "u8" else 0)
        sound = planes if len(planes) > 1 else planes.reshape(-1, self.channels).T  # (channels, samples)
        total = sound.sum(axis=0)
        self.energy += float((sound * sound).sum())  # no dot: it wakes a thread for each core
        self.first += float((sound[0] * sound[0]).sum())
        self.mixed += float((total * total).sum())
        if self.energy:
            self.seconds += frame.samples / frame.sample_rate


def _planes(frame: av.AudioFrame, kind: str) -> list[NDArray[np.float64]]:
    """Writable views: one of (samples,) for each channel, or one of (samples * channels,) where they are packed."""
    channels = frame.layout.nb_channels
    planes, count = (channels, frame.samples) if frame.format.is_planar else (1, frame.samples * channels)
    # PyAV lists what lies behind the last pointer too, where a frame has many channels.
    return [np.frombuffer(plane, DTYPES[kind], count) for plane in frame.planes[:planes]]  # type: ignore[call-overload]


class Resampler:
    """An unbroken run of frames of one format on its way through swresample.

    To s16, since a downmix to float is not normalised. Gathered and read every `gathered` seconds: to look at each
    frame costs more than to resample. Channels that stand nowhere in a room are mixed to their mean; `left` takes the
    first alone.
    """

    def __init__(
        self,
        frame: av.AudioFrame,
        begin: float,
        sample_rate: int,
        stats: ChannelStats,
        *,
        left: bool = False,
        gathered: float = 1.0,
    ) -> None:
        self.end = begin  # seconds, of the frames fed so far
        self._begin, self._rate, self._fed, self._unread = begin, frame.sample_rate, 0, 0
        self._stats, self._left = stats, left
        self._unheard: deque[tuple[av.AudioFrame, bool]] = deque()  # given to the mix, and not come out of it
        self._kind, self._channels = frame.format.packed.name, frame.layout.nb_channels
        self._batch = min(round(gathered * frame.sample_rate), BATCH)
        source = {
            "sample_rate": str(frame.sample_rate),
            "sample_fmt": frame.format.name,
            "channel_layout": frame.layout.name,
            "time_base": f"1/{frame.sample_rate}",
        }
        ready = round(gathered * sample_rate)
        try:
            self._gather = _Chain(source, [], self._batch)
            target = ("aformat", f"sample_rates={sample_rate}:sample_fmts=s16:channel_layouts=mono")
            try:
                self._mix = _Chain(source, [*_mix(frame.layout, left), target], ready)
            except ArgumentError:  # swresample knows the layout by name alone
                self._mix = _Chain(source, [_mean(self._channels), target], ready)
        except ArgumentError as error:
            raise ImpossibleFrame(f"{frame.format.name}, {frame.layout.name}") from error

    def push(self, frame: av.AudioFrame) -> list[NDArray[np.int16]]:
        """Pieces of int16 (samples,) that became ready. Raises av.error.ArgumentError for a frame of another format."""
        self._gather.push(frame)
        samples = frame.samples
        self._fed += samples
        self._unread += samples
        self.end = self._begin + self._fed / self._rate
        if self._unread < self._batch:
            return []
        self._unread %= self._batch
        return self._read()

    def finish(self) -> list[NDArray[np.int16]]:
        """What is left."""
        self._gather.push(None)
        ready = self._read()
        self._mix.push(None)
        return ready + self._mixed()

    def _read(self) -> list[NDArray[np.int16]]:
        ready: list[NDArray[np.int16]] = []
        for frame in self._gather.pull():
            self._unheard.append((frame, self._stats.measured))
            self._stats.add(frame, self._kind, self._channels)
            self._mix.push(frame)
            ready += self._mixed()
        return ready

    def _mixed(self) -> list[NDArray[np.int16]]:
        """What the mix gives, second by second: where it is next to silent, the channels are looked at."""
        heard = _arrays(self._mix)
        for samples in heard[: len(self._unheard)]:
            frame, measured = self._unheard.popleft()
            if measured and self._channels > 1 and not self._left and np.abs(samples).max() < QUIET:
                self._stats.add_quiet(frame, self._kind)
        return heard


class _Chain:
    """Filters from one source to one sink that gives frames of `size` samples."""

    def __init__(self, source: dict[str, str], filters: list[tuple[str, str]], size: int) -> None:
        graph = self._graph = Graph()  # its filters do not keep it alive
        graph.threads = 1  # FFmpeg begins one for each core, up to 16, and sound has no slices for them
        self._source, self._sink = graph.add("abuffer", **source), graph.add("abuffersink")
        graph.link_nodes(self._source, *(graph.add(name, given) for name, given in filters), self._sink).configure()
        graph.set_audio_frame_size(size)

    def push(self, frame: av.AudioFrame | None) -> None:
        self._source.push(frame)

    def pull(self) -> list[av.AudioFrame]:
        frames = []
        while True:
            try:
                frames.append(cast(av.AudioFrame, self._sink.pull()))
            except (BlockingIOError, EOFError):
                return frames


def _arrays(chain: _Chain) -> list[NDArray[np.int16]]:
    return [frame.to_ndarray()[0].astype(np.int16, copy=False) for frame in chain.pull()]


def _mix(layout: av.AudioLayout, left: bool) -> list[tuple[str, str]]:
    """What comes before swresample's own downmix."""
    if left or layout.name.startswith("ambisonic"):  # whose first channel is the sound from all sides
        return [("pan", "mono|c0=c0")]
    if layout.nb_channels > 2 and layout.name.endswith(" channels"):  # swresample would guess some to be 2.1 and so on
        return [_mean(layout.nb_channels)]
    return []


def _mean(channels: int) -> tuple[str, str]:
    return "pan", "mono|c0<" + "+".join(f"c{channel}" for channel in range(channels))
