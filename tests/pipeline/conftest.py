"""Small videos and a small real network, made on the spot."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
import torchvision

from pipeline.teachers.teacher import TeacherSet, TeacherSpec, Transform
from tests.media import video_stream

RATE = 22_050


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


@pytest.fixture(scope="session")
def network_folder(tmp_path_factory):
    """Random weights of a small torchvision network, with a list of its class names."""
    folder = tmp_path_factory.mktemp("network")
    torch.manual_seed(0)
    network = torchvision.models.shufflenet_v2_x0_5(num_classes=7)
    # Untrained, it answers nearly the same to everything; with batch-norm statistics of noise it tells pictures apart.
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()(torch.randn(256, 3, 32, 32))
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


@pytest.fixture(scope="session")
def words_of(small_spec):
    """The words of `python -m pipeline` for the small network; one decoder, one teacher process, on the CPU."""

    def words(**fields):
        settings = {"teachers": "efficientnet_lite0", "teachers.name": "small", "device": "cpu", "batch_clips": 2}
        settings |= {"decoders": 1, "teacher_processes": 1, "clip.seconds": 2.0, "validation_share": 0.3}
        for name in ("architecture", "weights", "classes"):
            settings[f"teachers.heads.objects.{name}"] = getattr(small_spec, name)
        transform = "{resize:40,crop:32,channels:rgb,mean:[127,127,127],std:[64,64,64],interpolation:bicubic}"
        settings["teachers.heads.objects.transform"] = transform
        return [f"{name}={value}" for name, value in (settings | fields).items()]

    return words
