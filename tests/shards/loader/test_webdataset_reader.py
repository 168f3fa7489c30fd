from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shards.errors import UserError
from shards.format.shard import DamagedShard
from shards.loader.batch import Batch, allocate
from shards.loader.catalog import Catalog, load_catalog
from shards.loader.streaming import Streaming, sequential_reader
from shards.loader.webdataset_reader import WebDatasetReader

MakeShards = Callable[..., Path]
SHARDS = {f"train-{index:06d}": 4 for index in range(4)}


def ring_of(catalog: Catalog, rows: int = 4) -> list[Batch]:
    return [allocate(rows, catalog.clip, catalog.classes) for _ in range(2)]


def row_bytes(batch: Batch, row: int) -> bytes:
    arrays = [batch.waveform, batch.lengths, batch.windows, *batch.posteriors.values()]
    return b"".join(array[row].tobytes() for array in arrays)


@pytest.mark.parametrize("audio", ["wav", "flac"])
def test_rows_are_those_of_our_reader(tmp_path: Path, make_shards: MakeShards, audio: str) -> None:
    catalog = load_catalog(str(make_shards(tmp_path, SHARDS, audio=audio)), "train")
    ours = set()
    with sequential_reader(catalog, ring_of(catalog), Streaming()) as reader:
        for batch in reader:
            ours |= {row_bytes(batch, row) for row in range(batch.count)}
            reader.release(batch)
    rows: list[bytes] = []
    with WebDatasetReader(catalog, ring_of(catalog), seed=0, batch=4) as reader:
        for step in range(8):  # two epochs
            batch = next(reader)
            assert (batch.position, batch.consumed, batch.count) == (4 * step, 4 * step + 4, 4)
            rows += [row_bytes(batch, row) for row in range(4)]
            reader.release(batch)
    assert set(rows[:16]) == set(rows[16:]) == ours
    assert rows[:16] != rows[16:]


def test_ranks_share_the_tars_and_pipes_are_followed(tmp_path: Path, make_shards: MakeShards) -> None:
    catalog = load_catalog(str(make_shards(tmp_path, SHARDS)), "train")
    urls = f"pipe:cat {tmp_path}/train-{{000000..000003}}.tar"
    seen = []
    for rank in range(2):
        with WebDatasetReader(catalog, ring_of(catalog), seed=0, batch=8, rank=rank, world=2, urls=urls) as reader:
            for _ in range(2):
                batch = next(reader)
                assert batch.position % 8 == 4 * rank
                seen += [batch.waveform[row].tobytes() for row in range(4)]
                reader.release(batch)
    assert len(set(seen)) == 16


@pytest.mark.parametrize("world", [1, 3, 5])
def test_a_scan_gives_every_clip_of_a_part_once_under_its_number(
    tmp_path: Path, make_shards: MakeShards, world: int
) -> None:
    catalog = load_catalog(str(make_shards(tmp_path, SHARDS)), "train").part(np.array([0, 1, 2, 5, 9, 10, 11, 15]))
    ours, theirs = {}, {}
    with sequential_reader(catalog, ring_of(catalog), Streaming()) as reader:
        for batch in reader:
            ours |= {int(clip): row_bytes(batch, row) for row, clip in enumerate(batch.clips)}
            reader.release(batch)
    settings = Streaming(reader="webdataset", validation_urls=f"pipe:cat {tmp_path}/train-{{000000..000003}}.tar")
    for rank in range(world):
        with sequential_reader(catalog, ring_of(catalog, 3), settings, rank=rank, world=world) as reader:
            for batch in reader:
                assert not theirs.keys() & set(batch.clips.tolist()), "no clip comes twice"
                theirs |= {int(clip): row_bytes(batch, row) for row, clip in enumerate(batch.clips)}
                reader.release(batch)
    assert theirs == ours and len(ours) == 8


def test_what_webdataset_cannot_do_is_refused(tmp_path: Path, make_shards: MakeShards) -> None:
    folder = make_shards(tmp_path, SHARDS)
    make_shards(folder / "teachers/big", SHARDS, heads={"objects": 9}, teacher_set="big", labels_only=True)
    joined, own = load_catalog(str(folder), "train", teacher_set="big"), load_catalog(str(folder), "train")
    with pytest.raises(UserError, match="not teacher set big: leave out teacher_set or reader"):
        WebDatasetReader(joined, ring_of(joined), seed=0, batch=4)
    with pytest.raises(UserError, match="5 ranks cannot share 4 shards"):
        WebDatasetReader(own, ring_of(own), seed=0, batch=5, world=5)


def test_damage_stops_and_is_named(tmp_path: Path, make_shards: MakeShards) -> None:
    catalog = load_catalog(str(make_shards(tmp_path, SHARDS)), "train")
    with tarfile.open(tmp_path / "train-000001.tar") as archive:
        offset = next(member.offset_data for member in archive if member.name.endswith("00002.wav"))
    with open(tmp_path / "train-000001.tar", "r+b") as stream:
        stream.seek(offset)
        stream.write(b"RIFX")
    reader = WebDatasetReader(catalog, ring_of(catalog), seed=0, batch=4)
    with reader, pytest.raises(DamagedShard, match=r"train-000001\.tar: train-000001%2Emp4-00002"):
        for batch in reader:
            reader.release(batch)


def test_other_shards_than_the_manifest_describes_are_refused(tmp_path: Path, make_shards: MakeShards) -> None:
    catalog = load_catalog(str(make_shards(tmp_path / "a", SHARDS)), "train")
    make_shards(tmp_path / "b", SHARDS, heads={"objects": 9, "scenes": 5})
    reader = WebDatasetReader(catalog, ring_of(catalog), seed=0, batch=4, urls=f"{tmp_path}/b/train-000000.tar")
    with reader, pytest.raises(DamagedShard, match="do not fit the manifest"):
        next(reader)
