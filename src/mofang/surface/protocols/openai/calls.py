"""Finds the calls of functions in what a model says. Pure; :mod:`.answers` uses it for requests that have tools.

Models write calls as text: ``<tool_call>{"name": ..., "arguments": {...}}</tool_call>`` (Hermes, Qwen), or nothing but
the object (Llama, and every model that is held to a call by its grammar).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import msgspec

from mofang.base.domain.generation import Delta
from mofang.base.placement.tail import unfinished

_MARK = "<tool_call>"
_MARKED = re.compile(r"<tool_call>\s*(\{.*?\})\s*(?:</tool_call>|$)", re.DOTALL)


class Call(msgspec.Struct, frozen=True):
    """A function and its arguments, as JSON text."""

    name: str
    arguments: str


class Listener:
    """Parts one choice's text into what is said and what is called, as it comes; without ``names`` all is said."""

    def __init__(self, names: Collection[str], *, forced: bool) -> None:
        self._names = names
        self._held = ""  # what may be calls, or the beginning of one
        self._calling = forced
        self._fresh = True

    def hear(self, delta: Delta) -> tuple[str, list[Call]]:
        """Return what of ``delta`` is certain to be said, and with the last what is called."""
        if not self._names:
            return delta.text, []
        said = self._feed(delta.text)
        if not delta.finish:
            return said, []
        rest, calls = self._finish()
        return said + rest, calls

    def _feed(self, text: str) -> str:
        self._held += text
        if self._fresh and text.strip():
            self._fresh = False
            self._calling = self._calling or self._held.lstrip().startswith("{")
        if self._calling:
            return ""
        at = self._held.find(_MARK)
        self._calling = at >= 0
        if at < 0:
            at = len(self._held) - unfinished(self._held, (_MARK,), len(_MARK))
        said, self._held = self._held[:at], self._held[at:]
        return said

    def _finish(self) -> tuple[str, list[Call]]:
        """Return the rest of what is said, and the calls."""
        calls = [call for found in _MARKED.findall(self._held) if (call := self._read(found))]
        if not calls and (call := self._read(self._held.strip())):
            calls = [call]
        return ("" if calls else self._held), calls

    def _read(self, text: str) -> Call | None:
        try:
            found: Any = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return None
        if not isinstance(found, dict) or found.get("name") not in self._names:
            return None
        arguments = found.get("arguments", found.get("parameters", {}))
        return Call(found["name"], msgspec.json.encode(arguments).decode())
