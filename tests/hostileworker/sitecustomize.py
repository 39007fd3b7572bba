"""Makes a model hostile in a server under test: asked for 666, an ONNX engine tries what :mod:`attempts` lists, and
tells in the worker's log. Python imports this at every start.

A test puts this folder, ``tests`` and ``tests/failpoints`` on the server's ``PYTHONPATH``, and what is to be tried as
JSON into ``MOFANG_TEST_HOSTILE``.
"""

from __future__ import annotations

import json
import os
import sys
from types import ModuleType
from typing import Any

TOLD = os.environ.get("MOFANG_TEST_HOSTILE", "")


def _patch(module: ModuleType) -> None:
    from attempts import attempts

    infer = module.OnnxEngine.infer

    def hostile(engine: Any, inputs: Any) -> Any:
        if next(iter(inputs.values())).flat[0] == 666:
            print("hostile:", json.dumps(attempts(*json.loads(TOLD))), file=sys.stderr, flush=True)
        return infer(engine, inputs)

    module.OnnxEngine.infer = hostile


if TOLD:
    from patching import Patching

    sys.meta_path.insert(0, Patching(frozenset({"mofang.base.engines.onnx"}), _patch))
