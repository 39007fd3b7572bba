"""``upstream.json``, the artifact of a model that another server computes: which upstream, which of its models.

The engine reads it, and so does whoever takes it in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from mofang.base.domain.errors import InvalidModel

FILE = "upstream.json"


class Described(msgspec.Struct, forbid_unknown_fields=True):
    """``upstream.json``."""

    upstream: Annotated[str, msgspec.Meta(min_length=1, max_length=63)]
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    context_tokens: Annotated[int, msgspec.Meta(ge=16, le=1 << 24)] = 131_072


def read_described(folder: Path) -> Described:
    """Read ``upstream.json`` in ``folder``. Raises InvalidModel."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Described)
    except OSError as error:
        raise InvalidModel(f"there is no {FILE!r}", hint="it says {'upstream': NAME, 'model': NAME}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidModel(f"{FILE!r}: {error}") from error
