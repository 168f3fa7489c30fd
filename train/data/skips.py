"""The clips a run was not trained on, because their bytes are not those that were written: named, listed, counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from shards.files import append_line, write_whole
from shards.loader.batch import Skip
from shards.loader.catalog import Catalog


class Skips:
    """This rank's list: one line a clip, {"split", "shard", "key", "reason"}, however often it is met.

    `log` is given one line for each shard, and again when the run is resumed.
    """

    def __init__(self, path: Path, log: Callable[[str], None]) -> None:
        self._path, self._log = path, log
        text = path.read_text() if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:  # a line cut short by a kill
            write_whole(path, whole.encode())
        rows = [json.loads(line) for line in whole.splitlines()]
        self._keys = {row["key"] for row in rows}
        self._logged: set[str] = set()

    def __len__(self) -> int:
        return len(self._keys)

    def note(self, catalog: Catalog, skipped: Sequence[Skip]) -> None:
        for skip in sorted(skipped, key=lambda skip: skip.row):
            key, shard = str(catalog.keys[skip.clip]), catalog.sounds[catalog.shard[skip.clip]].shard
            if shard not in self._logged:
                self._logged.add(shard)
                self._log(f"going on without what is damaged in {shard}, listed in {self._path}: {skip.reason}")
            if key in self._keys:
                continue
            self._keys.add(key)
            row = {"split": catalog.split, "shard": shard, "key": key, "reason": skip.reason}
            self._path.parent.mkdir(parents=True, exist_ok=True)  # of another machine's own
            append_line(self._path, json.dumps(row))
