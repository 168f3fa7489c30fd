from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from shards.errors import UserError
from shards.format.manifest import Manifest
from shards.loader.index import load_index, metadata, require_there

MakeShards = Callable[..., Path]


def first(**members: list[int]) -> Callable[[dict[str, list[object]]], dict[str, list[object]]]:
    """A change of `members` in which the first clip's places are others."""
    return lambda old: (
        old | {name.replace("_", "."): [place, *old[name.replace("_", ".")][1:]] for name, place in members.items()}
    )


LIES = {
    "too long": ({"samples": lambda old: [2_000_000_000, *old[1:]]}, "number of samples"),
    "beyond int64": ({"samples": lambda old: [2**80, *old[1:]]}, "too (large|big)"),
    "no number": ({"samples": lambda old: [None, *old[1:]]}, "NoneType"),
    "empty": ({"samples": lambda old: [0, *old[1:]]}, "number of samples"),
    "windows": ({"windows": lambda old: [5, *old[1:]]}, "number of windows"),
    "behind the tar": ({"members": first(wav=[2**62, 4044])}, "place of its sound"),
    "larger than the tar": ({"members": first(objects_npy=[512, 2**40])}, "place of objects"),
    "another size": ({"members": first(wav=[512, 4046])}, "size of its sound"),
    "too small": ({"members": first(objects_npy=[512, 20])}, "size of objects"),
    "a huge header": ({"members": first(objects_npy=[0, 80_000]), "tar_bytes": 10**6}, "size of objects"),
    "no objects": ({"members": lambda old: {name: old[name] for name in old if name != "objects.npy"}}, "is missing"),
    "no sound of one": ({"members": lambda old: {**old, "wav": [None, *old["wav"][1:]]}}, "mp4-00000.wav is missing"),
    "other classes": (
        {"posterior_sums": {"objects": [1.0, 2.0], "scenes": [1.0] * 5}},
        "sums other classes of objects",
    ),
    "no sums": ({"posterior_sums": {}}, "objects"),
    "no hash": ({"tar_sha256": "../" * 21 + "x"}, "with sha256 ../../"),
    "no text": ({"tar_sha256": 7}, "expected string"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_side_file_that_lies_is_refused(tmp_path: Path, make_shards: MakeShards, lie: str) -> None:
    changes, message = LIES[lie]
    manifest = Manifest.load(make_shards(tmp_path, {"train-000000": 5}))
    path = tmp_path / "train-000000.json"
    facts = json.loads(path.read_bytes())
    changed = {name: value(facts[name]) if callable(value) else value for name, value in changes.items()}
    path.write_text(json.dumps(facts | changed))
    with pytest.raises(UserError, match=f"train-000000.json is (no|not a shard's) side file.*: .*{message}"):
        load_index(path, "far", manifest, sound=True)


def test_labels_alone_have_no_sound_and_a_shard_of_rejects_has_nothing(tmp_path: Path, make_shards: MakeShards) -> None:
    folder = make_shards(tmp_path, {"train-000000": 2, "train-000001": 0}, labels_only=True)
    labels, empty = (
        load_index(folder / f"train-00000{index}.json", str(folder), Manifest.load(folder), sound=index == 1)
        for index in (0, 1)
    )
    assert len(labels.sounds) == 0 and labels.posteriors["scenes"].shape == (2, 2)
    assert len(empty.keys) == len(empty.sounds) == 0 and empty.posteriors == {}


SHARDS = {"train-000001": 1, "train-000000": 2, "validation-000000": 1}


@pytest.fixture(params=["path", "file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path, make_shards: MakeShards) -> str:
    """A shard folder at a path or behind a URL."""
    folder = make_shards(tmp_path / "shards", SHARDS)
    if request.param == "memory":
        fsspec.filesystem("memory").put(f"{folder}/", f"/index-{tmp_path.name}/", recursive=True)
    return {"path": f"{folder}", "file": f"file://{folder}", "memory": f"memory://index-{tmp_path.name}"}[request.param]


def test_metadata_is_what_is_needed_of_one_split(place: str) -> None:
    with metadata(place, "train") as (folder, shards):
        assert shards == ["train-000000", "train-000001"]
        assert all((folder / f"{name}.json").is_file() for name in ("manifest", *shards))
    if "://" in place:
        assert not folder.exists()  # a temporary copy


def test_missing_files_are_named(place: str) -> None:
    require_there([f"{place}/{shard}.tar" for shard in SHARDS])
    with pytest.raises(UserError, match=r"holds train-000002\.json but not train-000002\.tar"):
        require_there([f"{place}/train-000000.tar", f"{place}/train-000002.tar"])
