"""Predictions over gRPC: ``inference.GRPCInferenceService`` with raw tensors. Loaded only when gRPC is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import grpc

from mofang.base.domain.errors import DeadlineExceeded, MofangError, ServerNotRunning
from mofang.base.domain.tensors import Array, datatype_of
from mofang.surface.sdk.prediction import Prediction
from mofang.surface.sdk.transport import rebuild
from mofang.surface.wire.raw import decode_raw, encode_raw

METHOD = "/inference.GRPCInferenceService/ModelInfer"
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class GrpcChannel:
    """One channel to the server's gRPC port."""

    def __init__(self, address: str, key: str) -> None:
        self._address = address
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self._messages: Any = import_module("mofang.surface.wire.inference_pb2")
        self._channel = grpc.insecure_channel(address, options=UNLIMITED)
        self._infer = self._channel.unary_unary(
            METHOD,
            request_serializer=self._messages.ModelInferRequest.SerializeToString,
            response_deserializer=self._messages.ModelInferResponse.FromString,
        )

    def predict(
        self, endpoint: str, inputs: Mapping[str, Array], *, version: str, timeout_seconds: float, key: str
    ) -> Prediction:
        """Ask ``endpoint`` and return its answer."""
        request = self._messages.ModelInferRequest(model_name=endpoint, model_version=version)
        for name, array in inputs.items():
            request.inputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
            request.raw_input_contents.append(encode_raw(array))
        try:
            metadata = (*self._metadata, *((("idempotency-key", key),) if key else ()))
            response, call = self._infer.with_call(request, timeout=timeout_seconds, metadata=metadata)
        except grpc.RpcError as error:
            raise _translate(error, endpoint, self._address) from error
        return _decode(endpoint, response, _texts(call.initial_metadata()) | _texts(call.trailing_metadata()))

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def _decode(endpoint: str, response: Any, metadata: Mapping[str, str]) -> Prediction:
    outputs = {
        output.name: decode_raw(output.name, output.datatype, output.shape, raw)
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }
    return Prediction(
        outputs,
        endpoint=endpoint,
        version=int(metadata.get("mofang-version", 0)),
        revision=int(metadata.get("mofang-revision", 0)),
        digest=metadata.get("mofang-digest", ""),
        request_id=metadata.get("x-request-id", ""),
    )


def _translate(error: Any, endpoint: str, address: str) -> MofangError:
    """Rebuild the error the trailing metadata names by its code; else tell what the status says.

    Metadata holds ASCII only, so the words are in the details: ``error[code]: message`` and a line with the hint.
    """
    metadata = _texts(error.trailing_metadata())
    if code := metadata.get("mofang-code"):
        retry = metadata.get("retry-after", "")
        seconds = int(retry) if retry.isdecimal() else None
        message, _, hint = error.details().removeprefix(f"error[{code}]: ").partition("\nhint: ")
        return rebuild(code, message, hint, retry_after_seconds=seconds)
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(f"{endpoint!r} at {address} did not answer in time")
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return ServerNotRunning(f"no gRPC server answers at {address}")
    return rebuild("internal", f"{endpoint!r} at {address}: {error.code().name}: {error.details()}")


def _texts(metadata: Any) -> dict[str, str]:
    return {key: value for key, value in metadata or () if isinstance(value, str)}
