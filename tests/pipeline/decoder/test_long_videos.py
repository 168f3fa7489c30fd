"""Real videos joined to 47 s and to ten minutes: every window is there, labelled by its own frame, and in step."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.run import run
from pipeline.settings import PipelineSettings
from shards.format.shard import examples
from shards.format.sidefile import finished
from tests.media import video_stream

ROOT = Path(__file__).resolve().parents[3]
FPS, RATE, SIZE = 25, 44_100, (80, 60)
SECONDS = 47
pytestmark = pytest.mark.faults  # slow: films of ten minutes


@pytest.fixture(scope="module")
def joined(shared, tmp_path_factory):
    """47 s of the shared videos, one after another, encoded anew; and the same packets thirteen times over: 611 s."""
    folder = tmp_path_factory.mktemp("joined")
    join(sorted((shared / "data" / "videos").glob("*.mp4")), folder / "47 s.mp4")
    repeat(folder / "47 s.mp4", folder / "10 min.mp4", times=13)
    return folder


def join(paths, target):
    with av.open(str(target), "w") as container:
        video = video_stream(container, "libx264", FPS, SIZE, {"preset": "ultrafast"})
        sound = container.add_stream("aac", RATE, layout="mono")
        frames, samples, paths = 0, 0, list(paths) * 9
        while frames < SECONDS * FPS:
            with av.open(str(paths.pop(0))) as source:
                resampler = av.AudioResampler("fltp", "mono", RATE, frame_size=1024)
                for frame in source.decode(source.streams.video[0], source.streams.audio[0]):
                    if isinstance(frame, av.VideoFrame) and frames < SECONDS * FPS:
                        picture = frame.reformat(*SIZE, "yuv420p")
                        picture.pts, picture.time_base, frames = frames, Fraction(1, FPS), frames + 1
                        container.mux(video.encode(picture))
                    for block in resampler.resample(frame) if isinstance(frame, av.AudioFrame) else ():
                        if samples < SECONDS * RATE:
                            block.pts, block.time_base, samples = samples, Fraction(1, RATE), samples + block.samples
                            container.mux(sound.encode(block))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))


def repeat(path, target, times):
    with av.open(str(target), "w") as container:
        streams = None
        for turn in range(times):
            with av.open(str(path)) as source:
                streams = streams or [container.add_stream_from_template(stream) for stream in source.streams]
                for packet in source.demux():
                    if packet.dts is None:
                        continue
                    shift = int(turn * SECONDS / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = streams[packet.stream_index]
                    container.mux(packet)


@pytest.fixture(scope="module")
def labelled(joined, tmp_path_factory, small_teachers):
    folder = tmp_path_factory.mktemp("labelled")
    places = {"videos": str(joined), "shards": str(folder)}
    run(PipelineSettings(**places, teachers=small_teachers, device="cpu", validation_share=0.0))
    return dict(grouped(folder))


def grouped(folder):
    clips = [clip for side in finished(folder) for clip in examples(folder, side, 22_050)]
    for path in sorted({clip.meta.path for clip in clips}):
        yield path, [clip for clip in clips if clip.meta.path == path]


def test_every_whole_window_is_there(labelled, joined):
    assert [len(clip.meta.frame_got) for clip in labelled["47 s.mp4"]] == [4, 4, 1]
    assert [len(clip.meta.frame_got) for clip in labelled["10 min.mp4"]] == [4] * 30 + [2]  # 611 s
    assert all(
        len(clip.waveform) == len(clip.meta.frame_got) * 110_250 for clips in labelled.values() for clip in clips
    )
    with av.open(str(joined / "47 s.mp4")) as container:
        common = min(float(stream.duration * stream.time_base) for stream in container.streams)
    assert labelled["47 s.mp4"][0].meta.media.left_out["tail"] == pytest.approx(common - 45, abs=0.03)


def test_frames_are_those_on_screen_at_the_asked_times(labelled):
    for clips in labelled.values():
        late = np.concatenate([np.subtract(clip.meta.frame_asked, clip.meta.frame_got) for clip in clips])
        assert late.min() >= -1e-6 and late.max() < 1 / FPS + 1e-6


def test_ten_minutes_stay_in_step(labelled):
    """The last turn's sound, 564 s in, is the first turn's, to the sample but for the seams of the sound codec."""
    first = np.concatenate([clip.waveform for clip in labelled["47 s.mp4"]]).astype(np.float64)
    whole = np.concatenate([clip.waveform for clip in labelled["10 min.mp4"]]).astype(np.float64)
    begin, length, reach = 12 * SECONDS * 22_050, 30 * 22_050, 600
    here = first[5 * 22_050 :][:length]
    lags = range(-reach, reach + 1, 5)
    scores = [here @ whole[begin + 5 * 22_050 + lag :][:length] for lag in lags]
    assert abs(lags[int(np.argmax(scores))]) / 22_050 < 0.025


def test_memory_does_not_grow_with_length(joined):
    """Ten minutes are read in the memory that 47 s need, give or take; held whole, their sound alone is 27 MB."""
    script = (
        "import resource, sys; from pathlib import Path; from shards.format.clip import ClipSpec;"
        "from pipeline.decoder.crop import ResizeCrop; from pipeline.decoder.settings import DecodeSettings;"
        "from pipeline.decoder.reader import VideoReader;"
        "reader = VideoReader(Path(sys.argv[1]), ClipSpec(), [ResizeCrop(256, 224)], DecodeSettings());"
        "n = sum(1 for _ in reader.clips());"
        "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = {}
    for name in ("47 s.mp4", "10 min.mp4"):
        command = [sys.executable, "-c", script, str(joined / name)]
        output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        clips, peaks[name] = map(int, output.split())
        assert clips == {"47 s.mp4": 3, "10 min.mp4": 31}[name]
    assert peaks["10 min.mp4"] - peaks["47 s.mp4"] < 12_000  # KiB
