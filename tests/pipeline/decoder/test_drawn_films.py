"""Films drawn at random, which say their own time: every frame, every stretch of sound and every second is judged."""

from __future__ import annotations

import tempfile
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.decoder.crop import ResizeCrop
from pipeline.decoder.reader import VideoReader, frames_at
from pipeline.decoder.settings import DecodeSettings
from shards.format.clip import ClipSpec
from tests.media import TICKS, Track, cheapest, chirp, coded, film, numbered, picture_time, sound_time

SPEC = ClipSpec(seconds=3.0, windows=3, frames_per_window=2)
CROP = ResizeCrop(64, 64)
SECONDS = 8.0
# suffix: (picture codec, sound codec, options of the file)
CONTAINERS = {
    ".mp4": ("libx264", "aac", {}),
    ".fragmented.mp4": ("libx264", "aac", {"movflags": "frag_keyframe+empty_moov"}),
    ".mov": ("libx264", "pcm_s16le", {}),
    ".mkv": ("libx264", "aac", {}),
    ".webm": ("libvpx", "libopus", {}),
    ".ts": ("libx264", "mp2", {}),
    ".avi": ("mpeg4", "libmp3lame", {}),
    ".flv": ("libx264", "aac", {}),
}
TURNED = (".mp4", ".mov", ".mkv")  # which keep a display matrix
EDITED = (".mp4", ".mov")  # whose edit list may hide a head, and whose display matrix may mirror
LEAPING = (".ts", ".mkv", ".webm", ".flv")  # whose clock may leap
TAKEN_OUT = 10.0  # seconds from which on a leap of all streams is no part of the film
HOLED = (".mp4", ".mkv")  # which keep a hole: MOV counts the samples of PCM


