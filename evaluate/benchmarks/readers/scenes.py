"""Acoustic scenes: DCASE 2013, and the TUT recordings of the DCASE challenges of 2016 and 2017."""

from __future__ import annotations

import re
from pathlib import Path

from evaluate.benchmarks.benchmark import BenchmarkSpec
from evaluate.benchmarks.readers.entry import Entry, read_columns, remedy, sounds_in
from shards.errors import UserError

DCASE_FOLDERS = {"train": "scenes_stereo", "test": "scenes_stereo_testset"}


def read_dcase2013(spec: BenchmarkSpec, root: Path) -> list[Entry]:
    """DCASE 2013 scenes: bus01.wav and so on in scenes_stereo/ (training) and scenes_stereo_testset/ (test)."""
    entries = []
    for fold, folder in DCASE_FOLDERS.items():
        paths = sounds_in(root / folder)
        if not paths:
            raise UserError(f"{root / folder} holds no recordings. {remedy(spec, root)}")
        for path in paths:
            match = re.fullmatch(r"([a-z]+)\d+", path.stem)
            if match is None or match[1] not in spec.classes:
                raise UserError(
                    f"{path} is no recording of {spec.name}: names are a class ({', '.join(spec.classes)}) and a "
                    "number. Take it away"
                )
            entries.append(Entry(path, f"{folder}/{path.name}", match[1], fold))
    return entries


def read_tut(spec: BenchmarkSpec, root: Path) -> list[Entry]:
    """TUT acoustic scenes: meta.txt (file, class), and each fold's lists, evaluation_setup/fold1_train.txt and so on.

    What is tested is in fold1_evaluate.txt, or in fold1_test.txt. Segments of one recording (b020_90_120.wav is one of
    b020) are a group. Raises UserError where the lists contradict each other or meta.txt.
    """
    categories = read_columns(root / "meta.txt", 2, remedy(spec, root))
    tested, left_out = dict[str, str](), dict[str, set[str]]()
    for fold in spec.folds:
        train, test = (_listed(spec, root, fold, use, categories) for use in ("train", "test"))
        if both := sorted(train & test):
            raise UserError(f"fold {fold} of {root} trains on {both[0]}, which it tests. {remedy(spec, root)}")
        for name in sorted(test):
            if name in tested:
                raise UserError(f"{root} tests {name} in folds {tested[name]} and {fold}. {remedy(spec, root)}")
            tested[name] = fold
        for name in set(categories) - train - test:
            left_out.setdefault(name, set()).add(fold)
    if never := [name for name in categories if name not in tested]:
        raise UserError(f"{root} tests {never[0]} of meta.txt in no fold. {remedy(spec, root)}")
    return [
        Entry(root / name, name, category, tested[name], _recording(name), frozenset(left_out.get(name, ())))
        for name, category in categories.items()
    ]


def _recording(name: str) -> str:
    return Path(name).stem.partition("_")[0]


def _listed(spec: BenchmarkSpec, root: Path, fold: str, use: str, categories: dict[str, str]) -> set[str]:
    """The recordings of a fold's list, all of which are in meta.txt with the same class."""
    path = root / "evaluation_setup" / f"fold{fold}_{use}.txt"
    labelled = path.with_name(f"fold{fold}_evaluate.txt")
    path = labelled if use == "test" and labelled.exists() else path
    rows = read_columns(path, 1, remedy(spec, root))
    for name, category in rows.items():
        if name not in categories:
            raise UserError(f"{path} lists {name}, which meta.txt does not have. {remedy(spec, root)}")
        if category not in ("", categories[name]):
            raise UserError(f"{path} has {name} as {category}, meta.txt as {categories[name]}. {remedy(spec, root)}")
    return set(rows)
