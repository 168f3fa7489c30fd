from __future__ import annotations

import io
import os
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from shards.format.members import checksum
from shards.format.shard import DamagedShard
from shards.loader import reader as reader_module
from shards.loader.batch import Batch, allocate
from shards.loader.catalog import Catalog, load_catalog
from shards.loader.order import Order, sequential_indices
from shards.loader.reader import BatchReader
from shards.loader.streaming import Streaming, sequential_reader, training_reader
from shards.loader.tars.store import OpenTar, Tar, TarPool

MakeShards = Callable[..., Path]
SHARDS = {"train-000000": 5, "train-000001": 7, "train-000002": 4}


def ring_of(catalog: Catalog, rows: int, count: int = 3) -> list[Batch]:
    ring = [allocate(rows, catalog.clip, catalog.classes) for _ in range(count)]
    for batch in ring:  # what a buffer held before must not be seen
        batch.waveform[:] = 99
        for posterior in batch.posteriors.values():
            posterior[:] = 99
    return ring


def decoded(folder: Path) -> dict[str, dict[str, NDArray[np.generic]]]:
    """Every clip of a folder by tarfile, soundfile and np.load: {key: {extension: array}}."""
    clips: dict[str, dict[str, NDArray[np.generic]]] = {}
    for tar in sorted(folder.glob("*.tar")):
        with tarfile.open(tar) as archive:
            for member in archive:
                key, _, extension = member.name.partition(".")
                stream = archive.extractfile(member)
                assert stream is not None
                data = io.BytesIO(stream.read())
                if extension in ("wav", "flac"):
                    clips.setdefault(key, {})[extension] = soundfile.read(data, dtype="int16")[0]
                elif extension.endswith("npy"):
                    clips.setdefault(key, {})[extension] = np.load(data)
    return clips


def drawn(reader: BatchReader, batches: int) -> list[tuple[list[int], bytes]]:
    """Clips and all bytes of the next batches, each copied before it is given back."""
    result = []
    for _ in range(batches):
        batch = next(reader)
        arrays = [batch.waveform, batch.lengths, batch.windows, *batch.posteriors.values()]
        result.append((batch.clips.tolist(), b"".join(array.tobytes() for array in arrays)))
        reader.release(batch)
    return result


@pytest.mark.parametrize("audio", ["wav", "flac"])
def test_rows_are_what_independent_decoders_find(tmp_path: Path, make_shards: MakeShards, audio: str) -> None:
    folder = make_shards(tmp_path / "shards", SHARDS, audio=audio)
    truth, catalog = decoded(folder), load_catalog(str(folder), "train")
    seen = []
    with training_reader(catalog, ring_of(catalog, 6), Streaming(threads=3), seed=3, batch=6) as reader:
        for _ in range(8):  # three epochs
            batch = next(reader)
            for row, clip in enumerate(batch.clips):
                members = truth[str(catalog.keys[clip])]
                sound, windows = members[audio], len(members["objects.npy"])
                assert batch.lengths[row] == len(sound) and batch.windows[row] == windows
                np.testing.assert_array_equal(batch.waveform[row, : len(sound)], sound)
                assert not batch.waveform[row, len(sound) :].any()
                for head, posterior in batch.posteriors.items():
                    np.testing.assert_array_equal(posterior[row, :windows], members[f"{head}.npy"])
                    assert not posterior[row, windows:].any()
            seen += batch.clips.tolist()
            reader.release(batch)
    assert seen == Order(catalog.shard_clips, seed=3).take(0, 48).tolist()


def test_validation_sees_every_clip_once_and_ends(tmp_path: Path, make_shards: MakeShards) -> None:
    catalog = load_catalog(str(make_shards(tmp_path, SHARDS)), "train")
    seen, counts = [], []
    with sequential_reader(catalog, ring_of(catalog, 6), Streaming()) as reader:
        for batch in reader:
            seen += batch.clips.tolist()
            counts.append(batch.count)
            assert not batch.waveform[batch.count :].any() and not batch.lengths[batch.count :].any()
            reader.release(batch)
    assert seen == list(range(16)) and counts == [6, 6, 4]


def test_a_batch_stays_as_it_is_until_it_is_given_back(tmp_path: Path, make_shards: MakeShards) -> None:
    catalog = load_catalog(str(make_shards(tmp_path, SHARDS)), "train")
    with training_reader(catalog, ring_of(catalog, 4, 3), Streaming(), seed=0, batch=4) as reader:
        held = next(reader)
        before = held.waveform.copy()
        drawn(reader, 10)
        np.testing.assert_array_equal(held.waveform, before)
        others = [next(reader), next(reader)]
        with pytest.raises(RuntimeError, match="release one before"):
            next(reader)
        reader.release(others[0])
        assert next(reader) is others[0]


def test_a_truncated_shard_stops_before_anything_is_read_from_it(tmp_path: Path, make_shards: MakeShards) -> None:
    catalog = load_catalog(str(make_shards(tmp_path, SHARDS)), "train")
    with open(tmp_path / "train-000002.tar", "r+b") as stream:
        stream.truncate(5000)
    reader = training_reader(catalog, ring_of(catalog, 4), Streaming(), seed=0, batch=4)
    with reader, pytest.raises(DamagedShard, match=r"train-000002\.tar has 5000 bytes, its side file says"):
        drawn(reader, 5)


