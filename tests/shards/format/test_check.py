"""A folder that is whole passes; each kind of fault is named."""

import dataclasses
import io
import json
import tarfile

import numpy as np
import pytest
import webdataset
from PIL import Image

from shards.errors import UserError
from shards.files import sha256_of
from shards.format.check import check
from shards.format.clip import ClipSpec
from shards.format.example import ClipMeta, Example
from shards.format.manifest import Manifest, TeacherCard
from shards.format.sidefile import Reject, SideFile, finished, index_members
from shards.format.writer import ShardWriter

CLIP = ClipSpec(sample_rate=800, seconds=2.0, windows=4)
CARD = TeacherCard("resnet18", "w", "00", {}, tuple("abcde"))


def make_example(video, clip, windows=4, classes=5, shift=0.0):
    random = np.random.default_rng(clip)
    posterior = random.dirichlet(np.ones(classes), windows).astype(np.float16) + np.float16(shift)
    times = CLIP.frame_times(windows)
    meta = ClipMeta(video, "a.mp4", 1, "00", clip, 0.0, 2.0, times, times)
    waveform = random.integers(-99, 99, windows * CLIP.window_samples).astype(np.int16)
    return Example(f"{video}-{clip:05d}", waveform, {"objects": posterior}, meta, strip(windows))


def strip(frames, height=8):
    stream = io.BytesIO()
    Image.new("RGB", (8 * frames, height)).save(stream, "JPEG")
    return stream.getvalue()


def framed(frames):
    return dataclasses.replace(make_example("c", 0), frames=frames)


def write(folder, shard, examples):
    folder.mkdir(exist_ok=True)
    Manifest(CLIP, "set", {"objects": CARD}, "float32", "wav", "r", "exact", True, 0.1, 0).save(folder)
    writer = ShardWriter(folder, shard, sample_rate=CLIP.sample_rate)
    for example in examples:
        writer.write(example)
    return writer.finish(rejects=[Reject("x", "x.mp4", "silent", "")])


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "shards"
    write(folder, "train-000000", [make_example("a", 0), make_example("a", 1, windows=2)])
    write(folder, "validation-000000", [make_example("b", 0)])
    return folder


def test_a_whole_folder_passes_and_is_counted(folder):
    found = check(folder)
    assert (found.shards, found.clips, found.seconds) == (2, 3, 5.0)


def test_the_same_examples_give_the_same_bytes(folder, tmp_path):
    again = write(tmp_path / "again", "train-000000", [make_example("a", 0), make_example("a", 1, windows=2)])
    assert again.tar_sha256 == next(finished(folder)).tar_sha256


