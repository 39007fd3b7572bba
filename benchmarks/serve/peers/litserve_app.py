"""LitServe with one worker, as its documentation shows.

python litserve_app.py MODEL_FOLDER PORT
"""

from __future__ import annotations

import sys
from typing import Any

import litserve as ls
import numpy as np
import onnxruntime as ort


class Tiny(ls.LitAPI):
    def setup(self, device: str) -> None:
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        self._session = ort.InferenceSession(f"{sys.argv[1]}/model.onnx", settings, ["CPUExecutionProvider"])

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # a type here would be taken for a query
        return np.array(request["x"], np.float32)

    def predict(self, x: Any) -> Any:
        return self._session.run(None, {"x": x})[0]

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"y": output.tolist()}


if __name__ == "__main__":
    server = ls.LitServer(Tiny(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
