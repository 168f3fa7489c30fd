"""What is kept of a decoded clip, and what of it is finished where it is decoded."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from pipeline.decoder.clips import DecodedClip
from pipeline.decoder.crop import ResizeCrop
from pipeline.decoder.settings import DecodeSettings
from pipeline.executor.decode_task import DecodeConfig, encode_clip
from pipeline.executor.job import ClipMembers
from shards.format.clip import ClipSpec

CROPS = [ResizeCrop(40, 32), ResizeCrop(8, 8)]


def config(audio="wav", keep_frames=True):
    return DecodeConfig("", Path(), ClipSpec(8_000, 2.0), CROPS, DecodeSettings(), audio, keep_frames, 4.0)


def decoded(values, samples=100):
    frames = np.stack([np.full((32, 32, 3), value, np.uint8) for value in values])
    times = [0.25 + index for index in range(len(values))]
    waveform = np.arange(samples, dtype=np.int16) - 40
    return DecodedClip(3, 0.0, 2.0, waveform, [frames, frames[:, :8, :8]], times, times)


@pytest.mark.parametrize(("values", "still"), [([9, 9], True), ([200, 9, 100], False), ([9], False)])
def test_frames_lie_side_by_side_where_they_are_kept_and_a_still_is_known(values, still):
    clip = decoded(values)
    record, members = encode_clip(clip, config())
    assert (record.index, record.got, record.still) == (3, clip.got, still)
    with Image.open(io.BytesIO(members.frames)) as picture:
        assert picture.format == "JPEG"
        parts = np.split(np.asarray(picture), len(values), axis=1)
    assert [part.shape for part in parts] == [(32, 32, 3)] * len(values)
    assert [round(part.mean()) for part in parts] == values
    assert encode_clip(clip, config(keep_frames=False))[1].frames == b""
    pixels = sum(pictures.nbytes for pictures in clip.pictures)
    assert config().spooled_bytes(record) == pixels + len(members.sound) + len(members.frames)


@pytest.mark.parametrize("audio", ["wav", "flac"])
def test_sound_is_the_shards_member_already(audio):
    clip = decoded([9])
    record, members = encode_clip(clip, config(audio))
    waveform, rate = soundfile.read(io.BytesIO(members.sound), dtype="int16")
    assert rate == 8_000 and np.array_equal(waveform, clip.waveform)
    assert (record.sound.samples, record.sound_bytes) == (100, len(members.sound))
    # 59 of 32768, and the mean of the squares of -40 to 59
    assert record.sound.peak_db == round(20 * np.log10(59 / 32768), 2)
    assert record.sound.rms_db == round(10 * np.log10(sum(n * n for n in range(-40, 60)) / 100 / 32768**2), 2)


def test_labels_alone_want_neither_sound_nor_frames():
    record, members = encode_clip(decoded([9], samples=0), config(audio=None, keep_frames=False))
    assert (record.sound, record.sound_bytes, record.frames_bytes, members) == (None, 0, 0, ClipMembers(b"", b""))
