"""Sound of any file against an independent resampler, and samples at their places whatever the time stamps do."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr

from shards.media.rejects import UnreadableMedia
from shards.media.waveform import JUMP_SECONDS, AudioTrack, read_waveform, stream_waveform
from tests.media import RATE, Track, clicks, cover_art, damaged, film, sound_file, tone

TARGET = 22_050


def chirp(seconds: float, rate: int) -> np.ndarray:
    """Sweeps from 50 Hz to 8 kHz, below where two resamplers' filters differ; fades in and out."""
    time = np.arange(round(seconds * rate)) / rate
    fade = np.minimum(1, np.minimum(time, seconds - time) / 0.05)
    return 0.5 * fade * np.sin(2 * np.pi * (50 * time + (8_000 - 50) / (2 * seconds) * time**2))


def decibels(error: np.ndarray, signal: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(error, dtype=float)) / np.mean(np.square(signal, dtype=float))))


def below_8_khz(waveform: np.ndarray) -> np.ndarray:
    spectrum = np.fft.rfft(waveform.astype(float))
    spectrum[len(spectrum) * 8_000 * 2 // TARGET :] = 0
    return np.fft.irfft(spectrum, len(waveform))


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("file", ["a.wav", "a.flac"])
def test_lossless_sound_is_what_soxr_makes_of_it(file, rate, tmp_path):
    source = chirp(2.0, rate) if rate >= TARGET else chirp(2.0, rate) * 0 + 0.3 * np.sin(np.arange(2 * rate) / 20)
    soundfile.write(tmp_path / file, source, rate, subtype="PCM_16")
    ours = read_waveform(tmp_path / file, TARGET)
    expected = soxr.resample(source, rate, TARGET, quality="VHQ") * 2**15
    assert ours.dtype == np.int16 and ours.ndim == 1
    assert abs(len(ours) - 2 * TARGET) <= 1
    middle = slice(1_000, 2 * TARGET - 1_000)
    assert decibels(ours[middle] - expected[middle], expected[middle]) < -55


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-(2**15), 2**15, samples, dtype=np.int16)


@pytest.mark.parametrize("samples", [noise(50_000), np.zeros(50_000, np.int16)], ids=["noise", "silence"])
def test_sound_at_the_rate_asked_for_is_not_touched(samples, tmp_path):
    soundfile.write(tmp_path / "a.wav", samples, TARGET)
    assert np.array_equal(read_waveform(tmp_path / "a.wav", TARGET), samples)


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 16])
def test_channels_are_mixed_without_clipping(channels, tmp_path):
    source = np.tile(0.99 * np.sign(tone(0.5))[:, None], channels)
    soundfile.write(tmp_path / "a.wav", source, RATE, subtype="PCM_16")
    waveform = read_waveform(tmp_path / "a.wav", RATE).astype(int)
    assert 2**15 * 0.9 < np.abs(waveform).max() < 2**15 - 1  # a float downmix would be louder and clip


@pytest.mark.parametrize(
    ("file", "codec"),
    [("a.mp3", "libmp3lame"), ("a.m4a", "aac"), ("a.ogg", "libopus"), ("a.ogg", "flac"), ("a.mka", "aac")],
)
def test_lossy_sound_keeps_its_place(file, codec, tmp_path):
    times = [0.5, 1.1, 2.3]
    waveform = read_waveform(sound_file(tmp_path / file, clicks(3.0, times), codec), TARGET)
    loud = np.flatnonzero(np.abs(waveform.astype(int)) > 8_000) / TARGET
    begins = loud[np.insert(np.diff(loud) > 0.2, 0, True)]
    assert begins == pytest.approx(times, abs=0.025)


def test_the_sound_of_a_video(tmp_path):
    path = film(tmp_path / "a.mp4", 2.0, tracks=[Track(tone(2.0))])
    waveform = read_waveform(path, TARGET)
    assert len(waveform) == pytest.approx(2 * TARGET, abs=0.03 * TARGET)
    expected = 2**15 * 0.3 * np.sin(2 * np.pi * 440 * np.arange(TARGET) / TARGET)
    assert decibels(waveform[1_000:TARGET] - expected[1_000:], expected) < -20  # AAC itself


def test_a_late_track_is_read_from_its_own_start(tmp_path):
    path = film(tmp_path / "a.mkv", 4.0, tracks=[Track(tone(2.0), start=1.5)])
    waveform = read_waveform(path, TARGET)
    assert len(waveform) == pytest.approx(2 * TARGET, abs=0.06 * TARGET)
    assert waveform[2_000:4_000].any()


