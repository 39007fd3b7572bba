"""PyTriton: Triton's server with a Python function behind it, as its documentation shows.

python pytriton_app.py MODEL_FOLDER PORT
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import numpy as np
import onnxruntime as ort
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

settings = ort.SessionOptions()
settings.intra_op_num_threads = settings.inter_op_num_threads = 1
session = ort.InferenceSession(f"{sys.argv[1]}/model.onnx", settings, ["CPUExecutionProvider"])


@batch
def infer(x: Any) -> list[Any]:
    return session.run(None, {"x": x})  # type: ignore[no-any-return]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


if __name__ == "__main__":
    ports = TritonConfig(http_port=int(sys.argv[2]), grpc_port=free_port(), metrics_port=free_port())
    with Triton(config=ports) as triton:
        triton.bind(
            model_name="tiny",
            infer_func=infer,
            inputs=[Tensor(name="x", dtype=np.float32, shape=(64,))],
            outputs=[Tensor(name="y", dtype=np.float32, shape=(10,))],
            config=ModelConfig(max_batch_size=64),
        )
        triton.serve()
