"""What the model is asked to go on from."""

from __future__ import annotations

import random

_WORDS = (
    "river",
    "stone",
    "light",
    "garden",
    "window",
    "paper",
    "music",
    "winter",
    "silver",
    "forest",
    "letter",
    "summer",
)


def prompts(count: int, chance: random.Random, words: int = 60) -> list[str]:
    """Return texts of about 68 tokens, each with a beginning of its own."""
    return [f"{chance.randrange(10**6)} " + " ".join(chance.choices(_WORDS, k=words)) + ". So" for _ in range(count)]


def endless(count: int, chance: random.Random) -> list[str]:
    """Return texts of about 68 tokens after which the model says the same word for ever."""
    return [f"{chance.randrange(10**6)}" + f" {chance.choice(_WORDS)}" * 62 for _ in range(count)]
