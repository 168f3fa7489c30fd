"""What is embedded plays elsewhere, and the pictures show the sound that is there."""

import io
import re

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.report.sound import BANDS, LOWEST_HZ, outline, playable, spectrogram


def tone(hertz, seconds=1.0, rate=22_050, level=0.5):
    time = np.arange(round(seconds * rate)) / rate
    return (level * 2**15 * np.sin(2 * np.pi * hertz * time)).astype(np.int16)


@pytest.mark.parametrize(("rate", "media_type"), [(22_050, "audio/mpeg"), (44_100, "audio/mpeg"), (9_001, "audio/wav")])
def test_another_decoder_hears_the_tone(rate, media_type):
    kind, data = playable(tone(1_000, 2.0, rate), rate)
    assert kind == media_type
    with av.open(io.BytesIO(data)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        assert container.streams.audio[0].rate == rate
    heard = np.concatenate(frames, axis=1)[0].astype(np.float64)
    assert len(heard) / rate == pytest.approx(2, abs=0.15)  # MP3 pads to whole frames
    assert np.argmax(np.abs(np.fft.rfft(heard))) * rate / len(heard) == pytest.approx(1_000, abs=3)


def test_mp3_is_small():
    noise = np.random.default_rng(0).integers(-9_999, 9_999, 20 * 22_050).astype(np.int16)
    assert len(playable(noise, 22_050)[1]) < 0.3 * noise.nbytes


@pytest.mark.parametrize("hertz", [200, 1_000, 5_000])
def test_the_spectrogram_is_most_opaque_where_the_tone_is(hertz):
    image = Image.open(io.BytesIO(spectrogram(tone(hertz), 22_050))).convert("RGBA")
    opacity = np.asarray(image)[:, :, 3]
    assert opacity.shape[0] == BANDS
    row = BANDS - 1 - opacity.mean(axis=1).argmax()  # low frequencies are at the bottom
    found = LOWEST_HZ * (11_025 / LOWEST_HZ) ** (row / (BANDS - 1))
    assert found == pytest.approx(hertz, rel=0.08)


@pytest.mark.parametrize("samples", [1, 100, 22_050])
def test_silence_and_short_sounds_are_drawn(samples):
    silence = np.zeros(samples, np.int16)
    assert Image.open(io.BytesIO(spectrogram(silence, 22_050))).size[1] == BANDS
    assert outline(silence, width=100, height=20).startswith("M0,10.0")


def test_the_outline_spans_what_is_loud():
    sound = np.concatenate([np.zeros(4_800, np.int16), tone(50, level=0.25)])
    points = re.findall(r"([\d.]+),([\d.]+)", outline(sound, width=1_000, height=60))
    heights = np.array([[float(x), float(y)] for x, y in points])
    quiet = heights[heights[:, 0] < 100]
    assert (quiet[:, 1] == 30).all()
    assert heights[:, 1].min() == pytest.approx(0, abs=0.1)
    assert heights[:, 1].max() == pytest.approx(60, abs=0.1)
