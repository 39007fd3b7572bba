"""A model behind a server of the Open Inference Protocol, as a teacher: nothing of it is known but its answers.

Called by the pipeline, for a student to learn from. It asks over REST, in JSON, which every such server speaks; answers
are checked before they are believed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec
import numpy as np

from mofang.base.domain.errors import NoVariant, TensorDatatype, UpstreamFailed
from mofang.base.domain.tensors import NUMPY, Array, Datatype, Signature, TensorSpec

UPSTREAM = "upstream:"
"""What a teacher's name begins with if it is a model of another server: ``upstream:SERVER/MODEL``."""
_TIMEOUT = httpx.Timeout(10.0, read=120.0)
_TRIES = 5  # of a question that the server has no room for now
_BUSY = (429, 503)
_LONGEST_PAUSE = 10.0  # seconds before such a question is asked again
_Message = TypeVar("_Message")


class _Spec(msgspec.Struct):
    name: str
    datatype: Datatype
    shape: list[int]


class _Metadata(msgspec.Struct):
    inputs: list[_Spec]
    outputs: list[_Spec]


class _Output(msgspec.Struct):
    name: str
    datatype: Datatype
    shape: list[int]
    data: list[Any]


class _Answer(msgspec.Struct):
    outputs: list[_Output]


class Endpoint:
    """An engine whose model is called ``model`` by the server at ``base_url``, which wants ``key`` (empty: none)."""

    def __init__(self, base_url: str, key: str, model: str, *, pause: Callable[[float], None] = time.sleep) -> None:
        """Ask for the signature. Raises UpstreamFailed if the server does not tell it."""
        self._where = f"the teacher {model!r} at {base_url}"
        self._path = f"{base_url.rstrip('/')}/v2/models/{quote(model, safe='')}"
        headers = {"authorization": f"Bearer {key}"} if key else {}
        transport = httpx.HTTPTransport(retries=2)
        self._client = httpx.Client(timeout=_TIMEOUT, headers=headers, transport=transport, trust_env=False)
        self._pause = pause
        try:
            told = self._ask("GET", "", None, _Metadata)
        except BaseException:
            self.close()
            raise
        if not told.inputs or not told.outputs:
            self.close()
            raise self._failed("it does not tell the model's inputs and outputs")
        inputs, outputs = (
            tuple(TensorSpec(spec.name, spec.datatype, tuple(spec.shape)) for spec in specs)
            for specs in (told.inputs, told.outputs)
        )
        self.signature = Signature(inputs, outputs)

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Ask for one batch. Raises UpstreamFailed if there is no answer, or another than the signature says."""
        sent = [_sent(spec, inputs[spec.name]) for spec in self.signature.inputs]
        answer = self._ask("POST", "/infer", msgspec.json.encode({"inputs": sent}), _Answer)
        found = {output.name: self._array(output) for output in answer.outputs}
        rows = len(next(iter(inputs.values())))
        for spec in self.signature.outputs:
            if spec.name not in found:
                raise self._failed(f"it leaves out its output {spec.name!r}")
            shape, wanted = found[spec.name].shape, (rows, *spec.shape[1:])
            if len(shape) != len(wanted) or any(size not in (-1, got) for size, got in zip(wanted, shape, strict=True)):
                raise self._failed(f"it was asked {rows} rows, and its {spec} has the shape {list(shape)}")
        return found

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def _ask(self, method: str, path: str, content: bytes | None, kind: type[_Message]) -> _Message:
        try:
            for left in reversed(range(_TRIES)):
                answer = self._client.request(method, self._path + path, content=content, headers=_JSON)
                if answer.status_code not in _BUSY or not left:
                    break
                self._pause(_asked_pause(answer))
        except httpx.TimeoutException as error:
            raise self._failed("it is silent") from error
        except httpx.HTTPError as error:
            raise self._failed(f"it does not answer: {error}") from error
        if answer.status_code != 200:
            raise self._failed(f"it answers {answer.status_code}: {answer.text[:300]}")
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except msgspec.MsgspecError as error:
            raise self._failed(f"its answer is not of the Open Inference Protocol: {error}") from error

    def _array(self, output: _Output) -> Array:
        dtype = NUMPY[output.datatype]
        try:
            if output.datatype == "BYTES":
                flat = np.array([str(each).encode() for each in output.data], np.object_)
            else:
                flat = np.asarray(output.data, dtype)
        except (ValueError, TypeError, OverflowError) as error:
            raise self._failed(f"its output {output.name!r} is not {output.datatype}: {error}") from error
        if flat.size != math.prod(output.shape) or any(size < 0 for size in output.shape):
            raise self._failed(f"its output {output.name!r} has {flat.size} elements, and says {output.shape}")
        return flat.reshape(output.shape)

    def _failed(self, why: str) -> UpstreamFailed:
        hint = "see that it is up, speaks the Open Inference Protocol over REST, and knows the model and the key"
        return UpstreamFailed(f"{self._where}: {why}", hint=hint)


_JSON = {"content-type": "application/json"}


def _asked_pause(answer: httpx.Response) -> float:
    """Return how many seconds a server that is busy asks to wait."""
    said = answer.headers.get("retry-after", "")
    return min(float(said), _LONGEST_PAUSE) if said.isdecimal() else 1.0


def _sent(spec: TensorSpec, array: Array) -> dict[str, Any]:
    """Return an input as JSON has it. Raises NoVariant for bytes that are no text, TensorDatatype for other numbers."""
    if spec.datatype == "BYTES":
        try:
            data = [each.decode() if isinstance(each, bytes) else str(each) for each in array.ravel().tolist()]
        except UnicodeDecodeError as error:
            raise NoVariant(f"the teacher's input {spec.name!r} takes files, which are not sent as JSON") from error
    else:
        if array.dtype != NUMPY[spec.datatype]:
            raise TensorDatatype(f"input {spec.name!r} of the teacher takes {spec.datatype}, got {array.dtype}")
        data = array.ravel().tolist()
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(array.shape), "data": data}
