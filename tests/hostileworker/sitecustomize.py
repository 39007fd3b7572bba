"""Makes a model hostile in a server under test: asked for 666, an ONNX engine tries what :mod:`attempts` lists, and
tells in the worker's log. Python imports this at every start.

A test puts this folder, ``tests``, ``tests/failpoints`` and one with a module ``hostile_plan`` on the server's
``PYTHONPATH``: its ``PLAN`` is what :func:`attempts.attempts` is told.
"""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

from hostile_plan import PLAN
from patching import Patching

from attempts import attempts


def _patch(module: ModuleType) -> None:
    infer = module.OnnxEngine.infer

    def hostile(engine: Any, inputs: Any) -> Any:
        if next(iter(inputs.values())).flat[0] == 666:
            print("hostile:", json.dumps(attempts(*PLAN)), file=sys.stderr, flush=True)
        return infer(engine, inputs)

    module.OnnxEngine.infer = hostile


sys.meta_path.insert(0, Patching(frozenset({"mofang.base.engines.onnx"}), _patch))
