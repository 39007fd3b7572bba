"""Text from language models as a decoupled gRPC stream: one message asks, many answer, until one says it is the last.

The request is a ModelInferRequest with the input ``text_input`` (BYTES of one text) and the parameters of the generate
extension; answers have ``text_output``, and the parameter ``triton_final_response``, by which clients of Triton know
the last one (https://github.com/triton-inference-server/server/blob/main/docs/user_guide/decoupled_models.md).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import numpy as np

from mofang.base.domain.access import Principal
from mofang.base.domain.errors import InvalidParameter
from mofang.base.domain.generation import TEXT_SIGNATURE, Delta, Order
from mofang.run.serve.generate import Generation, Generator
from mofang.surface.protocols.grpc.codec import parse_infer
from mofang.surface.protocols.texts import Parameters, finish_reason
from mofang.surface.wire import inference_pb2 as pb
from mofang.surface.wire.raw import encode_raw

_INPUT, _OUTPUT = TEXT_SIGNATURE.inputs[0].name, TEXT_SIGNATURE.outputs[0].name
_IGNORED = frozenset({"triton_enable_empty_final_response"})  # the last answer says so in any case


class Texts:
    """Streams of text."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    async def tell(
        self, request: Any, principal: Principal, request_id: str, until: float
    ) -> AsyncGenerator[pb.ModelInferResponse, None]:
        """Yield answers as the text comes; the last when it is on record.

        Raises TensorName, TensorShape, InvalidParameter and what :meth:`Generator.begin` and the stream raise.
        """
        text, asked = _text(request), _parameters(request.parameters)
        order = Order(request_id, principal.tenant, until, asked.sampling, text=text)
        generation = self._generator.begin(
            request.model_name, [order], principal, input_bytes=request.ByteSize(), version=request.model_version
        )
        try:
            await generation.begun()
            async for pieces in generation:
                for _, delta in pieces:
                    if delta.finish:
                        await generation.settle()
                    if delta.text or delta.finish:
                        yield _answer(request, generation, delta)
        finally:
            generation.cancel()


def asks_text(request: Any) -> bool:
    """Tell whether a request looks like one for text: then its model is asked whether it is one for that."""
    return len(request.inputs) == 1 and request.inputs[0].name == _INPUT and request.inputs[0].datatype == "BYTES"


def _text(request: Any) -> str:
    [values] = parse_infer(request).inputs.values()
    if values.size != 1:
        raise InvalidParameter.of(_INPUT, f"one text is asked with a message, not {values.size}")
    value = values.reshape(-1)[0]
    try:
        return value if isinstance(value, str) else bytes(value).decode()
    except UnicodeDecodeError as error:
        raise InvalidParameter.of(_INPUT, f"byte {error.start} is not UTF-8") from None


def _parameters(given: Any) -> Parameters:
    said = {name: _value(value) for name, value in given.items() if name not in _IGNORED}
    if isinstance(stop := said.get("stop"), str):
        said["stop"] = [stop]
    try:
        return msgspec.convert(said, Parameters)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `")
        raise InvalidParameter.of(place.rstrip("`").removeprefix("$.") or "parameters", what[:300]) from None


def _value(parameter: Any) -> object:
    kind = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, kind) if kind else None


def _answer(request: Any, generation: Generation, delta: Delta) -> pb.ModelInferResponse:
    revision = generation.revision
    message = pb.ModelInferResponse(model_name=request.model_name, model_version=str(revision.version), id=request.id)
    tensor = message.outputs.add(name=_OUTPUT, datatype="BYTES", shape=[1])
    text = delta.text.encode("utf-8", "replace")
    if request.raw_input_contents:
        message.raw_output_contents.append(encode_raw(np.array([text], np.object_)))
    else:
        tensor.contents.bytes_contents.append(text)
    message.parameters["triton_final_response"].bool_param = bool(delta.finish)
    if delta.finish:
        message.parameters["finish_reason"].string_param = finish_reason(delta) or ""
        message.parameters["input_tokens"].int64_param = generation.tally.input_tokens
        message.parameters["output_tokens"].int64_param = generation.tally.output_tokens
    return message
