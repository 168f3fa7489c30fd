"""Sound of any file against an independent resampler, and samples at their places whatever the time stamps do."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr

from shards.media.file import UnreadableMedia
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


def test_sound_at_the_rate_asked_for_is_not_touched(tmp_path):
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, 50_000, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", samples, TARGET)
    assert np.array_equal(read_waveform(tmp_path / "a.wav", TARGET), samples)


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 16])
def test_channels_are_mixed_without_clipping(channels, tmp_path):
    source = np.tile(0.99 * np.sign(tone(0.5))[:, None], channels)
    soundfile.write(tmp_path / "a.wav", source, RATE, subtype="PCM_16")
    waveform = read_waveform(tmp_path / "a.wav", RATE).astype(int)
    assert 2**15 * 0.9 < np.abs(waveform).max() < 2**15 - 1  # a float downmix would be louder and clip
    soundfile.write(tmp_path / "b.wav", np.stack([tone(0.5), -tone(0.5)], axis=1), RATE)
    assert np.abs(read_waveform(tmp_path / "b.wav", RATE).astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("file", "codec", "late"),
    [
        ("a.mp3", "libmp3lame", 0.0),
        ("a.m4a", "aac", 0.0),
        ("a.ogg", "libopus", 0.0),
        ("a.ogg", "flac", 0.0),
        ("a.mka", "aac", 0.0),
    ],
)
def test_lossy_sound_keeps_its_place(file, codec, late, tmp_path):
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


def test_silence_is_sound_too(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    assert not read_waveform(tmp_path / "a.wav", TARGET).any()


def test_the_length_is_exact_over_ten_minutes(tmp_path):
    """441 Hz: a period is 100 samples of the source and 50 of ours."""
    period = 2**14 * np.sin(2 * np.pi * np.arange(100) / 100)
    soundfile.write(tmp_path / "a.wav", np.tile(period.astype(np.int16), 600 * 441), 44_100)
    waveform = read_waveform(tmp_path / "a.wav", TARGET)
    assert abs(len(waveform) - 600 * TARGET) <= 1
    assert decibels(waveform[-5_050:-50] - np.tile(period[::2], 100), period) < -50


def test_what_has_no_sound(tmp_path):
    (tmp_path / "a.wav").write_text("no sound")
    for path, reason in [
        (tmp_path / "none.wav", "not_found"),
        (tmp_path / "a.wav", "not_media"),
        (film(tmp_path / "mute.mp4", 1.0, tracks=[]), "no_audio"),
    ]:
        with pytest.raises(UnreadableMedia) as caught:
            read_waveform(path, TARGET)
        assert caught.value.reason == reason


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


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-(2**15), 2**15, samples, dtype=np.int16)


def test_samples_stand_at_their_times():
    track, samples = AudioTrack(TARGET), noise(50_000)
    track.push(frames(samples, 1_234))
    track.finish()
    assert track.written == 51_234 and track.end_seconds == pytest.approx(51_234 / TARGET)
    assert np.array_equal(track.take(1_000, 20_000), np.append(np.zeros(234), samples[:19_766]))
    assert np.array_equal(track.take(21_000, 40_000), np.append(samples[19_766:], np.zeros(40_000 - 30_234)))


def test_missing_packets_leave_silence():
    track, samples = AudioTrack(TARGET), noise(30_000)
    track.push(frames(samples[:10_000], 0) + frames(samples[10_000:], 75_000))
    track.finish()
    taken = track.take(0, 95_000)
    assert np.array_equal(taken[:10_000], samples[:10_000])
    assert not taken[10_000:75_000].any()
    assert np.array_equal(taken[75_000:], samples[10_000:])


def test_overlapping_packets_are_cut():
    track, samples = AudioTrack(TARGET), noise(30_000)
    track.push(frames(samples[:10_000], 0) + frames(samples[10_000:], 6_000))
    track.finish()
    assert np.array_equal(track.take(0, 26_000), np.append(samples[:10_000], samples[14_000:]))


def test_jitter_and_missing_time_stamps_move_nothing():
    track, samples, random = AudioTrack(TARGET), noise(40_000), np.random.default_rng(1)
    given = frames(samples, 0)
    for index, frame in enumerate(given[1:]):
        frame.pts = None if index % 3 == 0 else frame.pts + int(random.integers(-1, 2) * 0.9 * JUMP_SECONDS * TARGET)
    track.push(given)
    track.finish()
    assert np.array_equal(track.take_ready(), samples)


def test_a_change_of_format_goes_on_in_place():
    """Stereo at 44,100 Hz from the second second on, as after an advertisement."""
    track, first = AudioTrack(TARGET), noise(TARGET)
    second = (2**13 * np.sin(np.arange(44_100) / 30)).astype(np.int16)
    track.push(frames(first, 0))
    for begin in range(0, 44_100, 1_024):
        frame = av.AudioFrame.from_ndarray(second[None, begin : begin + 1_024].repeat(2, 1), "s16", "stereo")
        frame.sample_rate, frame.time_base, frame.pts = 44_100, Fraction(1, 44_100), 44_100 + begin
        track.push([frame])
    track.finish()
    taken = track.take(0, 2 * TARGET)
    assert np.array_equal(taken[:TARGET], first)
    expected = 2**13 * np.sin(np.arange(TARGET) / 15)
    assert decibels(taken[TARGET + 500 : -500] - expected[500:-500], expected) < -40


def test_a_leap_ends_the_track():
    track = AudioTrack(TARGET)
    track.push(frames(noise(10_000), 0) + frames(noise(10_000), 10**9))
    track.finish()
    assert track.written == 10_000


def test_what_was_taken_is_forgotten():
    """An hour passes through; never is more than a few seconds held."""
    track, most = AudioTrack(TARGET), 0
    second = noise(TARGET)
    for index in range(3_600):
        track.push(frames(second, index * TARGET, size=TARGET))
        if track.written >= (index // 20 + 1) * 20 * TARGET:
            track.take(index // 20 * 20 * TARGET, 20 * TARGET)
        most = max(most, sum(len(piece) for _, piece in track._pieces))
    assert most <= 21 * TARGET
    assert track.written >= 3_599 * TARGET


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
        taken.append(track.take_ready())
    track.finish()
    whole = np.concatenate([*taken, track.take_ready()])
    assert sum(len(piece) > 0 for piece in taken) >= 2
    assert np.array_equal(whole, np.concatenate([samples[:30_000], np.zeros(70_000, np.int16), samples[30_000:]]))