def test_a_shard_truncated_while_it_is_open_never_reaches_a_batch(tmp_path: Path, make_shards: MakeShards) -> None:
    catalog = load_catalog(str(make_shards(tmp_path, SHARDS)), "train")
    with training_reader(catalog, ring_of(catalog, 4, 1), Streaming(), seed=0, batch=4) as reader:
        drawn(reader, 4)
        for tar in tmp_path.glob("*.tar"):
            with open(tar, "r+b") as stream:
                stream.truncate(5000)
        with pytest.raises(DamagedShard, match="the shard ends after"):
            drawn(reader, 5)


def _flip_a_bit(folder: Path, catalog: Catalog, clip: int, place: int) -> None:
    tar = folder / f"{catalog.sounds[catalog.shard[clip]].shard}.tar"
    data = bytearray(tar.read_bytes())
    data[place] ^= 0x10
    tar.write_bytes(data)


@pytest.mark.parametrize("audio", ["wav", "flac"])
def test_a_flipped_bit_in_sound_or_labels_stops_with_shard_and_key(
    tmp_path: Path, make_shards: MakeShards, audio: str
) -> None:
    catalog = load_catalog(str(make_shards(tmp_path, SHARDS, audio=audio)), "train")
    for places, member in ((catalog.sound_places, audio), (catalog.posterior_places["scenes"], r"scenes\.npy")):
        offset, size = places[6].tolist()
        _flip_a_bit(tmp_path, catalog, 6, offset + size - 9)
        reader = training_reader(catalog, ring_of(catalog, 4), Streaming(), seed=0, batch=4)
        with reader, pytest.raises(DamagedShard, match=rf"train-000001\.tar: \S+-00001\.{member}: its .*_shard=skip"):
            drawn(reader, 5)
        _flip_a_bit(tmp_path, catalog, 6, offset + size - 9)
    with training_reader(catalog, ring_of(catalog, 4), Streaming(), seed=0, batch=4) as reader:
        drawn(reader, 5)


def test_a_clip_is_compared_when_it_is_first_read_and_not_in_every_epoch(
    tmp_path: Path, make_shards: MakeShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = load_catalog(str(make_shards(tmp_path, SHARDS)), "train")
    compared: list[int] = []
    monkeypatch.setattr(reader_module, "checksum", lambda array: compared.append(array.nbytes) or checksum(array))
    # One thread: two may have the same clip of two epochs in hand at once, and both compare it.
    with training_reader(catalog, ring_of(catalog, 4), Streaming(threads=1), seed=0, batch=4) as reader:
        epochs = [sorted(clip for clips, _ in drawn(reader, 4) for clip in clips) for _ in range(3)]  # of 16 clips
    assert epochs == [list(range(16))] * 3
    assert len(compared) == 16 * (1 + len(catalog.posterior_places))


def test_verify_finds_a_flipped_bit_before_anything_is_read(tmp_path: Path, make_shards: MakeShards) -> None:
    catalog = load_catalog(str(make_shards(tmp_path, SHARDS)), "train")
    _flip_a_bit(tmp_path, catalog, 0, 0)  # a tar header: no clip's bytes
    reader = training_reader(catalog, ring_of(catalog, 4), Streaming(verify=True), seed=0, batch=4)
    with reader, pytest.raises(DamagedShard, match=r"train-000000\.tar has sha256 .* its side file says"):
        drawn(reader, 5)


def test_closing_leaves_no_thread_and_no_open_shard(tmp_path: Path, make_shards: MakeShards) -> None:
    def open_shards() -> list[str]:
        paths = (os.path.realpath(f"/proc/self/fd/{descriptor}") for descriptor in os.listdir("/proc/self/fd"))
        return [path for path in paths if path.startswith(str(tmp_path))]

    catalog = load_catalog(str(make_shards(tmp_path, SHARDS)), "train")
    threads = threading.active_count()
    reader = training_reader(catalog, ring_of(catalog, 4), Streaming(), seed=0, batch=4)
    drawn(reader, 5)
    assert len(open_shards()) == 3
    reader.close()
    reader.close()
    assert not open_shards() and threading.active_count() == threads


def test_closing_does_not_wait_for_shards_still_to_be_fetched(tmp_path: Path, make_shards: MakeShards) -> None:
    shards = {f"train-{index:06d}": 1 for index in range(20)}
    catalog = load_catalog(f"file://{make_shards(tmp_path, shards)}", "train")
    fetched = []

    def fetch_slowly(tar: Tar) -> OpenTar:
        fetched.append(tar)
        time.sleep(0.1)
        return OpenTar(Path(tar.location.removeprefix("file://")))

    pool = TarPool(open_remote=fetch_slowly, threads=1)
    reader = BatchReader(catalog, sequential_indices(catalog.shard_clips, batch=8), ring_of(catalog, 8), pool)
    reader.release(next(reader))
    reader.close()
    assert 8 <= len(fetched) < 20


def test_a_network_that_fails_is_not_blamed_on_a_clip(tmp_path: Path, make_shards: MakeShards) -> None:
    catalog = load_catalog(f"file://{make_shards(tmp_path, SHARDS)}", "train")

    def fail(tar: Tar) -> OpenTar:
        raise ConnectionError("reset by peer")

    draws = sequential_indices(catalog.shard_clips, batch=4)
    reader = BatchReader(catalog, draws, ring_of(catalog, 4), TarPool(open_remote=fail))
    with reader, pytest.raises(ConnectionError, match="reset by peer"):
        next(reader)


def test_more_clips_than_rows_are_refused(tmp_path: Path, make_shards: MakeShards) -> None:
    catalog = load_catalog(str(make_shards(tmp_path, SHARDS)), "train")
    reader = training_reader(catalog, ring_of(catalog, 3), Streaming(), seed=0, batch=4)
    with reader, pytest.raises(ValueError, match="4 clips are drawn for a batch of 3 rows"):
        next(reader)
