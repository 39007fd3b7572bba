"""Asks the model in this folder: `python predict.py example.json`, or several files, with a line of answer for each.

The request and the answer are JSON of the Open Inference Protocol. The packages it needs are in `requirements.txt`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from loader import load  # type: ignore[import-not-found]  # one of the files here, under that name

DTYPES = {
    "BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64", "INT8": "int8",
    "INT16": "int16", "INT32": "int32", "INT64": "int64", "FP16": "float16", "FP32": "float32", "FP64": "float64",
    "BYTES": "object",
}  # fmt: skip


def array(tensor: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Return a tensor of a request as an array; missing numbers are null."""
    data = [float("nan") if each is None else each for each in tensor["data"]]
    return np.array(data, DTYPES[tensor["datatype"]]).reshape(tensor["shape"])


def tensor(name: str, values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return an array as a tensor of an answer."""
    kind = "BYTES" if values.dtype.kind in "OUS" else next(n for n, t in DTYPES.items() if values.dtype == np.dtype(t))
    data = [each.decode() if isinstance(each, bytes) else each for each in values.ravel().tolist()]
    return {"name": name, "datatype": kind, "shape": list(values.shape), "data": data}


def main() -> None:
    """Answer the requests in the files that are named on the command line."""
    answer = load(Path(__file__).parent)
    for name in sys.argv[1:] or ["example.json"]:
        asked = json.loads(Path(name).read_text("utf-8"))["inputs"]
        answers = answer({each["name"]: array(each) for each in asked})
        print(json.dumps({"outputs": [tensor(name, values) for name, values in answers.items()]}), flush=True)


if __name__ == "__main__":
    main()