def test_a_silent_default_track_gives_way(tmp_path):
    tracks = [Track(0 * tone(1)), Track(0 * tone(1), default=False), Track(tone(1), default=False)]
    assert read_waveform(film(tmp_path / "a.mkv", 1.0, tracks=tracks), TARGET).any()
    assert not read_waveform(film(tmp_path / "b.mkv", 1.0, tracks=tracks[:2]), TARGET).any()


def test_the_length_is_exact_over_ten_minutes(tmp_path):
    """441 Hz: a period is 100 samples of the source and 50 of ours."""
    period = 2**14 * np.sin(2 * np.pi * np.arange(100) / 100)
    soundfile.write(tmp_path / "a.wav", np.tile(period.astype(np.int16), 600 * 441), 44_100)
    waveform = read_waveform(tmp_path / "a.wav", TARGET)
    assert abs(len(waveform) - 600 * TARGET) <= 1
    assert decibels(waveform[-5_050:-50] - np.tile(period[::2], 100), period) < -50


def test_sound_under_a_cover(tmp_path):
    assert len(read_waveform(cover_art(tmp_path / "a.mp3", tone(2.0)), TARGET)) == pytest.approx(2 * TARGET, abs=1_500)


def test_damaged_sound_keeps_what_is_good(tmp_path):
    whole = sound_file(tmp_path / "a.m4a", clicks(6.0, [1.0, 5.0]), "aac")
    waveform = read_waveform(damaged(whole, tmp_path / "b.m4a", share=2e-4), TARGET)
    loud = np.flatnonzero(np.abs(waveform.astype(int)) > 16_000) / TARGET
    assert loud[0] == pytest.approx(1.0, abs=0.025) and loud[-1] == pytest.approx(5.02, abs=0.025)


# ---- AudioTrack, fed by hand


def frames(samples: np.ndarray, first: int, *, rate: int = TARGET, size: int = 1_000) -> list[av.AudioFrame]:
    """Frames of int16 (samples,) whose first time stamp is `first`, in samples."""
    made = []
    for begin in range(0, len(samples), size):
        frame = av.AudioFrame.from_ndarray(samples[None, begin : begin + size], "s16", "mono")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), first + begin
        made.append(frame)
    return made


def pushed(given: list[av.AudioFrame]) -> AudioTrack:
    """A track of these frames and no more."""
    track = AudioTrack(TARGET)
    track.push(given)
    track.finish()
    return track


def test_sound_begins_no_threads():
    track, before = AudioTrack(TARGET), set(Path("/proc/self/task").iterdir())
    track.push(frames(noise(10 * TARGET), 0))
    assert set(Path("/proc/self/task").iterdir()) <= before and track.written


def test_samples_stand_at_their_times():
    samples = noise(50_000)
    track = pushed(frames(samples, 1_234))
    assert track.written == 51_234 and track.end_seconds == pytest.approx(51_234 / TARGET)
    assert np.array_equal(track.take(1_000, 20_000), np.append(np.zeros(234), samples[:19_766]))
    assert np.array_equal(track.take(21_000, 40_000), np.append(samples[19_766:], np.zeros(40_000 - 30_234)))


def test_missing_packets_leave_silence():
    samples = noise(30_000)
    taken = pushed(frames(samples[:10_000], 0) + frames(samples[10_000:], 75_000)).take(0, 95_000)
    assert np.array_equal(taken[:10_000], samples[:10_000])
    assert not taken[10_000:75_000].any()
    assert np.array_equal(taken[75_000:], samples[10_000:])


def test_overlapping_packets_are_cut():
    samples = noise(30_000)
    track = pushed(frames(samples[:10_000], 0) + frames(samples[10_000:], 6_000))
    assert np.array_equal(track.take(0, 26_000), np.append(samples[:10_000], samples[14_000:]))


def test_jitter_and_missing_time_stamps_move_nothing():
    samples, random = noise(40_000), np.random.default_rng(1)
    given = frames(samples, 0)
    for index, frame in enumerate(given[1:]):
        frame.pts = None if index % 3 == 0 else frame.pts + int(random.integers(-1, 2) * 0.9 * JUMP_SECONDS * TARGET)
    assert np.array_equal(np.concatenate(list(pushed(given).take_ready())), samples)


