"""Inference: ask an endpoint, over REST or gRPC, with arrays in and arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Literal

import numpy as np

from mofang.base.domain.errors import InvalidRequest, NotFound, Unavailable
from mofang.base.domain.tensors import Array
from mofang.surface.sdk.prediction import Channel, Prediction
from mofang.surface.sdk.rest import RestChannel
from mofang.surface.sdk.transport import Transport, decode, segment


class Serve:
    """``client.serve``."""

    def __init__(self, wire: Transport, grpc_address: str) -> None:
        self._wire = wire
        self._grpc_address = grpc_address
        self._channels: dict[str, Channel] = {"rest": RestChannel(wire)}

    def predict(
        self,
        endpoint: str,
        inputs: Mapping[str, Array],
        *,
        protocol: Literal["rest", "grpc"] = "rest",
        version: str = "",
        timeout_seconds: float = 30.0,
        idempotency_key: str = "",
    ) -> Prediction:
        """Send ``inputs`` (by name) to ``endpoint`` and return its answer.

        ``version`` insists on a version number. Of requests with the same ``idempotency_key`` one is computed and
        charged, and all get its answer; the key is yours to make, new for every new request.

        Raises EndpointNotFound, TensorName, TensorDatatype, TensorShape, Overloaded, DeadlineExceeded, KeyReused and
        the other errors of serving.
        """
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
        channel = self._channel(protocol)
        return channel.predict(endpoint, arrays, version=version, timeout_seconds=timeout_seconds, key=idempotency_key)

    def metadata(self, endpoint: str) -> dict[str, Any]:
        """Return the endpoint's inputs and outputs as the Open Inference Protocol describes them."""
        return decode(self._wire.send("GET", f"/v2/models/{segment(endpoint)}"), dict[str, Any])

    def is_ready(self, endpoint: str) -> bool:
        """Tell whether an endpoint answers now."""
        try:
            return self._wire.send("GET", f"/v2/models/{segment(endpoint)}/ready").is_success
        except (NotFound, Unavailable):
            return False

    def close(self) -> None:
        """Close what predictions opened."""
        for channel in self._channels.values():
            channel.close()

    def _channel(self, protocol: str) -> Channel:
        """Return the channel of ``protocol``; gRPC's is made when it is first asked for, since it is heavy."""
        if protocol not in self._channels:
            if protocol != "grpc":
                raise InvalidRequest(f"{protocol!r} is no protocol for predictions", hint="use 'rest' or 'grpc'")
            grpc = import_module("mofang.surface.sdk.grpc")
            self._channels["grpc"] = grpc.GrpcChannel(self._grpc_address, self._wire.key)
        return self._channels[protocol]