@dataclass(frozen=True)
class DrawnFilm:
    """`shown`: when each frame begins; the sound begins at `late` seconds. Times are what the film says of itself."""

    suffix: str
    shown: list[float]
    options: dict[str, str]
    late: float
    wander: float
    clock: float
    hole: tuple[float, float]  # without sound
    rotation: int  # degrees that the file asks a player to turn the pictures by, against the clock
    mirrored: bool  # left and right, then
    leap: tuple[float, float]  # of its clock: when, and by how many seconds

    @property
    def begin(self) -> float:
        """Where sound and picture have both begun. A frame that begins in a cut head is hidden, as in players."""
        return max(next(time for time in self.shown if time >= -self.clock), self.late)

    @property
    def silent(self) -> tuple[float, float]:
        """From when to when there is no sound; a leap that is no break counts as time of the film."""
        at, seconds = self.leap
        return (at, at + seconds) if 0 < seconds < TAKEN_OUT else self.hole

    def upright(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """As it is stored."""
        return np.rot90(np.fliplr(picture) if self.mirrored else picture, -self.rotation // 90)


@st.composite
def films(draw: st.DrawFn) -> DrawnFilm:
    suffix = draw(st.sampled_from(sorted(CONTAINERS)))
    even = draw(st.booleans()) or suffix == ".avi"  # which has a rate, and no times
    gap = draw(st.sampled_from([700.0, 5.0, 2.0, 0.5, 0.1, 1 / 25, 1 / 30, 1 / 60, 1 / 120]))
    gap = 1 / 25 if suffix == ".avi" else gap
    count = max(round(SECONDS / gap), 1)
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    gaps = np.full(count, gap) if even else gap * random.uniform(0.4, 3.0, count)
    begins = np.concatenate([[0.0], np.cumsum(gaps)])
    shown = [round(float(time), 3) for time in begins if time < SECONDS]
    options = {"g": draw(st.sampled_from(["1", "12", "50", "600"]))}
    if CONTAINERS[suffix][0] == "libx264":
        bframes, opened = draw(st.integers(0, 4)), draw(st.integers(0, 1))
        options["x264-params"] = f"bframes={bframes}:open-gop={opened}:keyint={options['g']}"
    begin, missing = draw(st.sampled_from([(0.0, 0.0), (0.0, 0.0), (0.7, 0.0), (0.0, 3.1)]))  # of the pictures
    if suffix != ".avi":
        begin = 0.0 if "fragmented" in suffix else begin  # its muxer shows the first frame from the start
        shown = [time for time in shown if time >= begin and not 2.4 <= time < 2.4 + missing] or [begin]
    late = draw(st.sampled_from([0.0, 0.0, 0.4, 1.3])) if suffix != ".avi" else 0.0
    wander = draw(st.sampled_from([0.0, 0.02, 0.04])) if suffix in (".mkv", ".ts", ".fragmented.mp4", ".flv") else 0.0
    clocks = [0.0, 0.0, 3.7, 40_000.0] + ([-0.9, -2.3] if suffix in EDITED else [])
    clock = draw(st.sampled_from(clocks)) if suffix in (".ts", ".mkv", *EDITED) else 0.0
    clock = clock if shown[-1] + clock >= 0 else 0.0
    hole = draw(st.sampled_from([(0.0, 0.0), (0.0, 0.0), (3.1, 3.5), (4.2, 6.3)])) if suffix in HOLED else (0.0, 0.0)
    rotation = draw(st.sampled_from([0, 0, 90, 180, -90])) if suffix in TURNED else 0
    mirrored = draw(st.booleans()) if suffix in EDITED else False
    leap = draw(st.sampled_from([(4.1, 0.0), (4.1, 0.0), (4.1, 3.0), (3.3, 25.0), (4.1, 5_000.0)]))
    sparse = max(np.diff([*shown, SECONDS])) > 1.0  # a picture stays: that the clock leapt nobody can tell
    leap = leap if suffix in LEAPING and not hole[1] and not (sparse and leap[1] > TAKEN_OUT) else (4.1, 0.0)
    return DrawnFilm(suffix, shown, options, late, wander, clock, hole, rotation, mirrored, leap)


def made(drawn: DrawnFilm, folder: str) -> Path:
    picture_codec, sound_codec, file_options = CONTAINERS[drawn.suffix]
    return film(
        Path(folder) / f"a{drawn.suffix}",
        SECONDS,
        codec=picture_codec,
        size=(64, 64),
        picture=numbered,
        shown=None if drawn.suffix == ".avi" else drawn.shown,
        last=None if drawn.suffix == ".avi" else SECONDS - drawn.shown[-1],
        tracks=[Track(chirp(SECONDS - drawn.late, drawn.late), start=drawn.late, hole=drawn.hole, codec=sound_codec)],
        options=drawn.options,
        file_options=file_options,
        clock=drawn.clock,
        wander=drawn.wander,
        rotation=drawn.rotation,
        mirrored=drawn.mirrored,
        leap=drawn.leap,
    )


def judge(drawn: DrawnFilm) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = made(drawn, folder)
        reader = VideoReader(path, SPEC, [CROP], DecodeSettings())
        clips = list(reader.clips())
        offset = drawn.clock if drawn.suffix in EDITED else min(coded(path))[0] - drawn.shown[0]  # of muxers' own
        times = [time for clip in clips for time in clip.got]
        again = [pictures[0] for _, pictures in frames_at(path, times, [CROP], DecodeSettings())]
    assert np.array_equal(again, np.concatenate([clip.pictures[0] for clip in clips]))

    def said(picture: NDArray[np.uint8]) -> float:
        return picture_time(drawn.upright(picture))

    begin, end = drawn.silent
    half = SPEC.sample_rate // 10
    for clip in clips:
        for asked, picture in zip(clip.asked, clip.pictures[0], strict=True):
            at = round((asked - clip.start) * SPEC.sample_rate)
            spoken = sound_time(clip.waveform[max(at - half, 0) : at + half], SPEC.sample_rate)
            if begin - 0.2 < asked - offset < end + 0.2:
                continue
            if np.isnan(spoken):  # a fragmented file begins both at once, with silence until the sound comes
                assert asked - half / SPEC.sample_rate < drawn.late + 0.1 and said(picture) <= drawn.late + 0.1
                continue
            # The sound tells what time it is on the film; the picture must be the one shown then.
            near = {
                bisect_right(drawn.shown, spoken + slack) - 1 for slack in (-0.03 - drawn.wander, 0.03 + drawn.wander)
            }
            shown = [drawn.shown[index] for index in range(max(min(near), 0), max(near) + 1)]
            assert any(abs(said(picture) - time) <= 0.5 / TICKS + 1e-6 for time in shown), (spoken, shown)
    account = reader.account
    assert account.seconds == pytest.approx(account.in_clips + sum(account.left_out.values()), abs=0.01)
    if drawn.suffix not in (".flv", ".fragmented.mp4"):  # whose muxers promise the delay of B-frames as length
        assert account.left_out.get("unread", 0.0) < 0.2 + drawn.wander
    assert account.in_clips == pytest.approx(sum(clip.seconds for clip in clips), abs=1e-3)
    leapt = drawn.leap[1] if drawn.leap[1] >= TAKEN_OUT else 0.0
    assert account.left_out.get("behind_break", 0.0) == pytest.approx(leapt, abs=0.2 + drawn.wander)
    assert account.repaired.get("clock_breaks", 0) == (leapt > 0)
    common = min(SECONDS, drawn.shown[-1] + 0.04) - drawn.begin + drawn.leap[1] - leapt
    assert account.in_clips > common - SPEC.window_seconds - 0.1 - drawn.wander


def judge_tolerance(drawn: DrawnFilm, tolerance: float) -> None:
    """The frame promised is taken, and its picture says that it is that one."""
    with tempfile.TemporaryDirectory() as folder:
        path = made(drawn, folder)
        packets = coded(path)
        begins = sorted(begin for begin, _ in packets)
        times = [begins[0] + time for time in np.arange(0.25, SECONDS, 0.5)]
        taken = list(frames_at(path, times, [CROP], DecodeSettings(sampling="tolerance", tolerance=tolerance)))
    for asked, (got, pictures) in zip(times, taken, strict=True):
        assert got == pytest.approx(cheapest(packets, asked, tolerance), abs=1e-6)
        said = drawn.shown[int(np.abs(np.subtract(begins, got)).argmin())]
        assert abs(picture_time(drawn.upright(pictures[0])) - said) <= 0.5 / TICKS + 1e-6


BOUNDS = {"suppress_health_check": list(HealthCheck), "derandomize": True}


@settings(max_examples=20, **BOUNDS)  # type: ignore[arg-type]
@given(films())
def test_drawn_films_are_read_right(drawn: DrawnFilm) -> None:
    judge(drawn)


@pytest.mark.faults
@settings(max_examples=200, **BOUNDS)  # type: ignore[arg-type]
@given(films())
def test_many_drawn_films_are_read_right(drawn: DrawnFilm) -> None:
    judge(drawn)


def is_plain(drawn: DrawnFilm) -> bool:
    """Whether its stamps are those of its packets: AVI, read exactly in any case, has none; others cut or leap."""
    return drawn.suffix != ".avi" and drawn.clock >= 0 and not drawn.leap[1]


TIMED = films().filter(is_plain)


@settings(max_examples=20, **BOUNDS)  # type: ignore[arg-type]
@given(TIMED, st.sampled_from([0.03, 0.2, 0.5, 1.0]))
def test_of_drawn_films_the_cheapest_frame_within_the_tolerance_is_taken(drawn: DrawnFilm, tolerance: float) -> None:
    judge_tolerance(drawn, tolerance)
