"""How many connections a process can afford: each is a file descriptor, and so is much else."""

from __future__ import annotations

import resource
from contextlib import suppress

_OTHERS = 64  # descriptors for workers, the controller, the journal, logs, and for gRPC where there are few
_FEWEST = 8


def affordable_connections(wanted: int) -> int:
    """Return how many of ``wanted`` connections the limit of open files has room for, raised as far as that is allowed.

    Twice as many can be open for a moment: beyond the limit, connections are told so before they are closed.
    """
    needed = 2 * wanted + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(ValueError, OSError):  # some containers forbid even that
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(_FEWEST, min(wanted, (soft - _OTHERS) // 2))
