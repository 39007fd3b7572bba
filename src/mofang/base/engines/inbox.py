"""Streams that threads of an engine compute, and what those threads say, for the one thread that owns the engine."""

from __future__ import annotations

import queue
from typing import Generic, Protocol, TypeVar

_WAIT_SECONDS = 0.005  # for a first event, if none is there


class Cancellable(Protocol):
    """A stream whose thread looks, whenever the next piece is there, whether it is still wanted."""

    cancelled: bool


Stream = TypeVar("Stream", bound=Cancellable)
Said = TypeVar("Said")


class Inbox(Generic[Stream, Said]):
    """The ``streams`` that run, by number, and what was said of them."""

    def __init__(self) -> None:
        self.streams: dict[int, Stream] = {}
        self._events: queue.SimpleQueue[tuple[int, Said]] = queue.SimpleQueue()

    def put(self, number: int, said: Said) -> None:
        """Say something of a stream; any thread may."""
        self._events.put((number, said))

    def take(self) -> list[tuple[int, Said]]:
        """Return what was said; wait a moment if it is nothing and a stream runs."""
        if not self.streams:
            return []
        try:
            events = [self._events.get(timeout=_WAIT_SECONDS)]
        except queue.Empty:
            return []
        while not self._events.empty():
            events.append(self._events.get())
        return events

    def cancel(self, number: int) -> None:
        """Forget a stream, and let its thread know."""
        stream = self.streams.pop(number, None)
        if stream is not None:
            stream.cancelled = True

    def cancel_all(self) -> None:
        """Forget all of them."""
        for number in list(self.streams):
            self.cancel(number)
