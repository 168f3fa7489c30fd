"""While a command's libraries are loaded: what stops them ends in one line, as in the command itself."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Exit with one line where memory is limited too much to load torch, or on Ctrl-C; other errors pass through."""
    try:
        yield
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)
    except (ImportError, OSError, MemoryError) as error:
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        lacks_memory = isinstance(error, MemoryError) or "failed to map" in str(error) or "allocate" in str(error)
        if limit == resource.RLIM_INFINITY or not lacks_memory:
            raise
        print(
            f"error: the libraries do not fit into the {limit / 2**30:.1f} GB of addresses that this process may have "
            "(`ulimit -v`). Raise that limit, `ulimit -v unlimited`, or ask the batch system for more memory",
            file=sys.stderr,
        )
        sys.exit(1)