def test_the_index_agrees_with_tarfile_and_stock_webdataset(folder):
    side = next(finished(folder))
    data = (folder / "train-000000.tar").read_bytes()
    with tarfile.open(folder / "train-000000.tar") as archive:
        for clip, key in enumerate(side.keys):
            for extension, column in side.members.items():
                offset, size = column[clip]
                assert archive.extractfile(f"{key}.{extension}").read() == data[offset : offset + size]
    samples = list(webdataset.WebDataset(str(folder / "train-000000.tar"), shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == side.keys
    total = sum(sample["objects.npy"].astype(np.float64).sum(axis=0) for sample in samples)
    assert np.allclose(total, side.posterior_sums["objects"])


def flip_a_byte(folder):
    path = folder / "train-000000.tar"
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)


def edit_side(folder, **fields):
    path = folder / "train-000000.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | fields))


FAULTS = {
    "sha256": flip_a_byte,
    "bytes, its side file says": lambda f: (f / "train-000000.tar").write_bytes(b"x" * 512),
    "only one of tar and side file": lambda f: (f / "validation-000000.json").unlink(),
    "sum of objects": lambda f: edit_side(f, posterior_sums={"objects": [1.0] * 5}),
    "the side file says": lambda f: edit_side(f, samples=[1600, 799]),
    "side file's index is not that of its members": lambda f: edit_side(
        f, members=next(finished(f)).members | {"wav": [[0, 2**62]] * 2}
    ),
    "index is not that of its members": lambda f: edit_side(f, keys=["../../a", "b"]),
    "it describes shard '../../../etc/passwd'": lambda f: edit_side(f, shard="../../../etc/passwd"),
    "a member of 10 bytes at -1 cannot be": lambda f: edit_side(f, members={"wav": [[-1, 10], None]}),
    "not a shard's side file: '<' not supported": lambda f: edit_side(f, members={"wav": [["a", "b"], None]}),
    "not a shard's side file: 'list' object": lambda f: (f / "train-000000.json").write_text("[]"),
    "has format 99, this program reads": lambda f: edit_side(f, format=99),
    "index": lambda f: edit_side(f, members=next(finished(f)).members | {"wav": [(0, 1), (0, 1)]}),
    "a-00000: the side file says rms_db -1.0, its json -55.21": lambda f: edit_side(f, rms_db=[-1.0, -2.0]),
    "a-00000: the side file says peak_db nothing": lambda f: edit_side(f, peak_db=[]),
    "a-00001: the side file says given {'class': 'dog'}, its json {}": lambda f: edit_side(
        f, given=[{}, {"class": "dog"}]
    ),
    "has 0 bytes of frames, the manifest says keep_frames=True": lambda f: write(f, "train-000001", [framed(b"")]),
    "32 x 16 pixels, which are not 4 squares": lambda f: write(f, "train-000001", [framed(strip(4, height=16))]),
    "its frames cannot be read": lambda f: write(f, "train-000001", [framed(b"\xff\xd8 nonsense")]),
    "is also in": lambda f: write(f, "train-000001", [make_example("a", 0)]),
    "this shard in validation": lambda f: write(f, "validation-000001", [make_example("a", 7)]),
    "has 4 classes, the manifest 5": lambda f: write(f, "train-000001", [make_example("c", 0, classes=4)]),
    "is no posterior": lambda f: write(f, "train-000001", [make_example("c", 0, shift=0.5)]),
    "samples for 3 windows": lambda f: write(
        f,
        "train-000001",
        [dataclasses.replace(make_example("c", 0, windows=3), waveform=np.ones(900, np.int16))],
    ),
}


@pytest.mark.parametrize("message", FAULTS)
def test_each_fault_is_named(folder, message):
    FAULTS[message](folder)
    with pytest.raises(UserError, match=message):
        check(folder)


def test_levels_that_are_not_those_of_the_sound_are_found(folder, monkeypatch):
    monkeypatch.setattr("shards.format.members.levels", lambda waveform: (-3.0, -20.0))
    write(folder, "train-000001", [make_example("c", 0)])
    with pytest.raises(UserError, match=r"c-00000: its json says peak_db -3\.0, its sound has -50\.4"):
        check(folder)


def test_every_clip_of_a_shard_has_the_same_members(folder):
    with pytest.raises(ValueError, match=r"'c-00000' has other members than the clips before"):
        write(folder, "train-000001", [make_example("a", 0), framed(b"")])


def test_a_member_that_some_clips_lack_is_named(folder):
    """As another program may have written it: the tar, its index and its hash agree."""
    tar = folder / "train-000000.tar"
    with tarfile.open(tar) as archive:
        kept = [(member, archive.extractfile(member).read()) for member in archive]
    with tarfile.open(tar, "w") as archive:
        for member, data in kept:
            if member.name != "a-00001.frames.jpg":
                archive.addfile(member, io.BytesIO(data))
    index, side = index_members(tar), next(finished(folder))
    members = {name: [index[key].get(name) for key in side.keys] for name in side.members}
    edit_side(folder, members=members, tar_bytes=tar.stat().st_size, tar_sha256=sha256_of(tar))
    with pytest.raises(UserError, match=r"train-000000\.tar: a-00001 has no frames\.jpg"):
        check(folder)


def test_a_side_file_of_nonsense_is_refused(folder):
    (folder / "train-000000.json").write_text("[]")
    with pytest.raises(UserError, match="not a shard's side file"):
        list(finished(folder))
    with pytest.raises(UserError, match="side file"):
        SideFile.load(folder / "train-000000.json")
