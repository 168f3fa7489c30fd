"""Small videos and a small real network, made on the spot; and a small shard folder with all that can befall inputs."""

import hashlib
import io
import json
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from pipeline.executor import decode_worker
from pipeline.relabel.run import RelabelSettings
from pipeline.settings import PipelineSettings
from pipeline.teachers.spec import TeacherSet, TeacherSpec, Transform
from pipeline.videos.keys import key_of
from pipeline.videos.plan import Size
from shards.format.clip import ClipSpec
from shards.format.example import ClipMeta, Example, MediaAccount, clip_key
from shards.format.manifest import Manifest, TeacherCard
from shards.format.sidefile import Reject
from shards.format.writer import ShardWriter
from shards.media.levels import levels
from tests.forked import FORKSERVER
from tests.media import video_stream

RATE = 22_050
CLIP = ClipSpec(sample_rate=8_000, seconds=2.0, windows=4)
CLASSES = ("tabby", '<b>"tiger" & cat</b>', "espresso", "missile", "bell", "https://example.org/x")
HOSTILE = '<script>alert("1")</script>&\'><img src=https://example.org/x onerror=y>.mp4'
UNPRINTABLE = "line\nbreak \u202egpj caf\udce9.mp4"


@pytest.fixture(scope="session", autouse=True)
def forked_workers():
    """The workers of a run inside a test's process are forked from one that has imported torch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode_worker, "SPAWN", FORKSERVER)
        yield


@pytest.fixture(scope="session")
def render_video():
    return render


def render(path, seconds, *, seed=0, size=(64, 48), fps=10):
    """An H.264 and AAC video: a tint that drifts, and a tone; both follow from the seed."""
    random = np.random.default_rng(seed)
    picture = random.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    tone, frames = 200 + 40 * seed, int(seconds * fps)
    with av.open(path, "w") as container:
        video = video_stream(container, "libx264", fps, size, {"preset": "ultrafast", "g": "20"})
        sound = container.add_stream("aac", RATE, layout="mono")
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, index, axis=1), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(video.encode(frame))
        waveform = 0.3 * np.sin(2 * np.pi * tone * np.arange(int(seconds * RATE)) / RATE)
        for start in range(0, len(waveform), 1024):
            block = av.AudioFrame.from_ndarray(waveform[None, start : start + 1024].astype(np.float32), "fltp", "mono")
            block.sample_rate, block.pts, block.time_base = RATE, start, Fraction(1, RATE)
            container.mux(sound.encode(block))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


def with_statistics(network, noise):
    """Untrained, it answers all with nearly the same; with the statistics of noise it tells pictures apart."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()(noise)
    return network.eval()


@pytest.fixture(scope="session")
def network_folder(tmp_path_factory):
    """Random weights of a small torchvision network, with a list of its class names."""
    folder = tmp_path_factory.mktemp("network")
    torch.manual_seed(0)
    network = torchvision.models.shufflenet_v2_x0_5(num_classes=7)
    with_statistics(network, torch.randn(256, 3, 32, 32))
    network.fc.weight.data.mul_(10)
    torch.save(network.state_dict(), folder / "weights.pth")
    (folder / "classes.txt").write_text("".join(f"class {number}\n" for number in range(7)))
    return folder


@pytest.fixture(scope="session")
def small_spec(network_folder):
    transform = Transform(40, 32, "rgb", [127.0] * 3, [64.0] * 3, "bicubic")
    weights, classes = network_folder / "weights.pth", network_folder / "classes.txt"
    return TeacherSpec("shufflenet_v2_x0_5", str(weights), transform, str(classes))


@pytest.fixture(scope="session")
def small_teachers(small_spec):
    return TeacherSet("small", {"objects": small_spec})


@pytest.fixture(scope="module")
def settings(videos, small_teachers):
    """settings(shards, ...): those of a small run over the module's videos."""
    small = {"clip": ClipSpec(seconds=2.0, windows=4), "shard_size": Size(videos=3), "precision": "float32"}
    small |= {"device": "cpu", "decoders": 2, "teacher_processes": 1, "batch_clips": 2, "validation_share": 0.3}
    small |= {"videos": str(videos), "teachers": small_teachers}
    return lambda shards, **fields: PipelineSettings(**small | {"shards": str(shards)} | fields)


@pytest.fixture(scope="module")
def again(settings, small_spec):
    """again(shards, ...): settings that label them once more, by the same network under another name."""
    teachers = TeacherSet("again", {"objects": small_spec})
    small = {"videos": settings("").videos, "teachers": teachers, "device": "cpu", "batch_clips": 2}
    small |= {"decoders": 1, "teacher_processes": 1}
    return lambda shards, **fields: RelabelSettings(**small | {"shards": str(shards)} | fields)


def tars(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.tar"))}


@pytest.fixture(scope="session")
def words_of(small_spec):
    """The same as words of `python -m pipeline`; one decoder, shards of one video."""

    def words(**fields):
        settings = {"teachers": "efficientnet_lite0", "teachers.name": "small", "device": "cpu", "batch_clips": 2}
        settings |= {"decoders": 1, "teacher_processes": 1, "clip.seconds": 2.0, "validation_share": 0.3}
        settings |= {"precision": "float32", "shard_size.videos": 1}
        for name in ("architecture", "weights", "classes"):
            settings[f"teachers.heads.objects.{name}"] = getattr(small_spec, name)
        transform = "{resize:40,crop:32,channels:rgb,mean:[127,127,127],std:[64,64,64],interpolation:bicubic}"
        settings["teachers.heads.objects.transform"] = transform
        return [f"{name}={value}" for name, value in (settings | fields).items()]

    return words


def strip(frames):
    """A JPEG of so many frames side by side, each in a colour of its own."""
    colours = [[200 - 40 * frame, 30, 30 + 40 * frame] for frame in range(frames)]
    stream = io.BytesIO()
    Image.fromarray(np.repeat(np.array([colours] * 16, np.uint8), 16, axis=1)).save(stream, "JPEG", quality=95)
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
        waveform = rng.integers(-9_999, 9_999, windows * CLIP.window_samples).astype(np.int16)
        facts = {"still": clip == 1, **dict(zip(("peak_db", "rms_db"), levels(waveform), strict=True))}
        meta = ClipMeta(key_of(path), path, 9, "00", clip, 2.0 * clip, windows / 2, times, times, **facts)
        return Example(clip_key(key_of(path), clip), waveform, {"objects": posterior}, meta, strip(windows))

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
        media = {
            path: MediaAccount(10.0, sum(clips) / 2, {"tail": 10 - sum(clips) / 2}, {"gaps_filled": 1})
            for path, clips in videos.items()
        }
        return writer.finish(rejects=lost, dropped=dropped, media=media)

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
