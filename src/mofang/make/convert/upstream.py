"""Look at a model of another server that somebody pushed: does it say which?"""

from __future__ import annotations

from pathlib import Path

from mofang.base.domain.generation import TEXT_SIGNATURE
from mofang.base.domain.tensors import Signature
from mofang.base.engines.described import read_described


def inspect(folder: Path) -> Signature:
    """Return the signature of the model that ``upstream.json`` in ``folder`` names. Raises InvalidModel."""
    read_described(folder)
    return TEXT_SIGNATURE
