"""Predictions over REST: the Open Inference Protocol with its binary tensor extension."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import msgspec
import numpy as np

from mofang.base.domain.errors import Internal
from mofang.base.domain.tensors import NUMPY, Array, datatype_of
from mofang.surface.sdk.prediction import Prediction
from mofang.surface.sdk.transport import Transport, segment
from mofang.surface.wire.raw import decode_raw, encode_raw

HEADER_LENGTH = "inference-header-content-length"
GRACE_SECONDS = 2.0  # the server's own word on a deadline is better than ours: give it time to arrive


class RestChannel:
    """Asks over the client's HTTP connections."""

    def __init__(self, wire: Transport) -> None:
        self._wire = wire

    def predict(
        self, endpoint: str, inputs: Mapping[str, Array], *, version: str, timeout_seconds: float, key: str
    ) -> Prediction:
        """Ask ``endpoint`` and return its answer."""
        version_path = f"/versions/{segment(version)}" if version else ""
        header, body = _encode(inputs)
        response = self._wire.send(
            "POST",
            f"/v2/models/{segment(endpoint)}{version_path}/infer",
            content=body,
            headers={
                "content-type": "application/octet-stream",
                HEADER_LENGTH: str(header),
                "x-request-timeout-ms": str(max(1, int(timeout_seconds * 1000))),
                **({"idempotency-key": key} if key else {}),
            },
            timeout_seconds=timeout_seconds + GRACE_SECONDS,
        )
        return _decode(endpoint, response)

    def close(self) -> None:
        """Do nothing: the connections are the client's."""


def _encode(inputs: Mapping[str, Array]) -> tuple[int, bytes]:
    """Return the length of the JSON head, and head and raw tensors together."""
    described, parts = [], []
    for name, array in inputs.items():
        raw = encode_raw(array)
        tensor = {"name": name, "shape": array.shape, "datatype": datatype_of(array)}
        described.append({**tensor, "parameters": {"binary_data_size": len(raw)}})
        parts.append(raw)
    head = msgspec.json.encode({"inputs": described, "parameters": {"binary_data_output": True}})
    return len(head), b"".join([head, *parts])


def _decode(endpoint: str, response: httpx.Response) -> Prediction:
    headers, body = response.headers, memoryview(response.content)
    try:
        size = int(headers.get(HEADER_LENGTH, len(body)))
        outputs, at = {}, size
        for output in msgspec.json.decode(body[:size])["outputs"]:
            raw_size = output.get("parameters", {}).get("binary_data_size")
            end = at + (raw_size or 0)
            outputs[output["name"]] = _array(output, None if raw_size is None else body[at:end])
            at = end
        return Prediction(
            outputs,
            endpoint=endpoint,
            version=int(headers.get("mofang-version", 0)),
            revision=int(headers.get("mofang-revision", 0)),
            digest=headers.get("mofang-digest", ""),
            request_id=headers.get("x-request-id", ""),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Internal(f"{endpoint!r} answered what the protocol does not allow: {error!r}") from error


def _array(output: dict[str, Any], raw: memoryview | None) -> Array:
    if raw is not None:
        return decode_raw(output["name"], output["datatype"], output["shape"], raw)
    data = [item.encode() for item in output["data"]] if output["datatype"] == "BYTES" else output["data"]
    return np.array(data, dtype=NUMPY[output["datatype"]]).reshape(output["shape"])
