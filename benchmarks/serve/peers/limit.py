"""What ONNX Runtime alone does in one thread: calls of BATCH rows for SECONDS, then the rows a second.

python limit.py MODEL_FOLDER BATCH SECONDS
"""

from __future__ import annotations

import sys
import time

import numpy as np
import onnxruntime as ort

settings = ort.SessionOptions()
settings.intra_op_num_threads = settings.inter_op_num_threads = 1
session = ort.InferenceSession(f"{sys.argv[1]}/model.onnx", settings, providers=["CPUExecutionProvider"])
rows, seconds = int(sys.argv[2]), float(sys.argv[3])
inputs = {"x": np.repeat(np.load(f"{sys.argv[1]}/row.npy"), rows, axis=0)}
names = [each.name for each in session.get_outputs()]
calls, began = 0, time.perf_counter()
while time.perf_counter() - began < seconds:
    session.run(names, inputs)
    calls += 1
print(calls * rows / (time.perf_counter() - began))
