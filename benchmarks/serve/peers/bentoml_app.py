"""BentoML with a service of one worker, as its documentation shows.

python bentoml_app.py MODEL_FOLDER PORT
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import bentoml
import numpy as np
import onnxruntime as ort


@bentoml.service(workers=1)
class Tiny:
    def __init__(self) -> None:
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        self._session = ort.InferenceSession(
            f"{os.environ['BENCH_MODEL']}/model.onnx", settings, ["CPUExecutionProvider"]
        )

    @bentoml.api
    def predict(self, x: list[list[float]]) -> list[list[float]]:
        (y,) = self._session.run(None, {"x": np.array(x, np.float32)})
        return y.tolist()


if __name__ == "__main__":
    from bentoml_cli.cli import cli

    os.environ |= {"BENCH_MODEL": str(Path(sys.argv[1]).absolute()), "BENTOML_DO_NOT_TRACK": "True"}
    os.chdir(Path(__file__).parent)
    cli(["serve", "bentoml_app:Tiny", "--host", "127.0.0.1", "--port", sys.argv[2]])
