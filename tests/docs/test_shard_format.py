"""docs/shard-format.md is exact: the reader printed there, which knows nothing of this project, reads our shards."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shards.format.clip import ClipSpec
from shards.format.example import LEFT_OUT, REPAIRED, ClipMeta, Example
from shards.format.manifest import FORMAT as MANIFEST_FORMAT
from shards.format.manifest import Manifest, TeacherCard, TextEmbedding
from shards.format.sidefile import FORMAT as SIDE_FORMAT
from shards.format.sidefile import SideFile
from shards.format.writer import ShardWriter

CLIP = ClipSpec(sample_rate=22_050, seconds=4.0, windows=2)
ReadShard = Callable[[Path, str], Any]


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "shard-format.md").read_text()


@pytest.fixture
def read_shard(page: str) -> ReadShard:
    (source,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(source, names)
    return names["read_shard"]


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    """Written to tmp_path: a whole clip, a shorter one, and one whose sound fills no block of the checksum."""
    random = np.random.default_rng(0)
    card = TeacherCard("net", "net.pth", "0" * 64, {}, tuple(f"class {index}" for index in range(3000)))
    Manifest(CLIP, "small", {"objects": card}, "float32", "wav", "none", "exact", True, 0.1, 0).save(tmp_path)
    writer = ShardWriter(tmp_path, "train-000000", sample_rate=CLIP.sample_rate)
    made = []
    for index, (samples, windows) in enumerate([(CLIP.samples, 2), (CLIP.window_samples, 1), (4001, 1)]):
        waveform = random.integers(-(2**15), 2**15, samples, dtype=np.int16)
        posteriors = {"objects": random.dirichlet(np.ones(3000), windows).astype(np.float16)}
        meta = ClipMeta("v", "v.mp4", 1, "0" * 64, index, 4.0 * index, samples / 22_050, [1.0], [1.02])
        made.append(Example(f"v-{index:05d}", waveform, posteriors, meta, b"jpeg"))
        writer.write(made[-1])
    writer.finish()
    return made


def test_the_reader_of_the_page_reads_what_we_write(
    read_shard: ReadShard, examples: list[Example], tmp_path: Path
) -> None:
    found = list(read_shard(tmp_path, "train-000000"))
    assert len(found) == len(examples)
    for (key, waveform, posteriors, facts), example in zip(found, examples, strict=True):
        assert key == example.key and facts["start"] == example.meta.start and facts["frame_got"] == [1.02]
        np.testing.assert_array_equal(waveform, example.waveform)
        rms = 10 * math.log10(np.square(waveform / 32768).mean())
        assert facts["rms_db"] == pytest.approx(rms, abs=0.006) and facts["peak_db"] == 0 and facts["given"] == {}
        np.testing.assert_array_equal(posteriors["objects"], example.posteriors["objects"])


def test_it_finds_a_flipped_bit(read_shard: ReadShard, examples: list[Example], tmp_path: Path) -> None:
    tar = tmp_path / "train-000000.tar"
    data = bytearray(tar.read_bytes())
    data[len(data) // 2] ^= 1
    tar.write_bytes(data)
    with pytest.raises(AssertionError, match="is not what was written"):
        list(read_shard(tmp_path, "train-000000"))


def test_the_page_names_the_formats_and_every_field(page: str, examples: list[Example], tmp_path: Path) -> None:
    assert f"Manifest: format {MANIFEST_FORMAT}.\nSide file: format {SIDE_FORMAT}." in page
    assert [name for name in (*LEFT_OUT, *REPAIRED) if f"`{name}`" not in page] == []
    for artifact in (Manifest, SideFile, TeacherCard, TextEmbedding, ClipMeta):
        assert [name for name in artifact.__dataclass_fields__ if f"`{name}`" not in page] == []