def test_a_change_of_format_goes_on_in_place():
    """Stereo at 44,100 Hz from the second second on, as after an advertisement."""
    first = noise(TARGET)
    second = (2**13 * np.sin(np.arange(44_100) / 30)).astype(np.int16)
    given = frames(first, 0)
    for begin in range(0, 44_100, 1_024):
        frame = av.AudioFrame.from_ndarray(second[None, begin : begin + 1_024].repeat(2, 1), "s16", "stereo")
        frame.sample_rate, frame.time_base, frame.pts = 44_100, Fraction(1, 44_100), 44_100 + begin
        given.append(frame)
    taken = pushed(given).take(0, 2 * TARGET)
    assert np.array_equal(taken[:TARGET], first)
    expected = 2**13 * np.sin(np.arange(TARGET) / 15)
    assert decibels(taken[TARGET + 500 : -500] - expected[500:-500], expected) < -40


def test_a_leap_is_a_hole_that_takes_no_memory():
    """Twelve hours: taken by the timeline they are silence, read from end to end they are left out, and said."""
    far = 10**9
    before, behind = noise(10_000), noise(10_000, seed=1)
    track = pushed(frames(before, 0) + frames(behind, far))
    assert track.written == far + 10_000 and track.gaps == 1
    assert np.array_equal(track.take(0, 20_000), np.append(before, np.zeros(10_000, np.int16)))
    assert np.array_equal(track.take(far - 100, 10_100)[100:], behind)
    track = pushed(frames(before, 0) + frames(behind, far))
    assert np.array_equal(np.concatenate(list(track.take_ready())), np.append(before, behind))
    assert track.hole_seconds == pytest.approx((far - 10_000) / TARGET)


def test_a_hole_is_handed_out_a_second_at_a_time():
    pieces = list(pushed(frames(noise(30_000), 0) + frames(noise(30_000), 500 * TARGET)).take_ready())
    assert max(map(len, pieces)) <= TARGET and sum(map(len, pieces)) == 500 * TARGET + 30_000


WANDERS = {  # seconds that the stamps of 1,024 samples each are off, drawn anew for each
    "by 20 ms, evenly": lambda random, count: random.uniform(-0.02, 0.02, count),
    "by 10 to 21 ms, as a capture card writes them": lambda random, count: (
        random.choice([-1, 1], count) * random.uniform(0.010, 0.021, count)
    ),
    "by 40 ms, evenly": lambda random, count: random.uniform(-0.04, 0.04, count),
    "one way": lambda random, count: random.uniform(0, 0.04, count),
    "slowly": lambda random, count: 0.02 * np.sin(np.arange(count) / 10 + random.uniform(0, 2 * np.pi)),
    "in teeth": lambda random, count: np.arange(count) % 9 * 0.005 - 0.02,
}


def wandering(samples: np.ndarray, first: int, off: np.ndarray, size: int = 1_024) -> list[av.AudioFrame]:
    """Frames whose stamps, to a millisecond, are off by so many seconds."""
    given = frames(samples, first, size=size)
    for frame, error in zip(given, off[: len(given)], strict=True):
        frame.pts, frame.time_base = round(1_000 * (frame.pts / TARGET + error)), Fraction(1, 1_000)
    return given


