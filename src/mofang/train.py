"""Train with a function of your own: ``mofang.train.function(f, ...)`` makes a recipe of it.

from mofang.train import Layer, Model, function

def train(rows, target, progress):
    ...
    return Model(predict, [Layer(weights, bias, "sigmoid")])

client.train.run(function(train, name="xor", source="csv:/tmp/xor.csv"))
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

from mofang.make.train.function import Layer, Model

__all__ = ["Layer", "Model", "function"]


def function(train: Callable[..., Model], *, name: str, source: str, gate: str = "", task: str = "auto") -> str:
    """Return the text of a recipe that trains model ``name`` on ``source`` by ``train``.

    The whole module ``train`` is defined in goes into the recipe, which a server runs; the version keeps its
    digest. The function takes rows float32 [n, d], target [n] and ``progress(step, steps, **numbers)``.
    """
    module = inspect.getmodule(train)
    code = inspect.getsource(module if module is not None else train)
    quoted = f"'''\n{code}'''" if "'''" not in code else json.dumps(code, ensure_ascii=False)
    lines = [f"name = {_text(name)}", "", "[prepare]", f"source = {_text(source)}", f"task = {_text(task)}", ""]
    lines += ["[train]", 'algorithm = "function"', f"name = {_text(train.__name__)}", f"code = {quoted}", ""]
    return "\n".join(lines + (["[evaluate]", f"gate = {_text(gate)}", ""] if gate else []))


def _text(value: Any) -> str:
    return json.dumps(str(value), ensure_ascii=False)
