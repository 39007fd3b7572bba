"""MLServer with a runtime of one's own, as its documentation shows; requests are computed in the server's process.

python mlserver_app.py MODEL_FOLDER PORT
"""

from __future__ import annotations

import json
import socket
import sys
import tempfile
from pathlib import Path

import onnxruntime as ort
from mlserver import MLModel
from mlserver.cli.main import main
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Tiny(MLModel):
    async def load(self) -> bool:
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        self._session = ort.InferenceSession(self.settings.parameters.uri, settings, ["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        x = NumpyCodec.decode_input(payload.inputs[0])
        (y,) = self._session.run(None, {"x": x})
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", y)])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


if __name__ == "__main__":
    model, port = Path(sys.argv[1]).absolute() / "model.onnx", int(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        ports = {"http_port": port, "grpc_port": _free_port(), "metrics_port": _free_port()}
        server = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False, **ports}
        Path(folder, "settings.json").write_text(json.dumps(server))
        about = {"name": "tiny", "implementation": "mlserver_app.Tiny", "parameters": {"uri": str(model)}}
        Path(folder, "model-settings.json").write_text(json.dumps(about))
        sys.path.insert(0, str(Path(__file__).parent))
        sys.argv = ["mlserver", "start", folder]
        main()
