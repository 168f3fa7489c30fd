"""The reader that training and validation get: near or far, and with on_bad_shard=skip around what is damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest
from numpy.typing import NDArray

from shards.errors import UserError
from shards.format.shard import DamagedShard
from shards.loader.batch import PrefetchRing, allocate
from shards.loader.catalog import Catalog, load_catalog
from shards.loader.order import Order
from shards.loader.reader import BatchReader
from shards.loader.streaming import Streaming, sequential_reader, training_reader

MakeShards = Callable[..., Path]
SHARDS = {f"train-{index:06d}": 3 for index in range(6)}
UNEVEN = {"train-000000": 6, "train-000001": 8, "train-000002": 5, "train-000003": 7}
FLIPPED = [1, 2, 17]  # clips of train-000000 and -000002
CUT = range(6, 14)  # all of train-000001
Row = tuple[int, bytes, bytes]  # the clip it holds, its sound and its labels


def first_batches(catalog: Catalog, settings: Streaming, count: int = 9) -> list[NDArray[np.generic]]:
    ring = [allocate(4, catalog.clip, catalog.classes) for _ in range(settings.prefetch)]
    arrays: list[NDArray[np.generic]] = []
    with training_reader(catalog, ring, settings, seed=2, batch=4) as reader:
        for _ in range(count):
            batch = next(reader)
            arrays += [array.copy() for array in (batch.waveform, batch.lengths, *batch.posteriors.values())]
            reader.release(batch)
    return arrays


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_shards_behind_a_url_give_the_same_stream_through_a_small_cache(
    tmp_path: Path, make_shards: MakeShards, scheme: str
) -> None:
    folder = make_shards(tmp_path / "shards", SHARDS)
    make_shards(folder / "teachers/big", SHARDS, heads={"objects": 9}, teacher_set="big", labels_only=True, seed=1)
    url = f"file://{folder}"
    if scheme == "memory":
        url = f"memory://stream-{tmp_path.name}"
        fsspec.filesystem("memory").put(f"{folder}/", f"/stream-{tmp_path.name}/", recursive=True)
    size = (folder / "train-000000.tar").stat().st_size
    settings = Streaming(block_shards=1, cache=tmp_path / "cache", cache_gigabytes=4.5 * size / 1e9)
    for teacher_set in (None, "big"):
        near = first_batches(load_catalog(str(folder), "train", teacher_set=teacher_set), settings)
        far = first_batches(load_catalog(url, "train", teacher_set=teacher_set), settings)
        for one, two in zip(near, far, strict=True):
            np.testing.assert_array_equal(one, two)
    held = [path.stat().st_size for path in (tmp_path / "cache").glob("*.tar")]
    assert 2 * size <= sum(held) <= 4.5 * size


def test_a_cache_that_cannot_hold_two_blocks_is_refused(tmp_path: Path, make_shards: MakeShards) -> None:
    catalog = load_catalog(f"file://{make_shards(tmp_path / 'shards', SHARDS)}", "train")
    with pytest.raises(UserError, match="raise cache_gigabytes or lower block_shards"):
        first_batches(catalog, Streaming(cache=tmp_path / "cache", cache_gigabytes=1e-5))


def test_a_split_without_clips_cannot_be_trained_on_but_validated(tmp_path: Path, make_shards: MakeShards) -> None:
    catalog = load_catalog(str(make_shards(tmp_path, SHARDS)), "validation")
    with pytest.raises(UserError, match="holds no clip of split validation"):
        first_batches(catalog, Streaming())
    assert list(sequential_reader(catalog, [allocate(4, catalog.clip, catalog.classes)], Streaming())) == []


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_lost_tar_is_missed_before_training_but_by_pipes(
    tmp_path: Path, make_shards: MakeShards, scheme: str
) -> None:
    folder = make_shards(tmp_path / "shards", SHARDS)
    (tmp_path / "moved").mkdir()
    (folder / "train-000003.tar").rename(tmp_path / "moved/train-000003.tar")
    catalog = load_catalog(f"{scheme}{folder}", "train")
    with pytest.raises(UserError, match=r"shards holds train-000003\.json but not train-000003\.tar: put it back"):
        first_batches(catalog, Streaming(cache=tmp_path / "cache"))
    pipes = Streaming(reader="webdataset", urls=f"pipe:cat {tmp_path}/moved/train-000003.tar")
    assert len(first_batches(catalog, pipes)) == 9 * 4


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"threads": 0}, {"prefetch": 0}, {"block_shards": 0}, {"cache_gigabytes": 0.0}):
        with pytest.raises(ValueError, match="are above 0, not .*" + "=".join(map(str, *wrong.items()))):
            Streaming(**wrong)
    with pytest.raises(ValueError, match=r"on_bad_shard=skip is for streaming.reader=direct"):
        Streaming(reader="webdataset", on_bad_shard="skip")
    with pytest.raises(ValueError, match=r"reader=webdataset alone"):
        Streaming(urls="pipe:cat x")


@pytest.fixture
def damaged(tmp_path: Path, make_shards: MakeShards) -> Catalog:
    """Three clips with a flipped bit in their sound or labels, and a shard cut short."""
    catalog = load_catalog(str(make_shards(tmp_path, UNEVEN)), "train")
    for clip in FLIPPED:
        tar = Path(catalog.sounds[catalog.shard[clip]].location)
        offset, size = (catalog.sound_places if clip % 2 else catalog.posterior_places["objects"])[clip]
        data = bytearray(tar.read_bytes())
        data[offset + size - 5] ^= 1
        tar.write_bytes(data)
    with open(catalog.sounds[1].location, "r+b") as stream:
        stream.truncate(4096)
    return catalog


def rows_of(reader: PrefetchRing, batches: int) -> tuple[list[Row], list[int]]:
    """All rows of the next batches, and the clips skipped in them."""
    rows: list[Row] = []
    skipped = []
    for _ in range(batches):
        batch = next(reader)
        for row, clip in enumerate(batch.clips.tolist()):
            labels = b"".join(posterior[row].tobytes() for posterior in batch.posteriors.values())
            rows.append((clip, batch.waveform[row].tobytes(), labels))
        skipped += [skip.clip for skip in sorted(batch.skipped, key=lambda skip: skip.row)]
        reader.release(batch)
    return rows, skipped


def read(
    catalog: Catalog, batches: int, *, threads: int = 4, buffers: int = 3, **place: int
) -> tuple[list[Row], list[int]]:
    ring = [allocate(6 // place.get("world", 1), catalog.clip, catalog.classes) for _ in range(buffers)]
    settings = Streaming(threads=threads, block_shards=2, on_bad_shard="skip")
    with training_reader(catalog, ring, settings, seed=4, batch=6, **place) as reader:
        return rows_of(reader, batches)


def test_the_next_good_clip_of_the_stream_takes_the_row(damaged: Catalog) -> None:
    bad = {*FLIPPED, *CUT}
    stream = Order(damaged.shard_clips, seed=4, block_shards=2).take(0, 300).tolist()
    expected = [next(clip for clip in stream[place:] if clip not in bad) for place in range(60)]
    rows, skipped = read(damaged, 10)
    assert [clip for clip, _, _ in rows] == expected
    assert skipped == [clip for clip in stream[:60] if clip in bad] and set(skipped) == bad


def test_every_row_holds_a_clip_as_it_was_written(damaged: Catalog, tmp_path: Path, make_shards: MakeShards) -> None:
    whole = load_catalog(str(make_shards(tmp_path / "whole", UNEVEN)), "train")
    written = {clip: (sound, labels) for clip, sound, labels in read(whole, 10)[0]}
    assert all(written[clip] == (sound, labels) for clip, sound, labels in read(damaged, 10)[0])


@pytest.mark.parametrize("variant", [{"threads": 1, "buffers": 1}, {"threads": 9, "buffers": 7}])
def test_threads_change_nothing(damaged: Catalog, variant: dict[str, int]) -> None:
    assert read(damaged, 10, **variant) == read(damaged, 10)


def test_a_position_resumes_the_same_rows(damaged: Catalog) -> None:
    rows, _ = read(damaged, 10)
    assert read(damaged, 6, position=24)[0] == rows[24:]


def test_ranks_take_as_many_steps_and_read_the_single_stream(damaged: Catalog) -> None:
    alone, _ = read(damaged, 8)
    halves = [read(damaged, 8, rank=rank, world=2)[0] for rank in (0, 1)]
    together = [row for step in range(8) for half in halves for row in half[3 * step : 3 * step + 3]]
    assert together == alone


def test_a_shard_that_is_gone_is_left_out_like_one_cut_short(damaged: Catalog) -> None:
    expected = read(damaged, 10)
    Path(damaged.sounds[1].location).unlink()
    assert read(damaged, 10) == expected


def test_validation_leaves_the_rows_empty(damaged: Catalog) -> None:
    buffers = [allocate(5, damaged.clip, damaged.classes) for _ in range(2)]
    with sequential_reader(damaged, buffers, Streaming(on_bad_shard="skip")) as reader:
        assert isinstance(reader, BatchReader)
        skipped = []
        for batch in reader:
            empty = {skip.row for skip in batch.skipped}
            skipped += [skip.clip for skip in batch.skipped]
            for row in range(batch.count):
                assert (not batch.waveform[row].any()) == (not batch.lengths[row]) == (row in empty)
            reader.release(batch)
    assert sorted(skipped) == sorted([*FLIPPED, *CUT])


def test_where_nothing_can_be_read_it_stops(damaged: Catalog) -> None:
    for tar in damaged.sounds:
        Path(tar.location).write_bytes(b"")
    with pytest.raises(DamagedShard, match=r"no clip of .* can be read, though there are 26"):
        read(damaged, 1)
