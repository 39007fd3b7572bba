"""Reading the inputs of `mofang predict`: JSON on the command line or in a file, or arrays of numpy.

Pure but for opening the files that are named; it knows signatures, not servers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mofang.base.domain.errors import InvalidRequest, TensorData, TensorDatatype, TensorName
from mofang.base.domain.tensors import NUMPY, Array


def read(
    given: Sequence[str], npy: Sequence[str], body: Path | None, signature: Sequence[Mapping[str, Any]]
) -> dict[str, Array]:
    """Return the arrays by name.

    ``given`` are ``NAME=JSON`` and ``NAME=@FILE.json``, ``npy`` are ``NAME=FILE.npy``, ``body`` is a request of the
    Open Inference Protocol; ``signature`` lists the endpoint's inputs (name, datatype, shape) and decides the datatypes
    of what JSON leaves open. Raises InvalidRequest, TensorName, TensorDatatype or TensorData.
    """
    specs = {str(spec["name"]): spec for spec in signature}
    arrays: dict[str, Array] = {}
    if body:
        for tensor in _tensors(_json(body.read_text("utf-8"), str(body)), str(body)):
            arrays[tensor["name"]] = _shaped(tensor)
    for text in given:
        name, value = _split(text, "JSON or @FILE.json")
        source = f"input {name!r}"
        if value.startswith("@"):
            source, value = value[1:], Path(value[1:]).read_text("utf-8")
        arrays[name] = _fitted(name, _json(value, source), specs)
    for text in npy:
        name, path = _split(text, "FILE.npy")
        arrays[name] = _load(Path(path))
    if not arrays:
        names = ", ".join(specs)
        raise TensorName(
            f"no input was given: the endpoint takes {names}", hint="`--input NAME=JSON`, or NAME=@FILE.json"
        )
    return arrays


def _split(text: str, wanted: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise InvalidRequest(f"{text!r} is no input", hint=f"write NAME={wanted}")
    return name, value


def _json(text: str, source: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"{source} is not JSON: {error}", hint="e.g. --input 'x=[[1, 2, 3]]'") from None


def _tensors(body: Any, source: str) -> list[Mapping[str, Any]]:
    tensors = body.get("inputs") if isinstance(body, dict) else None
    wanted = {"name", "shape", "datatype", "data"}
    if not isinstance(tensors, list) or not all(isinstance(t, dict) and wanted <= t.keys() for t in tensors):
        hint = 'it holds {"inputs": [{"name", "shape", "datatype", "data"}]}'
        raise InvalidRequest(f"{source} is no request of the Open Inference Protocol", hint=hint)
    return tensors


def _shaped(tensor: Mapping[str, Any]) -> Array:
    name, datatype = tensor["name"], tensor["datatype"]
    if datatype not in NUMPY:
        raise TensorDatatype(f"input {name!r} has no datatype {datatype!r}", hint="one of " + ", ".join(NUMPY))
    array = _array(name, tensor["data"], datatype)
    try:
        return array.reshape([int(size) for size in tensor["shape"]])
    except (ValueError, TypeError):
        raise TensorData(f"input {name!r} has {array.size} values for shape {tensor['shape']}") from None


def _fitted(name: str, value: Any, specs: Mapping[str, Mapping[str, Any]]) -> Array:
    """Give JSON the datatype of the signature; a single row gets the batch axis it lacks."""
    spec = specs.get(name)
    if spec is None:
        raise TensorName(f"input {name!r} is unknown: the endpoint takes {', '.join(map(repr, specs))}")
    array = _array(name, value, str(spec["datatype"]))
    return array[np.newaxis] if array.ndim + 1 == len(spec["shape"]) else array


def _array(name: str, value: Any, datatype: str) -> Array:
    kind = "a list whose rows are equally long" if isinstance(value, list) else "a list"
    problem = TensorData(f"input {name!r} holds what is no {datatype}", hint=f"send {kind} of {datatype} values")
    if datatype == "BYTES":
        return _bytes_array(value, problem)
    try:
        found: Array = np.array(value)
        if found.dtype.kind not in "biuf" or (found.dtype.kind == "f") > (NUMPY[datatype].kind == "f"):
            raise problem
        with np.errstate(over="ignore"):
            return found.astype(NUMPY[datatype])
    except (ValueError, TypeError, OverflowError):
        raise problem from None


def _bytes_array(value: Any, problem: TensorData) -> Array:
    found = np.array(value, dtype=object)
    if not all(isinstance(item, str) for item in found.flat):
        raise problem
    encoded = np.empty(found.shape, dtype=object)
    encoded.ravel()[:] = [item.encode() for item in found.flat]
    return encoded


def _load(path: Path) -> Array:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InvalidRequest(f"{str(path)!r} is no .npy file: {error}", hint="write it with numpy.save") from None
    if not isinstance(array, np.ndarray):
        raise InvalidRequest(f"{str(path)!r} holds several arrays", hint="write one array with numpy.save")
    return array
