"""Errors with a message for whoever ran the command: one line, both sides where two things disagree, what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class UserError(Exception):
    """What whoever ran the command can mend; the message is one line and says how. Raised before expensive work."""


class ContractError(UserError):
    """Two artifacts disagree. The message holds both sides."""


def given(settings: object, *names: str) -> str:
    """`threads=0 prefetch=4`: the settings that an error is about, as they are typed."""
    return " ".join(f"{name}={getattr(settings, name)}" for name in names)


def require_format(path: Path, found: object, known: int) -> None:
    """Raise ContractError for a file of a version that this program does not read."""
    if found != known:
        raise ContractError(
            f"{path} has format {found}, this program reads {known}: "
            "read it with the version that wrote it, or make the shards again"
        )


def require_same(
    wanted: Mapping[str, Any], found: Mapping[str, Any], where: str, remedy: str, *, this: str = "this run"
) -> None:
    """Raise ContractError naming the first few settings in which `found` (in `where`) differs from `wanted`."""
    differing = [
        f"{name}: {where} has {_brief(found.get(name))}, {this} {_brief(wanted.get(name))}"
        for name in sorted({**wanted, **found})
        if found.get(name) != wanted.get(name)
    ]
    if differing:
        raise ContractError(f"{'; '.join(differing[:4])}. {remedy}")


def _brief(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 160 else f"{text[:157]}..."
