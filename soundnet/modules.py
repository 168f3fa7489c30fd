"""SoundNet's own modules: `own("train.model.student")`.

Their packages have plain names (train, shards, evaluate). In a checkout they lie beside this package, in a wheel inside
it, so that no environment gets a package called `train`. Where a program has imported another package of such a name
before, ours cannot be imported beside it, and that is said instead of something that merely looks like it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

INSTALLED = Path(__file__).resolve().parent / "checkout"  # setup.py puts them there
ROOT = INSTALLED if INSTALLED.is_dir() else Path(__file__).resolve().parents[1]
PACKAGES = ("shards", "pipeline", "train", "evaluate")


def own(name: str) -> ModuleType:
    """One of SoundNet's modules. Raises ImportError where another package has its name, or the name of one it needs."""
    for package in PACKAGES:
        loaded = sys.modules.get(package)
        place = None if loaded is None else _place(loaded)
        if loaded is not None and place != ROOT / package:
            raise ImportError(
                f"SoundNet needs its own package {package!r} ({ROOT / package}), but another one is imported already "
                f"({place or 'from an unknown place'}): use SoundNet in a process of its own"
            )
    sys.path.insert(0, str(ROOT))
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(ROOT))


def _place(module: ModuleType) -> Path | None:
    """The folder of a package, the file of a module."""
    found = next(iter(getattr(module, "__path__", [])), None) or getattr(module, "__file__", None)
    return None if found is None else Path(found).resolve()
