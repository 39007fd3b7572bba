"""The kinds of jobs that make versions: each one function in a module of its own, the stages in their order.

A job process looks its kind up in :data:`JOB_KINDS` and calls it with the job's spec, a :class:`Workshop` and where to
report progress. The function returns the job's result, or raises a MofangError that says why there is none. It must
not know leases, processes or the wire. Frameworks are imported by the stage that needs them, when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from mofang.base.domain.work import Progress
from mofang.make.pipeline.compress import compress_version
from mofang.make.pipeline.evaluate import evaluate_version
from mofang.make.pipeline.export import export_version
from mofang.make.pipeline.outcome import Result, Spec
from mofang.make.pipeline.prepare import prepare_recipe
from mofang.make.pipeline.push import push_files
from mofang.make.pipeline.quote import quote_recipe
from mofang.make.pipeline.train import train_recipe
from mofang.make.pipeline.tune import tune_version
from mofang.make.workshop import Workshop

JOB_KINDS: Mapping[str, Callable[[Spec, Workshop, Progress], Result]] = MappingProxyType(
    {
        "prepare": prepare_recipe,
        "train": train_recipe,
        "quote": quote_recipe,
        "push": push_files,
        "evaluate": evaluate_version,
        "compress": compress_version,
        "export": export_version,
        "tune": tune_version,
    }
)

__all__ = [
    "JOB_KINDS",
    "Result",
    "Spec",
    "compress_version",
    "evaluate_version",
    "export_version",
    "prepare_recipe",
    "push_files",
    "quote_recipe",
    "train_recipe",
    "tune_version",
]
