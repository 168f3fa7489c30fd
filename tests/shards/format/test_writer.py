"""The writer of shards: the archive of another program's hand, hashed without being read again."""

import hashlib
import tarfile

import numpy as np
import pytest
from webdataset.writer import TarWriter

from shards.format.example import ClipMeta, Example
from shards.format.members import encode, encode_sound, with_encoded_sound
from shards.format.writer import HashedTar, ShardWriter

RATE = 8_000
# Nothing, less than a block, a block, the end of a record (10,240 bytes, headers included), and more than any buffer.
SIZES = [0, 1, 512, 513, 9 * 512, 18 * 512, 3_000_000]


@pytest.mark.parametrize("sizes", [[], [0], SIZES, *([size] for size in SIZES)], ids=str)
def test_a_tar_is_that_of_webdatasets_writer_byte_for_byte(tmp_path, sizes):
    random = np.random.default_rng(0)
    members = {f"k{number}": random.bytes(size) for number, size in enumerate(sizes)}
    with open(tmp_path / "theirs.tar", "wb") as stream:
        theirs = TarWriter(stream, mtime=0, user="", group="", encoder=False)
        if members:
            theirs.write({"__key__": "a%2Emp4-00000", **members})
        theirs.close()
    ours = HashedTar(tmp_path / "ours.tar")
    places = {name: ours.add(f"a%2Emp4-00000.{name}", data) for name, data in members.items()}
    digest = ours.finish()
    data = (tmp_path / "ours.tar").read_bytes()
    assert data == (tmp_path / "theirs.tar").read_bytes()
    assert (digest, ours.bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    with tarfile.open(tmp_path / "ours.tar") as archive:
        assert list(places.values()) == [(member.offset_data, member.size) for member in archive]
    assert [data[offset : offset + size] for offset, size in places.values()] == list(members.values())


def example(key, windows=2):
    random = np.random.default_rng(len(key))
    meta = ClipMeta("v", "v.mp4", 1, "00", 0, 0.0, 1.0, [0.5] * windows, [0.5] * windows)
    waveform = random.integers(-3_000, 3_000, 5_000).astype(np.int16)
    return Example(key, waveform, {"objects": np.full((windows, 4), 0.25, np.float16)}, meta, b"jpeg")


@pytest.mark.parametrize("audio", ["wav", "flac"])
def test_sound_that_was_encoded_elsewhere_makes_the_same_shard(tmp_path, audio):
    sides = []
    for place in ("whole", "encoded"):
        (tmp_path / place).mkdir()
        writer = ShardWriter(tmp_path / place, "train-000000", sample_rate=RATE, audio=audio)
        for key in ("v-00000", "v-00001"):
            whole = example(key)
            writer.write(whole if place == "whole" else with_encoded_sound(whole, RATE, audio))
        sides.append(writer.finish())
    assert sides[0] == sides[1]
    assert (tmp_path / "whole/train-000000.tar").read_bytes() == (tmp_path / "encoded/train-000000.tar").read_bytes()
    sound, facts = encode_sound(example("v-00000").waveform, RATE, audio)
    assert (sound, facts.samples) == (encode(example("v-00000"), RATE, audio)[audio], 5_000)


def test_a_key_comes_once(tmp_path):
    writer = ShardWriter(tmp_path, "train-000000", sample_rate=RATE)
    writer.write(example("v-00000"))
    with pytest.raises(ValueError, match="'v-00000' is in train-000000 already"):
        writer.write(example("v-00000"))
    writer.close()
    assert not list(tmp_path.iterdir())
