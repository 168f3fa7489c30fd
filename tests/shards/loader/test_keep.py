"""What is kept follows from the side files; counts, order, labels and means are those of the kept clips."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import fsspec
import numpy as np
import pytest

from shards.errors import UserError
from shards.format.manifest import Manifest
from shards.format.shard import DamagedShard, examples
from shards.format.sidefile import SideFile
from shards.loader.batch import Batch, allocate
from shards.loader.catalog import Catalog, load_catalog
from shards.loader.keep import Keep
from shards.loader.streaming import Streaming, sequential_reader, training_reader

MakeShards = Callable[..., Path]
SHARDS = {"train-000000": 6, "train-000001": 5, "train-000002": 2}
PEAKS = {"train-000000": [-200, -60, -20, -10, -3, 0], "train-000001": [-9, -8, -7, -6, -5], "train-000002": [-90, -91]}
RMS = {"train-000000": [-200, -80, -60, -30, -9, 0], "train-000001": [-90, -8, -7, -6, -5], "train-000002": [-99, -99]}
SOUNDS = ["dog", "cat", "cow", "dog", "cow", "cat"]
LOUD = Keep(min_peak_db=-30)


@pytest.fixture
def folder(tmp_path: Path, make_shards: MakeShards) -> Path:
    """Thirteen clips whose side files say these levels and, but for the last shard, a class."""
    make_shards(tmp_path, SHARDS)
    for shard, count in SHARDS.items():
        path = tmp_path / f"{shard}.json"
        given = [{"class": sound, "take": "1"} for sound in SOUNDS[:count]] if count > 2 else [{}, {}]
        facts = {"peak_db": PEAKS[shard], "rms_db": RMS[shard], "given": given}
        path.write_text(json.dumps(json.loads(path.read_bytes()) | facts))
    return tmp_path


def kept(folder: Path, keep: Keep) -> list[tuple[str, int]]:
    """(shard, clip) of each clip in the catalog, by its key."""
    keys = map(str, load_catalog(str(folder), "train", keep=keep).keys)
    return [(key.partition("%")[0], int(key.rpartition("-")[2])) for key in keys]


FIRST, SECOND, THIRD = SHARDS
KEEPS = {
    "everything": (Keep(), [(shard, clip) for shard, count in SHARDS.items() for clip in range(count)]),
    "peak": (LOUD, [*((FIRST, clip) for clip in (2, 3, 4, 5)), *((SECOND, clip) for clip in range(5))]),
    "all but silence": (
        Keep(min_peak_db=-199),
        [*((FIRST, clip) for clip in range(1, 6)), *((SECOND, c) for c in range(5)), (THIRD, 0), (THIRD, 1)],
    ),
    "full scale": (Keep(min_rms_db=0), [(FIRST, 5)]),
    "at the bound": (Keep(min_rms_db=-60), [*((FIRST, c) for c in (2, 3, 4, 5)), *((SECOND, c) for c in (1, 2, 3, 4))]),
    "one value": (Keep(given={"class": ["cow"]}), [(FIRST, 2), (FIRST, 4), (SECOND, 2), (SECOND, 4)]),
    "two values": (
        Keep(given={"class": ["dog", "cat"]}),
        [*((FIRST, clip) for clip in (0, 1, 3, 5)), *((SECOND, clip) for clip in (0, 1, 3))],
    ),
    "both": (
        Keep(min_peak_db=-30, given={"class": ["dog"], "take": ["1", "2"]}),
        [(FIRST, 3), (SECOND, 0), (SECOND, 3)],
    ),
    "nothing": (Keep(given={"class": ["bird"]}), []),
    "no such column": (Keep(given={"colour": ["red"]}), []),
}


@pytest.mark.parametrize("name", KEEPS)
def test_exactly_the_clips_asked_for_are_kept(folder: Path, name: str) -> None:
    keep, wanted = KEEPS[name]
    assert kept(folder, keep) == wanted
    catalog = load_catalog(str(folder), "train", keep=keep)
    assert (catalog.clips, catalog.left_out) == (len(wanted), 13 - len(wanted))
    assert len(catalog.samples) == len(catalog.windows) == len(catalog.sound_places) == len(wanted)


def posteriors(folder: Path, shard: str, head: str) -> list[np.ndarray]:
    side = SideFile.load(folder / f"{shard}.json")
    rate = Manifest.load(folder).clip.sample_rate
    return [example.posteriors[head].astype(np.float64) for example in examples(folder, side, rate)]


@pytest.mark.parametrize("name", ["everything", "peak", "full scale", "two values", "both", "one value"])
@pytest.mark.parametrize("skipping", [False, True])
@pytest.mark.parametrize("remote", [False, True])
def test_the_mean_posterior_is_that_of_the_kept_clips_to_the_last_bit(
    folder: Path, name: str, skipping: bool, remote: bool
) -> None:
    keep, wanted = KEEPS[name]
    location = f"memory://keep-{name.replace(' ', '-')}-{skipping}" if remote else str(folder)
    if remote:
        fsspec.filesystem("memory").put(f"{folder}/", f"/{location[9:]}/", recursive=True)
    catalog = load_catalog(location, "train", keep=keep, skipping=skipping)
    for head in ("objects", "scenes"):
        rows = np.concatenate([posteriors(folder, shard, head)[clip] for shard, clip in wanted])
        assert catalog.summed_windows == len(rows) == catalog.windows.sum()
        np.testing.assert_array_equal(catalog.posterior_sums[head], rows.sum(axis=0))
        np.testing.assert_allclose(catalog.mean_posterior[head], rows.mean(axis=0), rtol=1e-12)


def rows_of(catalog: Catalog, batches: Sequence[Batch]) -> dict[str, tuple[bytes, bytes]]:
    """key -> its sound and its posterior, as they stand in the batches."""
    found = {}
    for batch in batches:
        for row, clip in enumerate(batch.clips):
            samples, windows = batch.lengths[row], batch.windows[row]
            labels = batch.posteriors["objects"][row, :windows].tobytes()
            found[str(catalog.keys[clip])] = (batch.waveform[row, :samples].tobytes(), labels)
    return found


def read(catalog: Catalog, *, training: bool) -> dict[str, tuple[bytes, bytes]]:
    buffers = [allocate(catalog.clips, catalog.clip, catalog.classes)]
    settings = Streaming(threads=1, block_shards=1)
    if training:
        with training_reader(catalog, buffers, settings, seed=1, batch=catalog.clips) as reader:
            return rows_of(catalog, [next(reader)])
    with sequential_reader(catalog, buffers, settings) as reader:
        found: dict[str, tuple[bytes, bytes]] = {}
        for batch in reader:
            found |= rows_of(catalog, [batch])
            reader.release(batch)
        return found


@pytest.mark.parametrize("training", [False, True])
def test_an_epoch_is_each_kept_clip_once_with_its_own_sound_and_labels(folder: Path, training: bool) -> None:
    catalog = load_catalog(str(folder), "train", keep=LOUD)
    found = read(catalog, training=training)
    assert sorted(found) == sorted(map(str, catalog.keys)) and len(found) == 9
    rate = catalog.clip.sample_rate
    for shard in SHARDS:
        for example in examples(folder, SideFile.load(folder / f"{shard}.json"), rate):
            if example.key in found:
                sound, labels = found[example.key]
                assert sound == example.waveform.tobytes() and labels == example.posteriors["objects"].tobytes()


def test_another_teacher_sets_labels_are_left_out_with_their_clips(folder: Path, make_shards: MakeShards) -> None:
    labels = {"heads": {"objects": 9}, "teacher_set": "big", "labels_only": True}
    make_shards(folder / "teachers/big", SHARDS, **labels)
    keep, wanted = KEEPS["two values"]
    catalog = load_catalog(str(folder), "train", teacher_set="big", keep=keep)
    assert len(catalog.posterior_places["objects"]) == catalog.clips == len(wanted)
    found = read(catalog, training=False)
    rows = []
    for (shard, clip), (_, label) in zip(wanted, found.values(), strict=True):
        posterior = np.frombuffer(label, np.float16).reshape(-1, 9)
        side = SideFile.load(folder / f"teachers/big/{shard}.json")
        offset, size = side.members["objects.npy"][clip]  # type: ignore[misc]
        assert (folder / f"teachers/big/{shard}.tar").read_bytes()[offset : offset + size].endswith(label)
        rows.append(posterior.astype(np.float64))
    np.testing.assert_array_equal(catalog.posterior_sums["objects"], np.concatenate(rows).sum(axis=0))


def test_the_fingerprint_is_of_the_kept_clips(folder: Path) -> None:
    whole, loud = load_catalog(str(folder), "train"), load_catalog(str(folder), "train", keep=LOUD)
    same = load_catalog(str(folder), "train", keep=Keep(min_peak_db=-29.5))
    assert loud.fingerprint != whole.fingerprint and loud.fingerprint == same.fingerprint
    fewer = load_catalog(str(folder), "train", keep=Keep(min_peak_db=-15))
    assert [tar.shard for tar in fewer.sounds] == [tar.shard for tar in loud.sounds]
    assert fewer.fingerprint != loud.fingerprint


def damage(folder: Path, shard: str, clip: int) -> None:
    offset, size = SideFile.load(folder / f"{shard}.json").members["objects.npy"][clip]  # type: ignore[misc]
    with open(folder / f"{shard}.tar", "r+b") as stream:
        stream.seek(offset + size - 1)
        last = stream.read(1)[0]
        stream.seek(offset + size - 1)
        stream.write(bytes([last ^ 1]))


@pytest.mark.parametrize("clip", [1, 2])
def test_damaged_labels_stop_a_run_at_once_or_are_not_counted(folder: Path, clip: int) -> None:
    """Of the first shard's clips 0 and 1 are left out. One that is kept is read where that is how the sum is made."""
    damage(folder, FIRST, clip)
    if clip == 1:
        with pytest.raises(DamagedShard, match=r"train-000000\.tar: \S+-00001\.objects\.npy: it is not .*=skip"):
            load_catalog(str(folder), "train", keep=LOUD)
    catalog = load_catalog(str(folder), "train", keep=LOUD, skipping=True)
    assert catalog.clips == 9
    uncounted = 4 if clip == 1 else 2  # clip 2 is half as long as the others
    assert catalog.summed_windows == catalog.windows.sum() - (0 if clip == 1 else uncounted)
    assert catalog.mean_posterior["objects"].sum() == pytest.approx(1, abs=1e-3)


