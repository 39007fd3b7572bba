"""Chooses which requests are looked at: those of traces that their clients record, and a share of all others."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mofang.base.domain.errors import InvalidSettings
from mofang.run.serve.visits import Trace, Visit, Watch
from mofang.surface.server.accesslog import AccessLog
from mofang.surface.server.settings import Settings

if TYPE_CHECKING:
    from mofang.surface.server.opentelemetry import Spans

Tell = Callable[[Visit], None]


class Watching:
    """The access log and the traces of one gateway, as far as settings want them."""

    def __init__(self, settings: Settings, name: str, logs: Path) -> None:
        self._log_share, self._span_share = settings.access_share, settings.traces_share
        self._log = AccessLog(logs / f"access-{name}.jsonl") if self._log_share else None
        self._spans = _spans(settings.traces, f"mofang.{name}") if settings.traces else None

    @property
    def watch(self) -> Watch | None:
        """Who is to look at requests; None if nobody is, so that nothing is done for it."""
        return self._choose if self._log is not None or self._spans is not None else None

    def close(self) -> None:
        """Write and send what is left."""
        if self._log is not None:
            self._log.close()
        if self._spans is not None:
            self._spans.close()

    def _choose(self, trace: Trace | None) -> Tell | None:
        told: list[Tell] = []
        if self._log is not None and _falls(self._log_share):
            told.append(self._log.tell)
        if self._spans is not None and (trace.sampled if trace is not None else _falls(self._span_share)):
            told.append(self._spans.tell)
        if len(told) < 2:
            return told[0] if told else None
        return partial(_tell_all, told)


def _tell_all(told: list[Tell], visit: Visit) -> None:
    for tell in told:
        tell(visit)


def _falls(share: float) -> bool:
    return share >= 1.0 or random.random() < share  # noqa: S311 (no secret)


def _spans(url: str, service: str) -> Spans:
    try:
        from mofang.surface.server.opentelemetry import Spans
    except ImportError as error:
        hint = "install it where the server runs: `pip install 'mofang[telemetry]'`"
        raise InvalidSettings(f"traces need the OpenTelemetry SDK: {error}", hint=hint) from error
    return Spans(url, service)
