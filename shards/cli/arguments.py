"""Positional arguments beside Hydra's settings: `key=value` is a setting, any other word may be a file's name."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shards.cli.settings import REQUIRED, leaves

HELP = ("--help", "-h")  # which files of these names do not hide
OVERRIDE = re.compile(r"(?P<sign>\+\+|\+|~)?(?P<key>[^-+~=@][^=@]*)=(?P<value>.*)", re.DOTALL)


def is_override(word: str) -> bool:
    return word.startswith("~") or OVERRIDE.fullmatch(word) is not None


@dataclass(frozen=True)
class PositionalArguments:
    """The words without a key, which belong to the setting `key`, a list of paths. None of it passes through Hydra."""

    key: str
    words: list[str]

    @classmethod
    def taken(cls, key: str, settings: type) -> PositionalArguments:
        """Take them out of sys.argv: words without a key, and names of existing files whose `key=` is no known key.

        So `a=b.wav` is a file where there is one, `top=5` is a setting, `./top=5` a file, `-` one too. Behind `--` all
        are.
        """
        typed, behind = sys.argv[1:], []
        if "--" in typed:
            typed, behind = typed[: typed.index("--")], typed[typed.index("--") + 1 :]
        known = {name.partition(".")[0] for name, _, _ in leaves(settings)}

        def is_plain(word: str) -> bool:
            if word in HELP:
                return False
            match = OVERRIDE.fullmatch(word)
            if match is not None and match["key"].partition(".")[0] in known:
                return False
            return word == "-" or os.path.lexists(word) or not (is_override(word) or word.startswith("-"))

        sys.argv[1:] = [word for word in typed if not is_plain(word)]
        return cls(key, [*filter(is_plain, typed), *behind])

    def added_to(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Composed values with these words behind what `key=...` gave."""
        given = values.get(self.key)
        before = [] if given in (None, REQUIRED) else [given] if isinstance(given, str) else given
        return {**values, self.key: [*before, *self.words] or REQUIRED}
