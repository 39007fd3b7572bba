"""What serving is to reach, and whether it did: the figures of a run beside the goals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from models import Model

Case = tuple[str, int]  # form of the request, clients
RAW = "raw ASGI"


@dataclass(frozen=True)
class Figure:
    """Medians of one contender in one case."""

    rate: float
    per_core_second: float
    p50_ms: float
    kept: int
    slices: int
    clean: bool  # whether the machine was ours


@dataclass
class Measured:
    """What was found of one model."""

    figures: Mapping[tuple[str, Case], Figure]
    limits: Mapping[int, float] = field(default_factory=dict)  # rows a second of ONNX Runtime alone, by rows of a batch

    def rate(self, name: str, case: Case) -> float:
        """Return inferences a second; raise KeyError if that was not measured."""
        return self.figures[name, case].rate

    def p50(self, name: str, case: Case) -> float:
        """Return the median answer, in ms; raise KeyError if that was not measured."""
        return self.figures[name, case].p50_ms


Of = Callable[[Measured], float]


def _served(name: str) -> str:
    return f"Mofang {name}"


def _beside(name: str, case: Case, base: Case | None = None) -> Of:
    return lambda it: it.rate(_served(name), case) / it.rate(RAW, base or case)


def _longer(name: str) -> Of:
    return lambda it: it.p50(_served(name), ("JSON", 1)) / it.p50(RAW, ("JSON", 1))


def _of_limit(case: Case, *batches: int) -> Of:
    """The better placement's share of what ONNX Runtime computes in the best of these batches."""

    def share(it: Measured) -> float:
        served = [it.rate(_served(f"{placement}, governed"), case) for placement in ("thread", "process")]
        return max(served) / max(it.limits[batch] for batch in batches)

    return share


def _governance(it: Measured) -> float:
    return it.rate(_served("thread, governed"), ("JSON", 64)) / it.rate(_served("thread, bare"), ("JSON", 64))


GOALS: dict[str, list[tuple[str, str, float, Of]]] = {
    "tiny": [
        ("JSON, 64 clients, thread / raw ASGI", ">=", 2.5, _beside("thread, governed", ("JSON", 64))),
        ("JSON, 64 clients, process / raw ASGI", ">=", 2.0, _beside("process, governed", ("JSON", 64))),
        ("gRPC, 64 clients, thread / raw ASGI", ">=", 1.1, _beside("thread, governed", ("gRPC", 64), ("JSON", 64))),
        ("p50 of 1 client, thread / raw ASGI", "<=", 1.3, _longer("thread, governed")),
        ("p50 of 1 client, process / raw ASGI", "<=", 2.2, _longer("process, governed")),
        ("governed / bare, thread, 64 clients", ">=", 0.85, _governance),
    ],
    "cnn": [("binary, 64 clients / ONNX Runtime, batch 32", ">=", 0.95, _of_limit(("binary", 64), 32))],
    "encoder": [("binary, 8 clients / ONNX Runtime at its best", ">=", 0.97, _of_limit(("binary", 8), 1, 8, 32))],
}


def told(what: str, relation: str, goal: float, found: float) -> str:
    """Return the line of one goal."""
    reached = found >= goal if relation == ">=" else found <= goal
    return f"{what:55} {found:8.2f}   goal {relation} {goal:g}{'' if reached else ', MISSED'}"


def compare(model: Model, found: Measured) -> list[str]:
    """Return a line for every goal of a model of which enough was measured; a mark where the machine was not ours."""
    lines = []
    mark = "" if all(figure.clean for figure in found.figures.values()) else " !"
    for what, relation, goal, of in GOALS.get(model.name, []):
        try:
            lines.append(told(f"{model.name}, {what}", relation, goal, of(found)) + mark)
        except KeyError:
            continue
    return lines
