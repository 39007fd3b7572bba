"""Texts to words, and words to numbers: exactly as the served graph does it.

A word is what lies between ASCII spaces and punctuation, in any language; letters A to Z are made small. So simple a
rule has one meaning in Python and in the graph's regular expressions (RE2), whatever the machine's locale.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

WORD = r"[^\x00-\x20!-/:-@\[-`{-~\x7f]+"
TOKEN = WORD + r"|[!-/:-@\[-`{-~]"
CHARACTER = r"[^\x00-\x1f\x7f]"
PATTERNS = {"words": WORD, "characters": CHARACTER, "tokens": TOKEN}
GRAMS = {"words": (1, 2), "characters": (2, 4), "tokens": (1, 1)}  # shortest and longest runs that are counted
PADDING, UNKNOWN, FIRST = 0, 1, 2  # token ids: no word, a word that is not known, the first of the vocabulary

_COMPILED = {name: re.compile(pattern) for name, pattern in PATTERNS.items()}
_SMALL = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_LEAST_TEXTS = 2  # that a word must occur in, to be known


def words_of(text: str, how: str) -> list[str]:
    """Split ``text``: ``how`` is words, characters or tokens (words and punctuation)."""
    return _COMPILED[how].findall(text.translate(_SMALL))


def grams_of(words: Sequence[str], how: str) -> list[tuple[str, ...]]:
    """Return all runs of neighbouring words that are counted."""
    shortest, longest = GRAMS[how]
    sizes = range(shortest, longest + 1)
    return [tuple(words[i : i + size]) for size in sizes for i in range(len(words) - size + 1)]


def joined(gram: Sequence[str], how: str) -> str:
    """Write a run as one text; words hold no space."""
    return ("" if how == "characters" else " ").join(gram)


def parted(gram: str, how: str) -> tuple[str, ...]:
    """Undo :func:`joined`."""
    return tuple(gram) if how == "characters" else tuple(gram.split(" "))


def learn(texts: Iterable[str], how: str, most: int) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Return the vocabulary of ``texts``, the runs in most of them first, and how rare each is.

    The weight is ln((1 + n) / (1 + texts with it)) + 1, as in scikit-learn. Runs in one text alone are not known.
    """
    found: Counter[tuple[str, ...]] = Counter()
    total = 0
    for text in texts:
        total += 1
        found.update(set(grams_of(words_of(text, how), how)))
    ranked = sorted(found.items(), key=lambda entry: (-entry[1], entry[0]))
    kept = [(gram, count) for gram, count in ranked[:most] if count >= _LEAST_TEXTS]
    weights = (np.float32(math.log((1 + total) / (1 + count)) + 1) for _, count in kept)
    return tuple(joined(gram, how) for gram, _ in kept), tuple(map(float, weights))


def count(texts: Sequence[str], how: str, vocabulary: Sequence[str], weights: Sequence[float]) -> NDArray[np.float32]:
    """Return [n, vocabulary]: ln(1 + occurrences) times weight, each row of length 1 (or 0)."""
    index = {parted(gram, how): position for position, gram in enumerate(vocabulary)}
    counts = np.zeros((len(texts), len(vocabulary)), np.float32)
    for row, text in enumerate(texts):
        for gram in grams_of(words_of(text, how), how):
            if (position := index.get(gram)) is not None:
                counts[row, position] += 1
    weighted = np.log(counts + np.float32(1)) * np.array(weights, np.float32)
    size = np.sqrt((weighted * weighted).sum(axis=1, keepdims=True))
    return np.asarray(weighted / np.maximum(size, np.float32(1e-12)))


def ids(texts: Sequence[str], vocabulary: Sequence[str], length: int) -> NDArray[np.float32]:
    """Return [n, length] token ids of the first ``length`` words, padded at the end."""
    index = {word: FIRST + position for position, word in enumerate(vocabulary)}
    found = np.full((len(texts), length), PADDING, np.float32)
    for row, text in enumerate(texts):
        words = words_of(text, "tokens")[:length]
        found[row, : len(words)] = [index.get(word, UNKNOWN) for word in words]
    return found
