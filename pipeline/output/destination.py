"""Where shards go: a folder, in which they are made; or any fsspec URL, for which they are made in a working folder.

Behind a URL the same holds as in a folder: a side file that is there means that its tar is whole. So the tar is sent
first and its side file last, and the working folder keeps only what is small: manifest, plan, side files, logs. What
did not reach the URL is not finished; another machine goes on with nothing but the URL.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

from pipeline.videos.plan import NAME as PLAN
from shards.errors import ContractError, UserError, require_same
from shards.files import ATTEMPTS, patiently, put_in_place, sha256_of
from shards.format.manifest import NAME as MANIFEST
from shards.format.manifest import Manifest
from shards.format.sidefile import SIDE_FILES, SideFile
from shards.storage import file_system, is_remote, network_errors, side_by_side, under

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Output:
    """`location` as it was asked for; all work is done in `folder`, the same place unless the location is a URL."""

    location: str
    folder: Path

    @classmethod
    def at(cls, location: str, work: Path) -> Output:
        """`work`: where working folders are, each known by its URL. Raises UserError for a URL of no known kind."""
        if not is_remote(location):
            return cls(location, Path(location).expanduser())
        file_system(location)
        name = location.partition("::")[0].rstrip("/").rpartition("/")[2]
        return cls(location, work / f"{name}-{hashlib.sha256(location.rstrip('/').encode()).hexdigest()[:12]}")

    @property
    def is_remote(self) -> bool:
        return is_remote(self.location)

    @property
    def tars(self) -> str | None:
        """The URL where the tars are, if they are not in the folder."""
        return self.location if self.is_remote else None

    @property
    def manifest(self) -> Manifest | None:
        """What earlier runs agreed on; None before the first."""
        return Manifest.load(self.folder) if (self.folder / MANIFEST).exists() else None

    def beside(self, path: str) -> Output:
        """The output that is a folder in this one."""
        place = under(self.location, path) if self.is_remote else str(self.folder / path)
        return Output(place, self.folder / path)

    def fetch(self) -> None:
        """Bring the side files at a URL here that are missing. It wants no turn, and leaves a turn little to do."""
        if self.is_remote:
            self._fetch(self._sizes())

    def pull(self) -> None:
        """Bring the folder up to what is finished. To be called during a turn, before anything is decided by it."""
        if self.is_remote:
            self._mirror()
            return
        for side in self.folder.glob(SIDE_FILES):
            if not side.with_suffix(".tar").exists():
                side.unlink()  # it has lost its tar, which is made again

    def seal(self) -> tuple[int, str]:
        """Length and hash of the plan, by which it is known again once it has grown."""
        plan = self.folder / PLAN
        return plan.stat().st_size, sha256_of(plan)

    def require_sealed(self, seal: tuple[int, str], manifest: Manifest) -> None:
        """Raise ContractError where plan or manifest at a URL are others by now: there, no lock keeps runs apart."""
        if not self.is_remote:
            return
        remedy = f"Two runs began there at once, and their shards are mixed: delete {self.location}, and make them anew"
        require_same(asdict(manifest), asdict(Manifest.load(self.folder)), self.location, remedy)
        size, digest = seal
        with open(self.folder / PLAN, "rb") as stream:
            found = hashlib.sha256(stream.read(size)).hexdigest()
        if found != digest:
            raise ContractError(
                f"{self.location} has another plan now than this run worked by: two runs with different videos began "
                "there at once, and their shards are mixed. Delete it, and give each its own shards=..."
            )

    def clear(self, shards: Iterable[str] | None = None) -> None:
        """Remove what killed runs left half done: of these shards, or of all, where no other run can be at work."""
        scraps = list(self.folder.glob("*.partial"))
        if self.is_remote:  # a tar that is still here did not reach the URL
            scraps += [path for tar in self.folder.glob("*.tar") for path in (tar.with_suffix(".json"), tar)]
        if shards is None:
            scraps += self.folder.glob("teachers/*/*.partial")
        else:
            mine = set(shards)
            scraps = [path for path in scraps if path.name.partition(".")[0] in mine]
        for path in scraps:
            path.unlink(missing_ok=True)

    def push(self, name: str) -> None:
        """Send one file of the folder."""
        if not self.is_remote:
            return
        system, target = file_system(under(self.location, name))

        def send() -> None:
            system.makedirs(target.rpartition("/")[0], exist_ok=True)
            # Where a file system can, the file gets its name when it is whole.
            with system.transaction, open(self.folder / name, "rb") as source, system.open(target, "wb") as stream:
                shutil.copyfileobj(source, stream, 8 * 1024 * 1024)

        self._patiently(send, f"{name} cannot be written")

    def agree_on(self, manifest: Manifest, remedy: str, other_teachers: str | None = None) -> None:
        """Write the manifest on the first run; on every later one, be equal to it.

        Raises ContractError with both sides and the remedy; `other_teachers` is the remedy for another teacher set.
        """
        found = self.manifest
        if found is None:
            manifest.save(self.folder)
            self.push(MANIFEST)
            return
        if other_teachers is not None and found.teacher_set != manifest.teacher_set:
            raise ContractError(
                f"{self.location} was labelled by teachers={found.teacher_set}, this run has "
                f"teachers={manifest.teacher_set}. {other_teachers}"
            )
        require_same(asdict(manifest), asdict(found), self.location, remedy)

    def deliver(self, side: SideFile) -> None:
        """Send a shard that was just made: the tar, then its side file; the tar here is given up."""
        self.push(f"{side.shard}.tar")
        self.push(f"{side.shard}.json")
        if self.is_remote:
            (self.folder / f"{side.shard}.tar").unlink()

    def _mirror(self) -> None:
        sizes = self._sizes()
        self._fetch(sizes)
        head = {MANIFEST, PLAN} & sizes.keys()
        wanted = finished_of(sizes) | head
        for path in [*self.folder.glob(SIDE_FILES), self.folder / MANIFEST, self.folder / PLAN]:
            if path.name not in wanted and not path.with_suffix(".tar").exists():  # else it is about to be sent
                path.unlink(missing_ok=True)
        for name in head:
            self._copy(name)

    def _fetch(self, sizes: dict[str, int]) -> None:
        """Copy the finished side files that are not here as they are there, side by side: each is mostly waited for."""
        missing = [name for name in sorted(finished_of(sizes)) if size_of(self.folder / name) != sizes[name]]
        side_by_side(self._copy, missing)

    def _copy(self, name: str) -> None:
        """Of one file at the URL. Other ranks may be at the same one, and may `clear` what is left of a shard."""
        system, source = file_system(under(self.location, name))
        data = self._patiently(partial(system.cat_file, source), f"{name} cannot be read")
        partial_copy = self.folder / f"{token_hex(8)}.partial"
        try:
            partial_copy.write_bytes(data)
            put_in_place(partial_copy, self.folder / name)
        finally:
            partial_copy.unlink(missing_ok=True)

    def _sizes(self) -> dict[str, int]:
        """Bytes of each file at the URL by its name; none where there is no folder yet."""
        system, root = file_system(self.location)

        def listed() -> list[dict[str, Any]]:
            system.invalidate_cache()
            try:
                return list(system.ls(root, detail=True))
            except FileNotFoundError:
                return []

        entries = self._patiently(listed, "it cannot be listed")
        return {entry["name"].rstrip("/").rpartition("/")[2]: int(entry["size"] or 0) for entry in entries}

    def _patiently(self, action: Callable[[], Answer], complaint: str) -> Answer:
        """Raises UserError with the complaint, in one line, where the other side fails every time."""
        try:
            return patiently(action, network_errors())
        except network_errors() as error:
            found = f"{type(error).__name__}: {error}"
            raise UserError(f"{self.location}: {complaint} ({ATTEMPTS} tries): {found}") from None


def finished_of(names: Iterable[str]) -> set[str]:
    """The side files among a folder's names that have their tars."""
    there = set(names)
    return {name for name in there if name.endswith(".json") and f"{name[:-5]}.tar" in there}


def size_of(path: Path) -> int:
    """In bytes; -1 where there is no such file."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1
