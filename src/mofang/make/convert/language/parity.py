"""Does an artifact compute what the model does? Every token of some texts must be as likely to both.

A wrong order of weights, another base of positions or another tokenizer moves likelihoods by whole nats; half precision
by a few thousandths. The engine computes in full precision here, so that nothing but the artifact is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from mofang.base.domain.errors import ParityFailed
from mofang.base.domain.work import Progress
from mofang.base.engines.base import Options, Scoring
from mofang.base.engines.catalog import load_generator
from mofang.make.convert.parity import ParityProof

EXACTLY: Mapping[str, Options] = MappingProxyType(
    {"openvino": {"precision": "full"}, "transformers": {"compute": "float32"}}
)
"""Engines that tell how likely a given text is, and the options with which they compute exactly."""
TOLERANCE = 0.1  # nats, of any token
_LONGEST = 256
_MOST_ROWS = 16

Rows = Sequence[Sequence[int]]
Source = Callable[[Rows], list[list[float]]]
"""The model itself: what ``Scoring.score`` would answer."""


def prove(engine_name: str, folder: Path, source: Source, rows: Rows, progress: Progress) -> ParityProof:
    """Compare what an engine makes of ``folder`` with its ``source`` on the tokens of ``rows``. Raises ParityFailed."""
    some = [list(row[:_LONGEST]) for row in rows if len(row) > 1][:_MOST_ROWS]
    tokens = sum(len(row) - 1 for row in some)
    progress.report("convert", 0.5, f"comparing {tokens:,} tokens in {len(some)} texts")
    engine = load_generator(engine_name, folder, EXACTLY[engine_name])
    try:
        assert isinstance(engine, Scoring)
        found = engine.score(some)
    finally:
        engine.close()
    worst = 0.0
    for text, (ours, theirs) in enumerate(zip(source(some), found, strict=True)):
        apart = np.abs(np.array(ours) - np.array(theirs))
        token = int(apart.argmax())
        worst = max(worst, float(apart[token]))
        if not apart[token] <= TOLERANCE:
            raise ParityFailed(
                f"the artifact finds token {token + 1} of text {text} less or more likely than the model does:"
                f" ln p is {theirs[token]:.3f}, the model says {ours[token]:.3f}"
            )
    said = f"{tokens:,} tokens as likely, largest difference {worst:.1e}"
    progress.report("convert", 1.0, said, max_difference=worst)
    trials = (f"ln p of {tokens:,} tokens in {len(some)} texts",)
    return ParityProof(len(some), len(some), worst, TOLERANCE, (), "untried", compared="values", trials=trials)


def same_tokens(engine_name: str, folder: Path, tokens: Callable[[str, bool], Sequence[int]]) -> list[list[int]]:
    """Hold an engine's tokenizer against ``tokens`` (of a text; with what opens it, or not) on a few texts.

    Returns their tokens. Raises ParityFailed.
    """
    engine = load_generator(engine_name, folder, {"slots": 1, "cache_mb": 64})
    try:
        assert isinstance(engine, Scoring)
        for opening in (False, True):
            for text in _TEXTS:
                ours, theirs = list(tokens(text, opening)), list(engine.encode(text, opening=opening))
                if ours != theirs:
                    told = f"{theirs[:8]}, not {ours[:8]}"
                    raise ParityFailed(f"the artifact cuts {text[:40]!r} into other tokens: {told}")
    finally:
        engine.close()
    return [list(tokens(text, False)) for text in _TEXTS]


_TEXTS = (
    "The quick brown fox jumps over the lazy dog, doesn't it? They've seen 1,024 of them in 1999 -- and I'll say so.",
    "def area(radius: float) -> float:\n    return 3.14159 * radius ** 2\n\n\nprint(area(2))\n",
    "  Two blanks before, three   between, and one after ",
    'Füße, naïve café; 你好，世界。 Привет! 🙂 {"key": [1, 2.5, null]}',
    "One paragraph.\n\nAnother paragraph, which is somewhat longer than the first and repeats itself: longer, longer.",
)
