from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest

from shards.errors import UserError
from shards.loader.catalog import load_catalog

MakeShards = Callable[..., Path]
SHARDS = {"train-000000": 5, "train-000001": 3, "validation-000000": 2}
TRAIN = {"train-000000": 5, "train-000001": 3}


def change(path: Path, **fields: object) -> None:
    """Overwrite fields of a JSON file: key=value, or key=function of the old value."""
    facts = json.loads(path.read_bytes())
    for name, value in fields.items():
        facts[name] = value(facts[name]) if callable(value) else value
    path.write_text(json.dumps(facts))


def test_columns_say_where_every_member_is(tmp_path: Path, make_shards: MakeShards) -> None:
    catalog = load_catalog(str(make_shards(tmp_path, SHARDS)), "train")
    assert catalog.clips == 8 and catalog.shard_clips == [5, 3] and catalog.classes == {"objects": 7, "scenes": 5}
    found = []
    for index, shard in enumerate(("train-000000", "train-000001")):
        with tarfile.open(tmp_path / f"{shard}.tar") as archive:
            members = {member.name: (member.offset_data, member.size) for member in archive}
        for clip in np.flatnonzero(catalog.shard == index):
            key = str(catalog.keys[clip])
            assert tuple(catalog.sound_places[clip]) == members[f"{key}.wav"]
            assert tuple(catalog.posterior_places["scenes"][clip]) == members[f"{key}.scenes.npy"]
            found.append(key)
    assert found == sorted(found) and len(found) == 8
    assert catalog.samples.tolist() == [2000, 2000, 1000, 2000, 2000, 2000, 2000, 1000]
    assert catalog.windows.tolist() == [4, 4, 2, 4, 4, 4, 4, 2]


def test_mean_posterior_is_that_of_all_windows(tmp_path: Path, make_shards: MakeShards) -> None:
    catalog = load_catalog(str(make_shards(tmp_path, SHARDS)), "train")
    rows = []
    for tar in sorted(tmp_path.glob("train-*.tar")):
        with tarfile.open(tar) as archive:
            for member in archive:
                if member.name.endswith(".objects.npy"):
                    (tmp_path / "one.npy").write_bytes(archive.extractfile(member).read())  # type: ignore[union-attr]
                    rows.append(np.load(tmp_path / "one.npy").astype(np.float64))
    np.testing.assert_allclose(catalog.mean_posterior["objects"], np.concatenate(rows).mean(axis=0), rtol=1e-12)


def test_learn_from_chooses_heads_and_names_those_there_are(tmp_path: Path, make_shards: MakeShards) -> None:
    folder = str(make_shards(tmp_path, SHARDS))
    assert list(load_catalog(folder, "train", learn_from=["scenes"]).posterior_places) == ["scenes"]
    assert list(load_catalog(folder, "train", learn_from=["scenes", "objects"]).cards) == ["objects", "scenes"]
    for wrong in (["sounds"], [], ["scenes", "scenes"]):
        with pytest.raises(UserError, match=r"small, each once: it has \['objects', 'scenes'\]"):
            load_catalog(folder, "train", learn_from=wrong)


def test_an_unfinished_shard_is_not_there_and_an_empty_split_is_no_error(
    tmp_path: Path, make_shards: MakeShards
) -> None:
    make_shards(tmp_path, TRAIN)
    (tmp_path / "train-000001.json").unlink()
    assert load_catalog(str(tmp_path), "train").shard_clips == [5]
    assert load_catalog(str(tmp_path), "validation").clips == 0


def test_a_shard_without_clips_is_passed_over(tmp_path: Path, make_shards: MakeShards) -> None:
    assert load_catalog(str(make_shards(tmp_path, {"train-000000": 0, "train-000001": 3})), "train").shard_clips == [3]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no manifest\.json"):
        load_catalog(str(tmp_path / "nowhere"), "train")


def test_another_teacher_set_is_joined(tmp_path: Path, make_shards: MakeShards) -> None:
    folder = make_shards(tmp_path, SHARDS)
    make_shards(tmp_path / "teachers/big", SHARDS, heads={"objects": 9}, teacher_set="big", labels_only=True)
    catalog, own = load_catalog(str(folder), "train", teacher_set="big"), load_catalog(str(folder), "train")
    assert catalog.classes == {"objects": 9} and catalog.teacher_set == "big"
    assert [tar.location for tar in catalog.labels] == [f"{tmp_path}/teachers/big/{shard}.tar" for shard in TRAIN]
    assert catalog.sounds == own.sounds and (catalog.sound_places == own.sound_places).all()
    assert catalog.fingerprint != own.fingerprint
    assert load_catalog(str(folder), "train", teacher_set="small").fingerprint == own.fingerprint


LABELS = {"heads": {"objects": 9}, "teacher_set": "big", "labels_only": True}
FAULTS = {
    "nothing": ({}, {}, r"teachers/big holds no manifest\.json"),
    "a shard short": ({"train-000000": 5}, {}, r"teachers/big lack train-000001, which the shards hold"),
    "a shard more": ({**TRAIN, "train-000002": 1}, {}, "the shards lack train-000002, which teachers/big hold"),
    "a clip short": ({"train-000000": 4, "train-000001": 3}, {}, "clip 4: .*-00004 with 4 windows, .*big has nothing"),
    "another key": (TRAIN, {"keys": lambda keys: ["other", *keys[1:]]}, "clip 0: .*-00000 with 4 .* has other with 4"),
    "other windows": (
        TRAIN,
        {"windows": lambda old: [4, 4, 3, *old[3:]]},
        "clip 2: .*-00002 with 2 .* has .*-00002 with 3",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_teacher_set_that_does_not_fit_is_refused(tmp_path: Path, make_shards: MakeShards, fault: str) -> None:
    clips, changes, message = FAULTS[fault]
    folder = make_shards(tmp_path, TRAIN)
    if clips:
        make_shards(tmp_path / "teachers/big", clips, **LABELS)
        change(tmp_path / "teachers/big/train-000000.json", **changes)
    with pytest.raises(UserError, match=message) as caught:
        load_catalog(str(folder), "train", teacher_set="big")
    assert f"make relabel videos=... shards={tmp_path} teachers=big" in str(caught.value)


def test_a_teacher_set_of_other_clips_is_refused(tmp_path: Path, make_shards: MakeShards) -> None:
    folder = make_shards(tmp_path, TRAIN)
    make_shards(tmp_path / "teachers/big", TRAIN, **LABELS)
    change(tmp_path / "teachers/big/manifest.json", clip=lambda clip: {**clip, "frames_per_window": 3})
    with pytest.raises(UserError, match=r"frames_per_window: teachers/big has 3, this run 1\. Run `make relabel"):
        load_catalog(str(folder), "train", teacher_set="big")


def test_a_folder_behind_a_url_has_the_same_catalog(tmp_path: Path, make_shards: MakeShards) -> None:
    here = load_catalog(str(make_shards(tmp_path, SHARDS)), "train")
    memory = fsspec.filesystem("memory")
    memory.put(f"{tmp_path}/", "/catalog-test/", recursive=True)
    for url in ("memory://catalog-test", f"file://{tmp_path}/"):
        there = load_catalog(url, "train")
        assert there.fingerprint == here.fingerprint and (there.sound_places == here.sound_places).all()
        assert there.sounds[0].location == f"{url.rstrip('/')}/train-000000.tar"
    with pytest.raises(UserError, match="memory://nowhere holds no manifest"):
        load_catalog("memory://nowhere", "train")
