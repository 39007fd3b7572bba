"""``reading.json``, beside an encoder: how much of a text is read. Without it, all of a text, or it is refused.

The engine reads it, and so does whoever trains a classifier on the encoder, so that both read the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from mofang.base.domain.errors import EngineLoadFailed

_FILE = "reading.json"


class Reading(msgspec.Struct, forbid_unknown_fields=True):
    """``reading.json``."""

    tokens: Annotated[int, msgspec.Meta(ge=1)]  # from the start; what follows is left out

    def keep(self, folder: Path) -> None:
        """Write it into ``folder``."""
        (folder / _FILE).write_bytes(msgspec.json.encode(self))


def read_reading(folder: Path) -> Reading | None:
    """Read ``reading.json`` in ``folder``; None without one. Raises EngineLoadFailed."""
    try:
        return msgspec.json.decode((folder / _FILE).read_bytes(), type=Reading)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise EngineLoadFailed(f"{_FILE!r} cannot be read: {error}") from error
