"""A tune job: how to run a version on this machine within a latency, found by measuring."""

from __future__ import annotations

from mofang.base.domain.errors import InvalidModel
from mofang.base.domain.names import VersionRef
from mofang.base.domain.work import Progress
from mofang.base.engines.base import example_row
from mofang.base.engines.catalog import generator_names
from mofang.make.compress.tuning import best, front, measure, told
from mofang.make.pipeline.outcome import Result, Spec
from mofang.make.workshop import Workshop


def tune_version(spec: Spec, tools: Workshop, progress: Progress) -> Result:
    """Measure ``spec["version"]`` for ``spec["seconds"]`` and choose for ``spec["latency_ms"]``.

    Raises InvalidModel for a language model, and what loading and computing raise.
    """
    version = tools.registry.get(VersionRef.parse(spec["version"]))
    engine, signature = version.artifact.engine, version.artifact.signature
    if engine in generator_names():
        raise InvalidModel(f"{version} is a language model; its slots are set with `--option`, not tuned")
    goal_ms = float(spec["latency_ms"])
    with tools.folder() as parent:
        folder = tools.registry.folder(version, parent)
        with tools.engine(engine, folder) as loaded:
            row = example_row(loaded)
        found = measure(engine, folder, row, goal_ms, float(spec["seconds"]), progress, batchable=signature.batchable)
    chosen = best(found, goal_ms)
    progress.report("tune", 1.0, f"{chosen.rows_per_second:,.0f} rows a second, about {chosen.latency_ms:.1f} ms")
    return {
        "version": str(version),
        "digest": version.digest,
        "latency_ms": goal_ms,
        "kept": chosen.latency_ms <= goal_ms,
        "chosen": told(chosen, engine),
        "front": [told(each, engine) for each in front(found)],
    }
