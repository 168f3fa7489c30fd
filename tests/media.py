"""Tiny videos of every bad habit, made on the spot with PyAV; what they show and when is known."""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

RATE = 48_000


@dataclass(frozen=True)
class Track:
    """A sound track: float (samples,) at RATE from `start` seconds on, without packets that begin within `hole`."""

    waveform: NDArray[np.floating]
    start: float = 0.0
    hole: tuple[float, float] = (0.0, 0.0)
    codec: str = "aac"
    default: bool = True
    comments: bool = False  # on the film, as a director's commentary
    title: str = ""


@functools.lru_cache(maxsize=2)
def tone(seconds: float, hertz: float = 440.0) -> NDArray[np.floating]:
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)


def clicks(seconds: float, times: Sequence[float]) -> NDArray[np.floating]:
    """Bursts of 20 ms, silence between them."""
    waveform = np.zeros(round(seconds * RATE))
    for time in times:
        first = round(time * RATE)
        burst = 0.9 * np.sin(2 * np.pi * 2_000 * np.arange(RATE // 50) / RATE)
        waveform[first : first + len(burst)] = burst[: len(waveform) - first]
    return waveform


def moving(size: tuple[int, int], seed: int = 0) -> Callable[[float], NDArray[np.uint8]]:
    """A texture that moves and brightens with time: no two frames are equal."""
    small = np.random.default_rng(seed).integers(0, 200, (12, 16, 3))
    texture = small.repeat(size[1] // 6, axis=0).repeat(size[0] // 8, axis=1)

    def at(time: float) -> NDArray[np.uint8]:
        step = round(time * 25)
        rolled = np.roll(texture, (step // 2, step), axis=(0, 1))[: size[1], : size[0]]
        return (rolled + step % 50).astype(np.uint8)

    return at


def flashing(size: tuple[int, int], times: Sequence[float], width: float = 0.1) -> Callable[[float], NDArray[np.uint8]]:
    """Black, and white for `width` seconds from each of the times on."""

    def at(time: float) -> NDArray[np.uint8]:
        white = any(flash - 1e-6 <= time < flash + width - 1e-6 for flash in times)
        return np.full((size[1], size[0], 3), 255 * white, np.uint8)

    return at


TICKS = 50  # a second: what the numbers of `numbered` count


def numbered(time: float) -> NDArray[np.uint8]:
    """uint8 (64, 64, 3): a picture that says its own time, in 16 blocks, one a bit of its fiftieths of a second."""
    bits = (round(time * TICKS) >> np.arange(16) & 1).reshape(4, 4)
    return np.where(bits, 235, 16).repeat(16, 0).repeat(16, 1)[..., None].repeat(3, 2).astype(np.uint8)


def picture_time(picture: NDArray[np.uint8]) -> float:
    """Seconds that a picture (64, 64, 3) of `numbered` says of itself."""
    blocks = picture.astype(float).mean(-1).reshape(4, 16, 4, 16)[:, 5:11, :, 5:11].mean((1, 3))
    return int(((blocks > 126).ravel() << np.arange(16)).sum()) / TICKS


@functools.lru_cache(maxsize=2)
def chirp(seconds: float, begin: float = 0.0) -> NDArray[np.floating]:
    """Float (samples,): a sound that says its own time; at t seconds its tone has 500 + 100 t Hz."""
    time = begin + np.arange(round(seconds * RATE)) / RATE
    return 0.4 * np.sin(2 * np.pi * (500 * time + 50 * time**2))


def coded(path: Path) -> list[tuple[float, bool]]:
    """(seconds at which its frame begins, whether it is a key frame) of each picture packet, in file order."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None and not packet.is_discard]
        return [(float(packet.pts * packet.time_base), packet.is_keyframe) for packet in packets]


def cheapest(packets: Sequence[tuple[float, bool]], asked: float, tolerance: float) -> float:
    """Begin of the frame that `sampling=tolerance` takes: the nearest key frame, the first coded, or what is shown."""
    near = [(begin, key) for begin, key in packets if abs(begin - asked) <= tolerance + 1e-6]
    keys = sorted((abs(begin - asked), begin) for begin, key in near if key)
    if keys:
        return keys[0][1]
    shown = max((begin for begin, _ in packets if begin <= asked + 1e-6), default=min(packets)[0])
    return near[0][0] if near else shown


def sound_time(samples: NDArray[np.int16], rate: int) -> float:
    """Seconds that a stretch of `chirp` of some 0.2 s says of its own centre; nan where there is no tone."""
    if not len(samples) or np.abs(samples).max() < 200:
        return float("nan")
    time = (np.arange(len(samples)) - len(samples) / 2) / rate
    straight = np.hanning(len(samples)) * samples * np.exp(-1j * np.pi * 100 * time**2)  # without its slope: one line
    spectrum = np.abs(np.fft.fft(straight, 1 << 17)[: 1 << 16])
    return float(spectrum.argmax() * rate / (1 << 17) - 500) / 100


def film(
    path: Path,
    seconds: float = 6.0,
    *,
    fps: int = 25,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    picture: Callable[[float], NDArray[np.uint8]] | None = None,
    shown: Sequence[float] | None = None,
    tracks: Sequence[Track] | None = None,
    file_options: dict[str, str] | None = None,
    rotation: int = 0,
    mirrored: bool = False,
    sample_aspect: Fraction | None = None,
    last: float | None = None,
    hole: tuple[float, float] = (0.0, 0.0),
    garbage: bool = False,
    all_keys: bool = False,
    cover: bool = False,
    metadata: dict[str, str] | None = None,
    unsaid: bool = False,
    clock: float = 0.0,
    leap: tuple[float, float] = (math.inf, 0.0),
    lag: float = 0.0,
    wander: float = 0.0,
) -> Path:
    """A video. `shown` gives the frames' times where they are not even, `last` how long the last of them stays.

    Picture packets shown within `hole` are left out; with `garbage` all of them are noise, with `all_keys` they all
    claim to be key frames, with `unsaid` none says how long it lasts; `clock` is added to every time stamp, below zero
    an MP4 hides the head by an edit list; every stamp from `leap[0]` on is `leap[1]` seconds later; sound lies `lag`
    seconds behind its pictures in the file; the stamps of its packets wander by up to `wander` seconds. `mirrored`: an
    MP4's display matrix turns left and right, behind the rotation.
    """
    picture = picture or moving(size)
    tracks = [Track(tone(seconds))] if tracks is None else tracks
    base = Fraction(1, fps) if shown is None else Fraction(1, 1000)
    times = [index / fps for index in range(round(seconds * fps))] if shown is None else list(shown)
    with av.open(str(path), "w", options=file_options or {}) as container:
        container.metadata.update(metadata or {})
        stream = video_stream(container, codec, fps, size, options)
        stream.codec_context.time_base = base
        if sample_aspect:
            stream.codec_context.sample_aspect_ratio = sample_aspect
        if rotation:
            stream.set_display_rotation(rotation)
        packets = _encode_pictures(stream, picture, times, base)
        if last is not None:
            packets[-1].duration = round(last / base)
        packets = _falsified(packets, hole, garbage=garbage, all_keys=all_keys, unsaid=unsaid)
        sounds = [(track, _add_sound(container, track)) for track in tracks]
        art = [_add_art(container)] if cover else []
        for track, sound in sounds:
            packets += _encode_sound(sound, track)
        packets += [packet for stream in art for packet in _encode_art(stream)]
        _wander([packet for packet in packets if packet.stream.type == "audio"], wander)
        for packet in sorted(packets, key=lambda each: each.dts * each.time_base + lag * (each.stream.type == "audio")):
            packet.pts, packet.dts = (_shifted(stamp, packet, clock, leap) for stamp in (packet.pts, packet.dts))
            container.mux(packet)
    if mirrored:
        _mirror(path)
    return path


def _falsified(
    packets: list[av.Packet], hole: tuple[float, float], *, garbage: bool, all_keys: bool, unsaid: bool
) -> list[av.Packet]:
    packets = [_noise_like(packet) for packet in packets] if garbage else packets
    for packet in packets:
        packet.is_keyframe |= all_keys
        packet.duration = 0 if unsaid else packet.duration
    return [packet for packet in packets if not hole[0] <= _seconds(packet) < hole[1]]


def _shifted(stamp: int, packet: av.Packet, clock: float, leap: tuple[float, float]) -> int:
    after = leap[1] if stamp * packet.time_base >= leap[0] else 0
    return stamp + round((clock + after) / packet.time_base)


def _mirror(path: Path) -> None:
    """Of the first track's matrix, ISO 14496-12, 8.3.2: x is shown at ax + cy, y at bx + dy; a and c are negated."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    for place in (matrix, matrix + 12):
        data[place : place + 4] = struct.pack(">i", -struct.unpack_from(">i", data, place)[0])
    path.write_bytes(data)


def video_stream(
    container: av.container.OutputContainer,
    codec: str,
    fps: int,
    size: tuple[int, int],
    options: dict[str, str] | None = None,
) -> av.VideoStream:
    """A stream to encode pictures of (width, height) pixels into; all films of tests are encoded here.

    Their bytes are the same each time. With several threads x264 makes others on another number of cores; and its
    assembly now and then makes others of 64 x 48 pixels, in one thread too.
    """
    same = {"x264opts": "asm=0"} if codec == "libx264" else {}
    stream = container.add_stream(codec, fps, options=same | (options or {}))
    stream.width, stream.height, stream.pix_fmt = *size, "yuvj420p" if codec == "mjpeg" else "yuv420p"
    stream.codec_context.thread_count = 1
    return stream


def sound_file(
    path: Path,
    waveform: NDArray[np.floating],
    codec: str,
    *,
    rate: int = RATE,
    start: float = 0.0,
    file_options: dict[str, str] | None = None,
) -> Path:
    """Sound alone, float (samples,) or (channels, samples)."""
    with av.open(str(path), "w", options=file_options or {}) as container:
        stream = container.add_stream(codec, rate, layout="mono" if waveform.ndim == 1 else "stereo")
        container.mux(_encode_sound(stream, Track(waveform, start), rate))
    return path


def cover_art(path: Path, waveform: NDArray[np.floating] | None) -> Path:
    """An MP3 with a picture attached, or the picture alone in the same kind of file."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("libmp3lame", RATE, layout="mono") if waveform is not None else None
        container.mux(_encode_art(_add_art(container)))
        if sound is not None:
            container.mux(_encode_sound(sound, Track(waveform)))
    return path


def remuxed(
    source: Path,
    path: Path,
    *,
    shift: float = 0.0,
    leap: tuple[float, float] = (math.inf, 0.0),
    across: bool = False,
    file_options: dict[str, str] | None = None,
) -> Path:
    """The same packets in another container, `shift` seconds later.

    `leap`: from the first key frame behind so many seconds on, and sound from then on, by so many seconds more; with
    `across` each stamp from that time on, so that B-frames are decoded on one side and shown on the other.
    """
    behind = math.inf
    with av.open(str(source)) as given, av.open(str(path), "w", options=file_options or {}) as container:
        streams = {stream.index: container.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if packet.dts is not None:
                time, is_picture = _seconds(packet), packet.stream.type == "video"
                if is_picture and packet.is_keyframe and time >= leap[0]:
                    behind = min(behind, time)
                leapt = behind < math.inf if is_picture and not across else time >= leap[0]
                decoded = packet.dts * packet.time_base >= leap[0] if across else leapt
                packet.pts += round((shift + leapt * leap[1]) / packet.time_base)
                packet.dts += round((shift + decoded * leap[1]) / packet.time_base)
                packet.stream = streams[packet.stream.index]
                container.mux(packet)
    return path


def damaged(
    source: Path,
    path: Path,
    *,
    share: float = 0.0,
    seed: int = 0,
    keep: float = 1.0,
    within: tuple[float, float] = (0.0, 1.0),
) -> Path:
    """A copy of which only the first `keep` is left, and in which a `share` of the bytes behind its head are wrong.

    Or of those `within` a part of it. The index at an MP4's end stays whole.
    """
    data = bytearray(source.read_bytes())
    data = data[: int(len(data) * keep)]
    random = np.random.default_rng(seed)
    end = data.rindex(b"moov") if b"moov" in data[4096:] else len(data)
    first, last = max(4096, int(within[0] * end)), int(within[1] * end)
    for place in random.integers(first, last, int(share * (end if within == (0.0, 1.0) else last - first))):
        data[place] = random.integers(256)
    path.write_bytes(data)
    return path


def _add_art(container: av.container.OutputContainer) -> av.VideoStream:
    art = video_stream(container, "mjpeg", 1, (64, 48))
    art.disposition = Disposition.attached_pic
    return art


def _encode_art(art: av.VideoStream) -> list[av.Packet]:
    frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 200, np.uint8), format="rgb24")
    frame.pts, frame.time_base = 0, Fraction(1, 1)
    return [*art.encode(frame), *art.encode(None)]


def _encode_pictures(
    stream: av.VideoStream, picture: Callable[[float], NDArray[np.uint8]], times: Sequence[float], base: Fraction
) -> list[av.Packet]:
    packets = []
    for time in times:
        frame = av.VideoFrame.from_ndarray(picture(time), format="rgb24")
        frame.pts, frame.time_base = round(time / base), base
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def _wander(packets: list[av.Packet], seconds: float) -> None:
    """Move each stamp by up to so much, and keep them rising."""
    random, last = np.random.default_rng(len(packets)), None
    for packet in packets if seconds else ():
        stamp = packet.pts + round(random.uniform(-seconds, seconds) / packet.time_base)
        last = stamp if last is None else max(stamp, last + 1)
        packet.pts = packet.dts = last


def _noise_like(packet: av.Packet) -> av.Packet:
    noise = av.Packet(np.random.default_rng(packet.size).bytes(packet.size))
    noise.pts, noise.dts, noise.time_base, noise.stream = packet.pts, packet.dts, packet.time_base, packet.stream
    noise.is_keyframe = packet.is_keyframe
    return noise


def _add_sound(container: av.container.OutputContainer, track: Track) -> av.AudioStream:
    stream = container.add_stream(track.codec, RATE, layout="mono")
    stream.disposition = Disposition.default if track.default else Disposition(0)
    if track.comments:
        stream.disposition |= Disposition.comment
    if track.title:
        stream.metadata["title"] = track.title
    return stream


def _encode_sound(stream: av.AudioStream, track: Track, rate: int = RATE) -> list[av.Packet]:
    packets = []
    for first in range(0, track.waveform.shape[-1], 1024):
        block = np.atleast_2d(track.waveform)[:, first : first + 1024]
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(block, np.float32), "fltp", "mono" if track.waveform.ndim == 1 else "stereo"
        )
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = first + round(track.start * rate)
        packets += stream.encode(frame)
    packets += stream.encode(None)
    return [packet for packet in packets if not track.hole[0] <= _seconds(packet) < track.hole[1]]


def _seconds(packet: av.Packet) -> float:
    return float(packet.pts * packet.time_base)
