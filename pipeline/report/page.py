"""report.html: one file that needs nothing else, written from a template under a temporary name."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from pipeline.output.account import Account, account_of
from pipeline.report.clip import HEIGHT, WIDTH, clip_view
from pipeline.report.sample import evenly, sampled, teacher_heads
from pipeline.report.teachers import teacher_stats
from pipeline.videos.listing import counted
from shards.errors import UserError
from shards.files import write_whole
from shards.format.manifest import Manifest
from shards.format.members import DamagedExample

STYLE = Path(__file__).parent  # templates and style of the project's pages

NAME = "report.html"
CLIPS_SHOWN = 12
CLIPS_SAMPLED = 1_000  # for the teachers' statistics


def write_report(folder: Path, tars: str | None = None, account: Account | None = None) -> Path:
    """Write the page of a shard folder and return its path; clips shown are the same on every run.

    `tars`: the URL where the tars are, if they are not in the folder. `account`: that of the folder, where it is known.
    Raises UserError where the folder is not one of shards, or a shard is not what its side file says.
    """
    folder = Path(folder)
    manifest = Manifest.load(folder)
    account = account or account_of(folder, manifest.clip)
    heads = teacher_heads(folder, manifest)
    try:
        stats = teacher_stats(folder, heads, evenly(account.shard_clips, CLIPS_SAMPLED), tars)
        shown = sampled(folder, evenly(account.shard_clips, CLIPS_SHOWN), heads, tars)
        clips = [clip_view(shard, clip, manifest.clip) for shard, clip in shown]
    except DamagedExample as error:
        raise UserError(f"{folder}: {error}. See what is wrong: `make check-shards shards={folder}`") from None
    page = template("page.html.j2", STYLE).render(
        name=folder.resolve().name if tars is None else tars,
        manifest=manifest,
        account=account,
        not_taken=counted(account.not_taken),
        heads=heads,
        stats=stats,
        clips=clips,
        clips_sampled=min(CLIPS_SAMPLED, account.total.clips),
        drawing=(WIDTH, HEIGHT),
    )
    write_whole(folder / NAME, page.encode())
    return folder / NAME


def readable(text: object) -> str:
    """Text as it can be shown: what is not printable (control characters, bytes that are no UTF-8) is spelled out."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in str(text)
    )


def in_bytes(count: float) -> str:
    """A size in the unit that fits it: 1.3 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def in_time(seconds: float) -> str:
    """A length in the unit that fits it: 12.5 s, 3.4 min, 1,204 h."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 6_000 else f"{seconds / 3600:,.1f} h"


def in_percent(share: float) -> str:
    """A share in per cent, with a digit behind the point where it is small."""
    return f"{100 * share:.0f} %" if share >= 0.095 else f"{100 * share:.1f} %"


def template(name: str, *folders: Path) -> Template:
    """A page's template, out of the first of these folders that has it; everything it is given is escaped."""
    environment = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "readable": readable,
        "bytes": in_bytes,
        "time": in_time,
        "percent": in_percent,
        "tenths": "{:.1%}".format,
        "count": "{:,}".format,
        "nats": "{:.2f}".format,
    }
    return environment.get_template(name)
