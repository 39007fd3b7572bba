"""The parameter `priority`, as Triton's clients send it, over REST and gRPC."""

import json

import pytest

from mofang.base.domain.errors import InvalidRequest
from mofang.surface.protocols.grpc import codec as grpc_codec
from mofang.surface.protocols.oip.codec import parse_infer
from mofang.surface.wire import inference_pb2 as pb

TENSOR = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}


def rest(**parameters: object) -> int:
    asked, _ = parse_infer("m", "", {}, json.dumps({"inputs": [TENSOR], "parameters": parameters}).encode())
    return asked.priority


def test_lower_levels_go_first_and_none_is_the_usual() -> None:
    levels = [rest(priority=level) for level in range(1, 10)]
    assert levels == sorted(levels, reverse=True)
    assert rest() == rest(priority=0) == rest(priority=5) == 0


@pytest.mark.parametrize("level", [-1, 10, 1.5, True, "first"])
def test_what_is_no_level_is_refused(level: object) -> None:
    with pytest.raises(InvalidRequest, match="priority"):
        rest(priority=level)


def test_grpc_takes_it_as_any_integer() -> None:
    for field in ("int64_param", "uint64_param"):
        asked = pb.ModelInferRequest(model_name="m")
        setattr(asked.parameters["priority"], field, 1)
        assert grpc_codec.parse_infer(asked).priority == rest(priority=1)
    assert grpc_codec.parse_infer(pb.ModelInferRequest(model_name="m")).priority == 0
    for wrong in ({"string_param": "1"}, {}):
        with pytest.raises(InvalidRequest, match="priority"):
            grpc_codec.parse_infer(
                pb.ModelInferRequest(model_name="m", parameters={"priority": pb.InferParameter(**wrong)})
            )