def test_a_tar_that_is_gone_stops_a_run_or_is_not_counted(folder: Path) -> None:
    (folder / f"{FIRST}.tar").unlink()
    with pytest.raises(DamagedShard, match=r"train-000000\.tar cannot be read: No such file"):
        load_catalog(str(folder), "train", keep=LOUD)
    catalog = load_catalog(str(folder), "train", keep=LOUD, skipping=True)
    assert catalog.clips == 9 and catalog.summed_windows == catalog.windows[catalog.shard == 1].sum()


LIES = {
    "too loud": {"peak_db": [3.0, *PEAKS[FIRST][1:]]},
    "no number": {"peak_db": [float("nan"), *PEAKS[FIRST][1:]]},
    "null": {"peak_db": [None, *PEAKS[FIRST][1:]]},
    "text": {"peak_db": ["loud", *PEAKS[FIRST][1:]]},
    "a column short": {"rms_db": [-9.0]},
    "no column": {"peak_db": [], "rms_db": [], "given": []},
    "a list given": {"given": [["dog"]] * 6},
    "a number given": {"given": [{"class": 5}] * 6},
    "text given": {"given": "abcdef"},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_side_file_that_lies_about_levels_is_refused(folder: Path, lie: str) -> None:
    path = folder / f"{FIRST}.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | LIES[lie]))
    with pytest.raises(UserError, match=r"train-000000\.json"):
        load_catalog(str(folder), "train", keep=LOUD)


def test_stock_webdataset_is_refused_where_clips_are_left_out(folder: Path) -> None:
    settings = Streaming(reader="webdataset")
    catalog = load_catalog(str(folder), "train", keep=LOUD)
    with pytest.raises(UserError, match="leave out keep or reader"):
        training_reader(catalog, [allocate(2, catalog.clip, catalog.classes)], settings, seed=0, batch=2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min_peak_db": 0.1}, r"keep\.min_peak_db is in dBFS, from -200 to 0, not 0\.1"),
        ({"min_rms_db": float("nan")}, "keep.min_rms_db"),
        ({"min_rms_db": float("-inf")}, "keep.min_rms_db"),
        ({"given": {"class": []}}, "keep.given.class names no value"),
    ],
)
def test_impossible_choices_are_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Keep(**fields)  # type: ignore[arg-type]


def test_a_choice_is_the_same_in_any_order() -> None:
    one = Keep(given={"class": ["dog", "cat", "dog"], "a": ["1"]})
    assert one.chosen == Keep(given={"a": ["1"], "class": ["cat", "dog"]}).chosen
    assert Keep().chosen == {} and Keep(min_peak_db=0).chosen == {"min_peak_db": 0}
