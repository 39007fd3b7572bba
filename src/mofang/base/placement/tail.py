"""Finds the texts at which a stream is to stop, however they are cut into pieces. Pure; the stream replica uses it."""

from __future__ import annotations


class Tail:
    """Holds back the end of a text as long as it may become one of ``stops``."""

    __slots__ = ("_held", "_longest", "_stops", "met")

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = tuple(filter(None, stops))
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self.met = ""  # the stop that was met: what follows it is nobody's

    def feed(self, text: str) -> str:
        """Take in ``text`` and return what is certain to be said."""
        if not self._stops:
            return text
        text = self._held + text
        at, met = min(((at, stop) for stop in self._stops if (at := text.find(stop)) >= 0), default=(-1, ""))
        if met:
            self.met, self._held = met, ""
            return text[:at]
        held = unfinished(text, self._stops, self._longest)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """Return what was held back: nothing follows it."""
        held, self._held = self._held, ""
        return held


def unfinished(text: str, words: tuple[str, ...], longest: int) -> int:
    """Return how many of the last characters of ``text`` begin one of ``words``, and do not end it."""
    for length in range(min(longest - 1, len(text)), 0, -1):
        end = text[-length:]
        if any(word.startswith(end) for word in words):
            return length
    return 0
