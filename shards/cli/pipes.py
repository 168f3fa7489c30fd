"""A pipe whose reader is gone, as behind `| head -1`: the command that writes into it ends without a word."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

CLOSED_PIPE = 141  # exit code: 128 + SIGPIPE, which a shell reports of a program that this signal ends


@contextmanager
def ending_quietly() -> Iterator[None]:
    """Exit with CLOSED_PIPE where nobody reads stdout, or stderr, any more.

    The signal itself would do so too, but also where a worker's pipe breaks, which is an error that has a remedy.
    """
    try:
        try:
            yield
        finally:
            for stream in _open_streams():
                stream.flush()  # now, and not when the interpreter ends
    except BrokenPipeError:
        unread = [stream for stream in _open_streams() if _is_unread(stream)]
        if not unread:
            raise
        for stream in unread:  # what is left in their buffers goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(CLOSED_PIPE)


def _open_streams() -> list[TextIO]:
    """stdout and stderr; Python has None for one that was closed before it began, as by `>&-`."""
    given: tuple[TextIO | None, ...] = (sys.stdout, sys.stderr)
    return [stream for stream in given if stream is not None]


def _is_unread(stream: TextIO) -> bool:
    with suppress(OSError, ValueError):  # a stream that is no file
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
    return False
