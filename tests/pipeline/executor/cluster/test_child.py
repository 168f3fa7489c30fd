"""The process beside a Ray worker: what befalls it is a reason in the words of the local executor. Needs no Ray."""

import io
import os
import signal
import tempfile

import numpy as np
import pytest
import soundfile

from pipeline.decoder.crop import ResizeCrop
from pipeline.decoder.reader import VideoReader
from pipeline.decoder.settings import DecodeSettings
from pipeline.executor.cluster.child import Child
from pipeline.executor.decode_task import DecodeConfig
from pipeline.executor.job import DecodeTask, crashed
from pipeline.videos.keys import key_of
from shards.format.clip import ClipSpec

CLIP = ClipSpec(seconds=2.0, windows=4)
CROPS = [ResizeCrop(40, 32), ResizeCrop(48, 48)]


@pytest.fixture(scope="module")
def videos(tmp_path_factory, render_video):
    folder = tmp_path_factory.mktemp("videos")
    render_video(folder / "a.mp4", 7.3, seed=1)
    render_video(folder / "b.mp4", 2.0, seed=2)
    (folder / "page.mp4").write_text("<html>not found</html>")
    return folder


@pytest.fixture(scope="module")
def child():
    child = Child(memory_gigabytes=4.0)
    yield child
    child._end()


@pytest.fixture
def decode(child, videos, tmp_path, monkeypatch):
    """Nothing may be left in the node's temporary folder, whatever happened."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    config = DecodeConfig(str(videos), videos, CLIP, CROPS, DecodeSettings(), "wav", True, memory_gigabytes=4.0)
    yield lambda name, stall_seconds=60.0: child.decode(
        DecodeTask("train-000000", name, key_of(name), 0), config, None, stall_seconds
    )
    left = [path for path in tmp_path.iterdir() if not path.name.startswith("pymp-")]  # multiprocessing's own
    assert left == []


def test_clips_and_result_are_those_of_the_reader(decode, videos):
    *clips, result = decode("a.mp4")
    reader = VideoReader(videos / "a.mp4", CLIP, CROPS, DecodeSettings())
    expected = list(reader.clips())
    assert len(clips) == len(expected) == 4
    for (pictures, members, record), clip in zip(clips, expected, strict=True):
        waveform, rate = soundfile.read(io.BytesIO(members.sound), dtype="int16")
        assert rate == CLIP.sample_rate and np.array_equal(waveform, clip.waveform)
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(pictures, clip.pictures, strict=True))
        assert (record.got, record.asked) == (clip.got, clip.asked)
    assert (result.reason, result.media_seconds) == (None, reader.media_seconds)
    (rejected,) = decode("page.mp4")
    assert rejected.reason == "not_media"


def test_a_killed_process_costs_its_video_alone(child, decode):
    stream = decode("a.mp4")
    next(stream)
    os.kill(child._process.pid, signal.SIGKILL)
    *_, result = stream
    assert result == crashed(-9)
    *clips, result = decode("b.mp4")
    assert len(clips) == 1 and result.reason is None


def test_a_process_that_stands_still_is_ended(child, decode):
    list(decode("b.mp4"))  # it is there, and has imported what it needs
    stream = decode("a.mp4", 0.5)
    os.kill(child._process.pid, signal.SIGSTOP)
    *_, result = stream
    assert (result.reason, result.detail) == ("stalled", "no progress for 0.5 s")
    *clips, result = decode("b.mp4")
    assert len(clips) == 1 and result.reason is None


def test_a_video_given_up_leaves_nothing_for_the_next(decode):
    stream = decode("a.mp4")
    next(stream)
    stream.close()
    *clips, result = decode("b.mp4")
    assert len(clips) == 1 and result.reason is None
