"""Plants a leak in a server under test: an ONNX engine that keeps some bytes of every call. Python imports this
at every start.

A test puts this folder and ``tests/failpoints`` on the server's ``PYTHONPATH`` and says in ``MOFANG_TEST_LEAK_BYTES``
how many.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

from patching import Patching

BYTES = int(os.environ.get("MOFANG_TEST_LEAK_BYTES", "0"))

_kept: list[bytes] = []


def _patch(module: ModuleType) -> None:
    infer = module.OnnxEngine.infer

    def leaking(*arguments: Any, **named: Any) -> Any:
        _kept.append(os.urandom(BYTES))
        return infer(*arguments, **named)

    module.OnnxEngine.infer = leaking


if BYTES:
    sys.meta_path.insert(0, Patching(frozenset({"mofang.base.engines.onnx"}), _patch))
