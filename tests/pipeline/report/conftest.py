"""A small shard folder with all that a report tells: rejects, a retry, duplicates, odd names, a second teacher set."""

import io
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.videos.keys import key_of
from shards.format.clip import ClipSpec
from shards.format.example import ClipMeta, Example, clip_key
from shards.format.manifest import Manifest, TeacherCard
from shards.format.sidefile import Reject
from shards.format.writer import ShardWriter

CLIP = ClipSpec(sample_rate=8_000, seconds=2.0, windows=4)
CLASSES = ("tabby", '<b>"tiger" & cat</b>', "espresso", "missile", "bell", "https://example.org/x")
HOSTILE = '<script>alert("1")</script>&\'><img src=https://example.org/x onerror=y>.mp4'
UNPRINTABLE = "line\nbreak \u202egpj caf\udce9.mp4"


def jpeg():
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(stream, "JPEG")
    return stream.getvalue()


@dataclass
class Builder:
    """Writes shards and plan rows the way the pipeline does, and remembers the examples."""

    folder: Path
    manifest: Manifest = field(
        default_factory=lambda: Manifest(
            clip=CLIP,
            teacher_set="first",
            teachers={"objects": TeacherCard("resnet18", "r18.pth", "ab" * 32, {"resize": 256}, CLASSES)},
            precision="float32",
            audio="wav",
            resampler="none",
            sampling="exact",
            keep_frames=True,
            validation_share=0.25,
            seed=0,
        )
    )
    examples: dict[str, Example] = field(default_factory=dict)
    hostile: str = HOSTILE

    def __post_init__(self):
        self.folder.mkdir()
        self.manifest.save(self.folder)

    def example(self, path, clip, windows=4):
        rng = np.random.default_rng([len(self.examples), 7])
        posterior = rng.dirichlet(np.ones(len(CLASSES)) / 2, windows).astype(np.float16)
        times = CLIP.frame_times(windows)
        meta = ClipMeta(key_of(path), path, 9, "00", clip, 2.0 * clip, windows / 2, times, times, still=clip == 1)
        waveform = rng.integers(-9_999, 9_999, windows * CLIP.window_samples).astype(np.int16)
        return Example(clip_key(key_of(path), clip), waveform, {"objects": posterior}, meta, [jpeg()] * windows)

    def shard(self, name, videos, rejects=(), retry=False):
        """`videos`: {path: windows of each of its clips}; `rejects`: (path, reason)."""
        writer = ShardWriter(self.folder, name, sample_rate=CLIP.sample_rate)
        for path, clips in videos.items():
            for clip, windows in enumerate(clips):
                example = self.example(path, clip, windows)
                self.examples[example.key] = example
                writer.write(example)
        lost = [Reject(key_of(path), path, reason, f"about {path}") for path, reason in rejects]
        dropped = [Reject(key_of(path), path, "clip_dropped", "a hole") for path in list(videos)[:1]]
        self.plan(name, [*videos, *(path for path, _ in rejects)], retry)
        return writer.finish(rejects=lost, dropped=dropped)

    def plan(self, name, paths, retry=False):
        videos = [{"key": key_of(path), "path": path, "bytes": 9} for path in paths]
        self.row({"shard": name, "videos": videos} | ({"retry": True} if retry else {}))

    def row(self, row):
        with open(self.folder / "plan.jsonl", "a") as stream:
            stream.write(json.dumps(row) + "\n")

    def relabel(self, name, shards):
        """Another set whose posteriors are the first one's with the classes turned round."""
        place = self.folder / "teachers" / name
        place.mkdir(parents=True)
        card = replace(self.manifest.teachers["objects"], architecture="vgg16")
        replace(self.manifest, teacher_set=name, teachers={"objects": card}).save(place)
        for shard, keys in shards.items():
            writer = ShardWriter(place, shard, sample_rate=0)
            for key in keys:
                turned = self.examples[key].posteriors["objects"][:, ::-1]
                writer.write_labels(key, len(self.examples[key].waveform), {"objects": turned})
            writer.finish()


@pytest.fixture
def builder(tmp_path):
    return Builder(tmp_path / "shards")


@pytest.fixture
def full(builder):
    """8 inputs: 4 accepted (one by a retry), 1 rejected, 2 duplicates, 1 waiting; 6 clips."""
    rejects = [("broken/a.mp4", "unreadable"), (UNPRINTABLE, "no_sound")]
    first = builder.shard("train-000000", {"a/b.mp4": [4, 4, 2], HOSTILE: [1]}, rejects)
    builder.shard("validation-000000", {"c.mp4": [4]})
    builder.shard("train-000001", {"broken/a.mp4": [3]}, retry=True)
    builder.plan("train-000002", ["later.mp4"])
    copies = [{"key": key_of(path), "path": path, "of": "a%2Fb%2Emp4"} for path in ("copy 1.mp4", "copy 2.mp4")]
    builder.row({"duplicates": copies})
    with open(builder.folder / "plan.jsonl", "a") as stream:
        stream.write('{"shard": "train-000003", "vid')  # torn by a kill
    builder.relabel("second", {"train-000000": first.keys})
    return builder
