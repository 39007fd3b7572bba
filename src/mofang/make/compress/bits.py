"""In how many bits the weights of a GGUF file are, and in how many they could be: a look at its header."""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path
from typing import get_args

from mofang.base.domain.errors import NoVariant
from mofang.base.engines.gguf import Gguf, read_gguf
from mofang.make.compress.step import Width

EXACT = ("F32", "F16", "BF16", "Q8_0")
"""Types whose weights may be rounded; those of any other were rounded to few bits before, and would lose twice."""


def gguf_file(folder: Path) -> Path:
    """Return the one GGUF file of an artifact. Raises NoVariant if there are several, or none."""
    files = sorted(folder.glob("*.gguf"))
    if len(files) != 1:
        raise NoVariant(f"the artifact has {len(files)} .gguf files; a language model of one file can be compressed")
    return files[0]


def narrower(folder: Path) -> tuple[Width, ...]:
    """Return the types of fewer bits that the weights of an artifact may have, widest first.

    Raises NoVariant if they have few already, InvalidModel if the file is damaged.
    """
    found = usual(read_gguf(gguf_file(folder)))
    if found not in EXACT:
        raise NoVariant(
            f"the weights of the file are {found}, which was rounded already: rounded again they would lose twice",
            hint=f"push the model in one of {', '.join(EXACT)}, and compress that",
        )
    widths: tuple[Width, ...] = get_args(Width)
    return widths[1:] if found == "Q8_0" else widths


def usual(about: Gguf) -> str:
    """Return the type that most of the weights have."""
    weights: Counter[str] = Counter()
    for tensor in about.tensors:
        weights[tensor.type] += prod(tensor.shape)
    return weights.most_common(1)[0][0]
