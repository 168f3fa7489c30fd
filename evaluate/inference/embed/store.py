"""A folder of features, three files for each sound: what is there is whole, so that a run goes on where one stopped.

`<name>.npy` holds float32 (rows, channels), `<name>.times.npy` the rows' seconds, `<name>.json` says of which file they
are; it is written last. Of a sound that could not be read there is the .json alone, with the reason.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.inference.embed.arrays import GrowingArray, join
from shards.errors import UserError, require_same
from shards.files import locked, write_whole
from shards.media.rejects import UnreadableMedia

FACTS = "embed.json"


@dataclass(frozen=True)
class Record:
    """One sound: its file as it was when its features were computed, and how many rows it gave, or why it gave none."""

    file: str
    bytes: int
    modified: int  # nanoseconds
    rows: int = 0
    reason: str | None = None


class FeatureStore:
    """The features of many sounds by one network, layer and way of pooling: `facts`, equal on every later run."""

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder, self.facts = folder, facts

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder. Raises UserError where another run holds it, ContractError where it has other facts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / ".lock", wait=False, instead="out=another/folder") as held:
            if held is None:
                raise UserError(f"another run is writing into {self.folder}: wait for it, or say out=...")
            place = self.folder / FACTS
            if place.is_file():
                remedy = "Say out=... for another folder, or delete this one."
                require_same(self.facts, json.loads(place.read_bytes()), str(self.folder), remedy)
            else:
                write_whole(place, json.dumps(dict(self.facts), indent=1).encode())
            yield

    def record(self, path: Path) -> Record | None:
        """What is known of a sound, if its features are there and its file has not changed since."""
        try:
            known = Record(**json.loads(self._place(path, ".json").read_bytes()))
            status = path.stat()
        except (OSError, ValueError, TypeError):
            return None
        same = (known.bytes, known.modified) == (status.st_size, status.st_mtime_ns)
        whole = all(self._place(path, ending).is_file() for ending in (".npy", ".times.npy"))
        return known if same and whole else None

    def features(self, path: Path) -> NDArray[np.float32]:
        """(rows, channels) of a sound that `record` knows."""
        rows: NDArray[np.float32] = np.load(self._place(path, ".npy"), allow_pickle=False)
        return rows

    def save(self, path: Path, features: Iterable[tuple[NDArray[np.float64], NDArray[np.float32]]]) -> None:
        """Write times (rows,) and features (rows, channels) as they come.

        Where the file cannot be read that is recorded, and UnreadableMedia passes through.
        """
        try:
            status = path.stat()
            record = Record(str(path), status.st_size, status.st_mtime_ns)
        except OSError:
            record = Record(str(path), -1, -1)
        self._place(path, ".json").unlink(missing_ok=True)
        try:
            with GrowingArray(self._place(path, ".npy")) as values, GrowingArray(self._place(path, ".times.npy")) as at:
                for times, rows in features:
                    at.append(times)
                    values.append(rows)
        except UnreadableMedia as error:
            self._note(path, replace(record, reason=str(error)))
            raise
        self._note(path, replace(record, rows=values.rows))

    def join(self, out: Path, paths: Sequence[Path], unreadable: Mapping[Path, str], *, over_time: bool) -> None:
        """All these sounds in one .npz: `features` and `files`; over time also `times` and each row's index `file`."""
        counts = []
        for path in paths:
            record = self.record(path)
            if record is None:
                raise UserError(f"{path} has changed while others were heard: run the same command again")
            counts.append(record.rows)
        long = {"features": [self._place(path, ".npy") for path in paths]}
        short: dict[str, NDArray[Any]] = {
            "files": np.array([str(path) for path in paths]),
            "unreadable": np.array([str(path) for path in unreadable], np.str_),
            "reasons": np.array(list(unreadable.values()), np.str_),
            **{name: np.array(value) for name, value in self.facts.items()},
        }
        if over_time:
            long["times"] = [self._place(path, ".times.npy") for path in paths]
            short["file"] = np.repeat(np.arange(len(paths)), counts)
        join(out, long, short)

    def _note(self, path: Path, record: Record) -> None:
        write_whole(self._place(path, ".json"), json.dumps(asdict(record)).encode())

    def _place(self, path: Path, ending: str) -> Path:
        """A name that can be read, made unique by a hash of the whole path."""
        whole = os.path.abspath(path).encode(errors="surrogateescape")
        readable = re.sub(r"[^A-Za-z0-9_-]+", "_", path.stem)[:60]
        return self.folder / f"{readable}-{hashlib.sha256(whole).hexdigest()[:16]}{ending}"
