"""Ray Serve with one replica, as its documentation shows.

python ray_app.py MODEL_FOLDER PORT
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}

import numpy as np
import onnxruntime as ort
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=100)
class Tiny:
    def __init__(self, model: str) -> None:
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        self._session = ort.InferenceSession(model, settings, ["CPUExecutionProvider"])

    async def __call__(self, request: Request) -> dict[str, Any]:
        x = np.array((await request.json())["x"], np.float32)
        return {"y": self._session.run(None, {"x": x})[0].tolist()}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80 << 20)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
    serve.run(Tiny.bind(os.path.abspath(f"{sys.argv[1]}/model.onnx")), route_prefix="/predict")
    while True:
        time.sleep(60)
