"""Interrupts a computation that was thought to be short and is not, so that an event loop is never held for long.

A replica computes in its event loop what took less than half a millisecond so far. A model whose work depends on its
input (a loop in the graph) can take minutes the next time; then the replica, called back, computes it in its thread.
"""

from __future__ import annotations

import threading
import time

from mofang.base.engines.base import Interruptible

_PATIENCE_SECONDS = 0.05


class Watchdog:
    """Watches the computations of one engine. Its thread sleeps while there are none, and ends with :meth:`close`."""

    def __init__(self, engine: Interruptible) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._number = 0  # of the computation that runs, or ran last
        self._running = False
        self._bit = False
        self._closed = False
        self._awake = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Watch what is computed from now on."""
        self._number += 1
        self._bit = False
        self._running = True
        if not self._awake.is_set():
            self._awake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()

    def end(self) -> bool:
        """Watch no more; tell whether the computation was interrupted, or may have been."""
        with self._lock:  # so that a bite never meets the next computation
            self._running = False
            return self._bit

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._awake.set()

    def _watch(self) -> None:
        while True:
            self._awake.wait()
            if self._closed:
                return
            self._awake.clear()
            number = self._number
            time.sleep(_PATIENCE_SECONDS)
            while self._running and self._number == number:
                with self._lock:
                    if self._running and self._number == number:
                        self._bit = True
                        self._engine.interrupt()
                time.sleep(_PATIENCE_SECONDS)