@pytest.mark.parametrize("wander", WANDERS.values(), ids=WANDERS)
def test_stamps_that_wander_move_nothing(wander):
    """No silence in a minute, and all of it within 25 ms of its time."""
    samples = np.maximum(noise(60 * TARGET), 1)  # no zero
    for seed in range(2):
        off = wander(np.random.default_rng(seed), 60 * TARGET // 1_024 + 1)
        track = pushed(wandering(samples, TARGET, off))
        assert track.gaps == 0 and track.overlap_seconds == 0 and track.smoothed > 100
        first = track.written - len(samples)
        assert abs(first / TARGET - 1 - off.mean()) < 0.025
        assert np.array_equal(track.take(first, len(samples)), samples)


@pytest.mark.parametrize("missing", [0.15, 0.5, 3.0])
@pytest.mark.parametrize("wander", WANDERS.values(), ids=WANDERS)
def test_a_gap_longer_than_the_wander_is_silence_at_the_very_frame(wander, missing):
    samples, gap = np.maximum(noise(400 * 1_024), 1), round(missing * TARGET)
    cut = 200 * 1_024
    for seed in range(2):
        off = wander(np.random.default_rng(seed), 400)
        track = pushed(wandering(samples[:cut], 0, off[:200]) + wandering(samples[cut:], cut + gap, off[200:]))
        assert track.gaps == 1 and track.gap_seconds == pytest.approx(missing, abs=0.03)
        taken = track.take(-TARGET, 400 * 1_024 + gap + 2 * TARGET)
        silent = np.flatnonzero(taken == 0)
        begin = np.flatnonzero(taken)[0]
        assert silent[silent > begin][0] - begin == cut
        assert np.array_equal(taken[taken != 0], samples)


def test_exact_stamps_are_believed_to_the_sample():
    """Packets lost again and again, one by one, as on a bad line."""
    samples, lost = np.maximum(noise(100 * 1_000), 1), {0, 3, 4, 30, 31, 33, 35, 37, 60, 97}
    track = pushed([frame for index, frame in enumerate(frames(samples, 0)) if index not in lost])
    kept = samples.reshape(100, 1_000).copy()
    kept[list(lost)] = 0
    assert np.array_equal(track.take(0, 100_000), kept.ravel())
    assert track.gaps == 7 and track.gap_seconds == pytest.approx(9 * 1_000 / TARGET) and not track.smoothed


@pytest.mark.parametrize("wild", [[0], [7], [50], [99], [20, 40], [48, 49, 50, 51, 52]])
@pytest.mark.parametrize("off", [-3 * TARGET, TARGET, 10**7])
def test_wild_stamps_are_ignored(wild, off):
    samples = noise(100 * 1_000)
    given = frames(samples, 2 * TARGET)
    for index in wild:
        given[index].pts += off
    track = pushed(given)
    assert track.gaps == 0 and track.smoothed == len(wild)
    assert np.array_equal(track.take(2 * TARGET, 100_000), samples)


@pytest.mark.parametrize("drift", [-0.02, -0.001, 0.001, 0.02])
def test_a_clock_that_drifts_is_followed(drift):
    """Every second a click; the sample clock is off by so much."""
    samples = np.ones(60 * TARGET, np.int16)
    samples[TARGET // 2 :: TARGET] = 2**14
    given = frames(samples, 0)
    for frame in given:
        frame.pts = round(frame.pts * (1 + drift))
    got = np.flatnonzero(pushed(given).take(0, 70 * TARGET) == 2**14) / TARGET
    due = (np.arange(60) + 0.5) * (1 + drift)
    assert len(got) > 50 and all(np.abs(due - time).min() < 0.045 for time in got)


def bursts(path: Path) -> np.ndarray:
    """Ogg Vorbis of 12 s with a burst of noise in front of each half second, for which it changes its blocks."""
    time = np.arange(12 * RATE) / RATE
    noise = np.random.default_rng(0).uniform(-0.9, 0.9, len(time)) * (time % 0.5 > 0.48)
    soundfile.write(path, noise + 0.05 * np.sin(2 * np.pi * 440 * time), RATE, format="OGG", subtype="VORBIS")
    return noise


def test_a_healthy_vorbis_is_not_said_to_be_repaired(tmp_path):
    """FFmpeg guesses the stamps of the packets of a page, and some of them wrongly."""
    bursts(tmp_path / "a.ogg")
    said: list[str] = []
    assert len(read_waveform(tmp_path / "a.ogg", RATE, said.append)) == 12 * RATE
    assert said == []


def test_a_page_that_is_missing_in_vorbis_is_silence_in_its_place(tmp_path):
    noise = bursts(tmp_path / "a.ogg")
    data = (tmp_path / "a.ogg").read_bytes()
    pages = [b"OggS" + page for page in data.split(b"OggS")[1:]]
    (tmp_path / "b.ogg").write_bytes(b"".join(pages[: len(pages) // 2] + pages[len(pages) // 2 + 1 :]))
    said: list[str] = []
    read = read_waveform(tmp_path / "b.ogg", RATE, said.append) / 32768
    assert len(read) == 12 * RATE and len(said) == 1 and said[0].startswith("gaps filled with silence: 1, of ")
    alike = [here @ there for here, there in zip(np.split(read, 24), np.split(noise, 24), strict=True)]
    missing = np.flatnonzero(np.array(alike) < 50)
    assert missing.tolist() == list(range(missing[0], missing[-1] + 1))
    assert missing[0] > 0 and missing[-1] < 23


def test_what_was_taken_is_forgotten():
    """An hour passes through; never is more than a few seconds held."""
    track, most, taken = AudioTrack(TARGET), 0, 0
    second = noise(TARGET)
    for index in range(3_600):
        track.push(frames(second, index * TARGET, size=TARGET))
        if track.written >= taken + 20 * TARGET:
            track.take(taken, 20 * TARGET)
            taken += 20 * TARGET
        most = max(most, sum(len(piece) for _, piece in track._pieces))
    assert most <= 21 * TARGET
    assert track.written >= 3_590 * TARGET  # frames of a second: five are looked at ahead


@pytest.mark.parametrize("path", ["castanets.mp4", "cow.mp4"])
def test_real_sound_against_another_decoder(path, shared: Path, tmp_path):
    """PyAV's own frames, mixed and resampled by soxr."""
    video = shared / "data" / "videos" / "pictures" / path
    with av.open(str(video)) as container:
        stream = container.streams.audio[0]
        rate = stream.rate
        source = np.concatenate(
            [frame.to_ndarray().reshape(stream.channels, -1).mean(0) for frame in container.decode(stream)]
        )
    expected = soxr.resample(source, rate, TARGET, quality="VHQ") * 2**15
    ours = read_waveform(video, TARGET)
    assert abs(len(ours) - len(expected)) <= 2
    length = min(len(ours), len(expected))
    ours, expected = below_8_khz(ours[:length])[1_000:-1_000], below_8_khz(expected[:length])[1_000:-1_000]
    assert decibels(ours - expected, expected) < -40


# ---- in pieces


@pytest.mark.parametrize("rate", [TARGET, 8_000])
def test_pieces_joined_are_the_whole(tmp_path, rate):
    path = tmp_path / "a.wav"
    samples = noise(5 * rate + 123)
    soundfile.write(path, samples, rate)
    pieces = list(stream_waveform(path, rate))
    assert len(pieces) >= 4 and max(map(len, pieces)) < 2 * rate  # about a second each
    assert np.array_equal(np.concatenate(pieces), samples)  # of the same rate there is nothing to resample


def test_a_gap_between_pieces_is_silence():
    track, samples = AudioTrack(TARGET), noise(60_000)
    given = frames(samples[:30_000], 500) + frames(samples[30_000:], 100_500)
    taken = []
    for frame in given:
        track.push([frame])
        taken += track.take_ready()
    assert len(taken) >= 2
    track.finish()
    whole = np.concatenate([*taken, *track.take_ready()])
    assert np.array_equal(whole, np.concatenate([samples[:30_000], np.zeros(70_000, np.int16), samples[30_000:]]))


# ---- channels and numbers


def write_float(path: Path, waveform: np.ndarray, rate: int = TARGET) -> Path:
    soundfile.write(path, waveform, rate, subtype="FLOAT" if waveform.dtype == np.float32 else "DOUBLE")
    return path


@pytest.mark.parametrize("channels", [1, 2, 6, 9])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_what_is_no_number_is_silence(kind, channels, tmp_path):
    """Bytes as those of a file that has zeros there."""
    random = np.random.default_rng(0)
    sound = random.uniform(-0.5, 0.5, (3 * TARGET, channels)).astype(kind)
    zeros = sound.copy()
    for value in (np.nan, np.inf, -np.inf):
        places = random.integers(0, len(sound), 50), random.integers(0, channels, 50)
        sound[places], zeros[places] = value, 0
    lines: list[str] = []
    ours = read_waveform(write_float(tmp_path / "a.wav", sound), TARGET, lines.append)
    assert np.array_equal(ours, read_waveform(write_float(tmp_path / "b.wav", zeros), TARGET))
    assert lines == [f"samples that are no numbers, made silent: {(~np.isfinite(sound)).sum()}"]


@pytest.mark.parametrize(("peak", "loud"), [(1.99, 0), (2.01, 1), (20_000.0, 3 * TARGET)])
def test_samples_far_beyond_full_scale_are_said_to_be_clipped(peak, loud, tmp_path):
    """Lossy codecs overshoot a little; what is beyond that is mostly a sound in the range of int16, as floats."""
    sound = np.full((3 * TARGET, 1), 3.0 if loud > 1 else 0.5, np.float32)
    sound[TARGET] = -peak
    lines: list[str] = []
    read_waveform(write_float(tmp_path / "a.wav", sound), TARGET, lines.append)
    assert lines == [f"samples beyond 2 times full scale, clipped: {loud}"] * bool(loud)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sound_without_a_number_is_refused(value, tmp_path):
    path = write_float(tmp_path / "a.wav", np.full((TARGET, 2), value, np.float32))
    with pytest.raises(UnreadableMedia, match="damaged: none of the samples of its sound is a number"):
        read_waveform(path, TARGET)


@pytest.mark.parametrize("channels", [3, 7, 9, 16, 24])
@pytest.mark.parametrize("file", ["a.wav", "a.mkv"])
def test_channels_without_a_layout_are_mixed_to_their_mean(file, channels, tmp_path):
    sound = np.random.default_rng(0).integers(-20_000, 20_000, (2 * TARGET, channels), dtype=np.int16)
    with av.open(str(tmp_path / file), "w") as container:
        stream = container.add_stream("pcm_s16le", TARGET, layout=f"{channels} channels")
        frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), "s16", f"{channels} channels")
        frame.sample_rate, frame.pts = TARGET, 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    ours = read_waveform(tmp_path / file, TARGET)
    assert np.abs(ours - sound.mean(axis=1)).max() < 5  # shares of 15 bits


@pytest.mark.parametrize("left_over", [0.0, 0.05])
@pytest.mark.parametrize("lead", [0, 30])
def test_channels_in_opposite_phase_do_not_cancel(left_over, lead, tmp_path):
    """The first alone, from its beginning on, also behind silence."""
    sound = np.concatenate([np.zeros(lead * 8_000), 0.5 * tone(30.0)[:: RATE // 8_000]])
    both = np.stack([sound, -(1 - left_over) * sound], axis=1)
    soundfile.write(tmp_path / "a.wav", both, 8_000, subtype="PCM_16")
    lines: list[str] = []
    ours = read_waveform(tmp_path / "a.wav", 8_000, lines.append)
    assert np.abs(ours - 2**15 * sound).max() <= 1
    assert lines == ["left channel: the channels cancel"]


def test_channels_that_turn_to_opposite_phase_later_are_said(tmp_path):
    """By then it is settled that they are mixed."""
    sound = tone(40)
    turned = np.where(np.arange(len(sound)) < 30 * RATE, sound, -sound)
    lines: list[str] = []
    waveform = read_waveform(
        sound_file(tmp_path / "a.wav", np.stack([sound, turned]), "pcm_s16le"), TARGET, lines.append
    )
    assert not waveform[31 * TARGET :].any()
    assert lines == ["10 s nearly silent: the channels cancel"]


@pytest.mark.parametrize(
    ("layout", "gains", "cancel"),
    [
        ("quad", [1, -1, 1, -1], True),
        ("5.1", [1, -1, 0, 0, 0, 0], True),
        ("5.1", [1, -1, 0, 0, 0.5, -0.5], True),
        ("7.1", [1, -1, 0, 0, 1, -1, 1, -1], True),
        ("5.1", [1, -1, 0.5, 0, 0, 0], False),  # what is said stands in the centre
        ("5.1", [0, 0, 1, 0, 0, 0], False),
    ],
)
def test_more_channels_in_opposite_phase_do_not_cancel_either(layout, gains, cancel, tmp_path):
    sound = 0.25 * tone(3.0)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", RATE, layout=layout)
        packed = np.round(2**15 * np.outer(sound, gains)).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, "s16", layout)
        frame.sample_rate, frame.pts = RATE, 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    lines: list[str] = []
    ours = read_waveform(tmp_path / "a.mkv", RATE, lines.append)
    assert lines == (["left channel: the channels cancel"] if cancel else [])
    heard = np.abs(ours).max() / np.abs(2**15 * sound).max()
    assert heard == pytest.approx(1.0, abs=0.01) if cancel else 0.05 < heard < 1.01


@pytest.mark.parametrize("right", [0.0, 0.5, 1.0, -0.5])
def test_channels_that_do_not_cancel_are_mixed(right, tmp_path):
    sound = 0.5 * tone(3.0)
    soundfile.write(tmp_path / "a.wav", np.stack([sound, right * sound], axis=1), RATE, subtype="PCM_16")
    lines: list[str] = []
    ours = read_waveform(tmp_path / "a.wav", RATE, lines.append)
    assert np.abs(ours - 2**15 * sound * (1 + right) / 2).max() <= 2 and not lines


def test_a_main_track_that_cancels_is_not_silent(tmp_path):
    """It does not give way to another one."""
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        streams = [container.add_stream("pcm_s16le", TARGET, layout="stereo") for _ in range(2)]
        for stream, sound in zip(streams, (noise(TARGET) // 2, noise(TARGET, seed=1) // 2), strict=True):
            pair = np.stack([sound, -sound], axis=1).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(pair, "s16", "stereo")
            frame.sample_rate, frame.pts = TARGET, 0
            container.mux([*stream.encode(frame), *stream.encode(None)])
    assert np.array_equal(read_waveform(tmp_path / "a.mkv", TARGET), noise(TARGET) // 2)
