"""Comparisons made up for tests of what follows from them."""

from mofang.make.compress.compare import Comparison, Latency
from mofang.make.compress.quality import Quality


def comparison(drop: float = 0.0, one: float = 1.0, many: float = 1.0, size: float = 1.0) -> Comparison:
    """A variant that loses ``drop``, and costs these shares of an original of 1 ms, 32 ms in a batch, and 10 MB."""
    return Comparison(
        quality=Quality("accuracy", 1000, 0.9 - drop, 0.9, drop - 0.01, drop + 0.01, 0.5, "equal"),
        size_bytes=round(10_000_000 * size),
        parent_size_bytes=10_000_000,
        memory_bytes=80_000_000,
        parent_memory_bytes=90_000_000,
        latencies=(
            Latency(1, 1, 1000 * one, 900 * one, 1000, 900, 100),
            Latency(32, 1, 32_000 * many, 30_000 * many, 32_000, 30_000, 100),
        ),
    )
