"""Arrays that grow on disk are .npy files like any other, and joined ones an .npz."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluate.inference.embed.arrays import ROWS_AT_A_TIME, GrowingArray, join


def test_rows_as_they_come_are_one_array(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(12_345, 7)).astype(np.float32)
    with GrowingArray(tmp_path / "a.npy") as growing:
        for at in range(0, len(rows), 1000):
            growing.append(rows[at : at + 1000])
            assert not (tmp_path / "a.npy").exists()
    found = np.load(tmp_path / "a.npy", mmap_mode="r", allow_pickle=False)
    assert growing.rows == 12_345 and found.dtype == np.float32 and np.array_equal(found, rows)


def test_a_view_is_written_in_its_own_order(tmp_path: Path) -> None:
    rows = np.arange(12, dtype=np.float64).reshape(3, 4).T
    with GrowingArray(tmp_path / "a.npy") as growing:
        growing.append(rows)
    assert np.array_equal(np.load(tmp_path / "a.npy"), rows)


def test_nothing_is_left_of_what_was_given_up(tmp_path: Path) -> None:
    with pytest.raises(KeyError), GrowingArray(tmp_path / "a.npy") as growing:
        growing.append(np.zeros((2, 3)))
        raise KeyError
    with pytest.raises(ValueError, match="do not go with"), GrowingArray(tmp_path / "a.npy") as growing:
        growing.append(np.zeros((2, 3)))
        growing.append(np.zeros((2, 4)))
    assert list(tmp_path.iterdir()) == []


def test_files_are_joined_row_behind_row(tmp_path: Path) -> None:
    parts = [np.arange(rows * 2.0).reshape(rows, 2) for rows in (3, 0, ROWS_AT_A_TIME + 5)]
    paths = []
    for index, part in enumerate(parts):
        paths.append(tmp_path / f"{index}.npy")
        np.save(paths[-1], part)
    names = np.array(["a", "où\udcff"])
    join(tmp_path / "all.npz", {"features": paths}, {"files": names, "layer": np.array("pool5")})
    with np.load(tmp_path / "all.npz", allow_pickle=False) as found:
        assert np.array_equal(found["features"], np.concatenate(parts))
        assert found["files"].tolist() == names.tolist() and str(found["layer"]) == "pool5"
    assert not list(tmp_path.glob("*.partial"))
