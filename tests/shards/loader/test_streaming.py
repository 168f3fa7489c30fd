from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest
from numpy.typing import NDArray

from shards.errors import UserError
from shards.loader.batch import allocate
from shards.loader.catalog import Catalog, load_catalog
from shards.loader.streaming import Streaming, sequential_reader, training_reader

MakeShards = Callable[..., Path]
SHARDS = {f"train-{index:06d}": 3 for index in range(6)}


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
    stock = Streaming(reader="webdataset", urls=f"pipe:cat {tmp_path}/moved/train-000003.tar")
    assert len(first_batches(catalog, stock)) == 9 * 4


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"threads": 0}, {"prefetch": 0}, {"block_shards": 0}, {"cache_gigabytes": 0.0}):
        with pytest.raises(ValueError, match="streaming needs positive"):
            Streaming(**wrong)
    with pytest.raises(ValueError, match=r"reader=webdataset alone"):
        Streaming(urls="pipe:cat x")
