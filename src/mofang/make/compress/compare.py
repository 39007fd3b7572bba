"""All that is measured of a variant beside its parent: plain numbers, made by ``arena`` and ``exam``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mofang.make.compress.quality import Quality

Of = Literal["rows", "first token", "token"]


@dataclass(frozen=True, slots=True)
class Latency:
    """Time of one call with ``batch`` rows, computed by ``threads``, of variant and parent, measured in turns.

    Of a language model, that of so many streams: until the first token is there, or until each of
    them has one more (``token``).
    """

    batch: int
    threads: int
    median_us: float
    minimum_us: float
    parent_median_us: float
    parent_minimum_us: float
    rounds: int
    of: Of = "rows"

    @property
    def ratio(self) -> float:
        """The variant's time as a share of the parent's."""
        return self.median_us / self.parent_median_us

    @property
    def rows_per_second(self) -> float:
        """Rows (or tokens) computed in a second, one call after the other."""
        return self.batch * 1e6 / self.median_us


@dataclass(frozen=True, slots=True)
class Comparison:
    """A variant beside its parent: what is lost, and what it costs. Memory is resident, of a process of its own."""

    quality: Quality
    size_bytes: int
    parent_size_bytes: int
    memory_bytes: int
    parent_memory_bytes: int
    latencies: tuple[Latency, ...]

    @property
    def drop(self) -> float:
        """Quality lost; negative if the variant is better."""
        return self.quality.drop

    @property
    def first(self) -> Latency | None:
        """The first token of a language model; None of other models."""
        return next((each for each in self.latencies if each.of == "first token"), None)

    @property
    def one(self) -> Latency:
        """One row alone, on one thread; of a language model a token of one stream."""
        return min(self._steady, key=lambda each: (each.batch, each.threads))

    @property
    def many(self) -> Latency:
        """The largest batch, on one thread: what a row costs when there are many."""
        return min(self._steady, key=lambda each: (-each.batch, each.threads))

    @property
    def shown(self) -> tuple[Latency, Latency, Latency, Latency]:
        """One row and the largest batch, on one thread and on all that were tried: what tables show."""
        found = {(each.batch, each.threads): each for each in self._steady}
        batches, threads = ({key[at] for key in found} for at in (0, 1))
        one, many, all_cores = min(batches), max(batches), max(threads)
        return self.one, found[one, all_cores], self.many, found[many, all_cores]

    @property
    def _steady(self) -> list[Latency]:
        return [each for each in self.latencies if each.of != "first token"]

    @property
    def size_ratio(self) -> float:
        """The variant's bytes as a share of the parent's."""
        return self.size_bytes / self.parent_size_bytes
