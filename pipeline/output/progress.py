"""The progress of a run of stage one: a live line on a terminal, a log file beside the shards, and a ledger there."""

from __future__ import annotations

import logging
import time

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from pipeline.executor.job import DecodeResult
from pipeline.output.destination import Output
from pipeline.output.folder_lock import Rank
from pipeline.output.ledger import Ledger
from shards.cli.words import amount
from shards.format.sidefile import SideFile

log = logging.getLogger("pipeline")


class LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Nothing: a full disk is reported by what cannot do without it, and not by a traceback for each line."""


class Progress:
    """Counts videos, clips, rejects and seconds of media; use as a context."""

    def __init__(self, output: Output, rank: Rank) -> None:
        self._output, self._rank = output, rank
        self._ledger: Ledger | None = None  # of a run that has videos to read
        self.videos = self.rejected = self.clips = 0
        self.media_seconds = 0.0
        self.began = time.monotonic()
        console = Console(stderr=True)
        counts = TextColumn(
            "{task.fields[clips]} clips, {task.fields[rejected]} rejected, {task.fields[speed]:.1f} s/s"
        )
        self._bar = Bar(
            *(TextColumn("videos"), BarColumn(), MofNCompleteColumn(), counts, TimeRemainingColumn()),
            console=console,
            auto_refresh=console.is_terminal,  # else it would draw ten times a second for nobody
        )
        self._task = self._bar.add_task("videos", total=None, clips=0, rejected=0, speed=0.0, visible=False)
        self._file = LogFile(output.folder / rank.log_name)
        self._file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._screen = RichHandler(console=console, show_path=False, show_time=False, show_level=False)
        self._screen.setLevel(logging.INFO)

    def __enter__(self) -> Progress:
        log.setLevel(logging.DEBUG)
        log.addHandler(self._file)
        log.addHandler(self._screen)
        self._bar.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._ledger is not None:
            self._ledger.end(self.videos, is_whole=error is None)
        self._bar.stop()
        log.removeHandler(self._file)
        log.removeHandler(self._screen)
        self._file.close()

    def start(self, *, total: int, shards: int) -> None:
        self.began = time.monotonic()
        self._ledger = Ledger(self._output, self._rank, videos=total)
        self._bar.update(self._task, total=total, visible=True)
        log.info("%s to read, into %s", amount(total, "video"), amount(shards, "shard"))

    def video_done(self, path: str, result: DecodeResult) -> None:
        if result.reason is not None:
            self.rejected += 1
            log.warning("rejected %r: %s: %s", path, result.reason, result.detail)
        else:
            self.clips += result.clips
            self.media_seconds += result.media_seconds
            if result.media.is_mostly_unused:
                log.warning("%r: less than half of it is used: %s", path, result.media)
            for dropped in result.dropped:
                log.warning("dropped a clip of %r: %s", path, dropped)
        self.videos += 1
        if self._ledger is not None:
            self._ledger.video_done(self.videos)
        self._bar.update(self._task, advance=1, clips=self.clips, rejected=self.rejected, speed=self.speed)

    def shard_done(self, side: SideFile) -> None:
        if self._ledger is not None:
            self._ledger.shard_done(side, self.videos)
        log.info(
            "%s: %s, %s, %.1f MB, %.1f s of media per second",
            *(side.shard, amount(len(side.keys), "clip"), amount(len(side.rejects), "reject")),
            *(side.tar_bytes / 1e6, self.speed),
        )

    @property
    def speed(self) -> float:
        """Seconds of media read per second of this run."""
        return self.media_seconds / max(time.monotonic() - self.began, 1e-9)
