"""Kills a process of a server under test at a named point of its code. Python imports this at every start.

A test puts this folder on the server's ``PYTHONPATH`` and names a folder in ``MOFANG_TEST_FAILPOINTS``. As long as a
file with a point's name lies there, that point is armed: the first process that claims the file (by renaming it) dies
of SIGKILL there. The product knows nothing of this: functions are wrapped when their module is imported.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from patching import Patching

FOLDER = os.environ.get("MOFANG_TEST_FAILPOINTS", "")
CLAIM = 0.3  # how often a process dies at an armed point it passes: not always the first time
SELDOM = ("segment", "release", "lend", "charge")  # points so named are passed seldom: there it dies the first time

POINTS: dict[str, tuple[str, str, str]] = {
    # gateway
    "gateway-before-record": ("mofang.sell.meter.recorder", "Recorder.record", "before"),
    "gateway-before-segment": ("mofang.base.storage.journal", "JournalWriter._begin_segment", "before"),
    "gateway-after-segment": ("mofang.base.storage.journal", "JournalWriter._begin_segment", "after"),
    "gateway-before-write": ("mofang.base.storage.journal", "write_all", "before"),
    "gateway-half-write": ("mofang.base.storage.journal", "write_all", "half"),
    "gateway-after-write": ("mofang.base.storage.journal", "write_all", "after"),
    "gateway-before-answer": ("mofang.surface.server.writer", "Writer.write", "before"),
    "gateway-after-answer": ("mofang.surface.server.writer", "Writer.write", "after"),
    # controller
    "settler-before-fold": ("mofang.sell.meter.store", "UsageStore.fold", "before"),
    "settler-after-events": ("mofang.sell.meter.events.store", "add", "after"),
    "settler-after-fold": ("mofang.sell.meter.store", "UsageStore.fold", "after"),
    "settler-after-look": ("mofang.sell.meter.settler", "is_live", "after"),
    "lender-before-lend": ("mofang.sell.budget.store", "BudgetStore.lend", "before"),
    "lender-after-lend": ("mofang.sell.budget.store", "BudgetStore.lend", "after"),
    "settler-before-charge": ("mofang.sell.budget.store", "BudgetStore.settle", "before"),
    "settler-after-charge": ("mofang.sell.budget.store", "BudgetStore.settle", "after"),
    "lender-before-release": ("mofang.sell.budget.store", "BudgetStore.release", "before"),
    "lender-after-release": ("mofang.sell.budget.store", "BudgetStore.release", "after"),
    "controller-before-reconcile": ("mofang.surface.server.floor", "ShopFloor.reconcile", "before"),
    # worker
    "worker-before-compute": ("mofang.base.engines.onnx", "OnnxEngine.infer", "before"),
    "worker-after-compute": ("mofang.base.engines.onnx", "OnnxEngine.infer", "after"),
}


def _die_if_armed(point: str) -> None:
    armed = os.path.join(FOLDER, point)
    if os.path.exists(armed) and (point.endswith(SELDOM) or random.random() < CLAIM):
        try:
            os.rename(armed, armed + ".fired")
        except FileNotFoundError:
            return  # another process was here first
        os.kill(os.getpid(), signal.SIGKILL)


def _wrapped(function: Callable[..., Any], point: str, when: str) -> Callable[..., Any]:
    def before(*arguments: Any, **named: Any) -> Any:
        _die_if_armed(point)
        return function(*arguments, **named)

    def after(*arguments: Any, **named: Any) -> Any:
        result = function(*arguments, **named)
        _die_if_armed(point)
        return result

    def half(descriptor: int, data: bytes) -> None:
        """Write a torn record, as a kill in the middle of a write leaves it."""
        if os.path.exists(os.path.join(FOLDER, point)):
            os.write(descriptor, data[: len(data) // 2])
            _die_if_armed(point)
            os.ftruncate(descriptor, os.lseek(descriptor, 0, os.SEEK_END) - len(data) // 2)
        function(descriptor, data)

    return {"before": before, "after": after, "half": half}[when]


def _patch(module: ModuleType) -> None:
    for point, (where, qualified, when) in POINTS.items():
        if where == module.__name__:
            *path, name = qualified.split(".")
            owner: Any = module
            for part in path:
                owner = getattr(owner, part)
            setattr(owner, name, _wrapped(getattr(owner, name), point, when))


if FOLDER:
    sys.meta_path.insert(0, Patching(frozenset(where for where, _, _ in POINTS.values()), _patch))
