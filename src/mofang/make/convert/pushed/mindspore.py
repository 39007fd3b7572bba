"""MindSpore's MindIR to ONNX, by its own exporter. Runs on a bench in the toolchain of MindSpore, never in the server.

The exporter takes no open dimension. A model that has some is exported at two sizes of each; where the two graphs
differ is where a size was written down, and there it is opened again. The proof tells whether that was right.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mindspore
import numpy as np
from google.protobuf.message import DecodeError
from mindspore import nn
from mindspore.train.mind_ir_pb2 import ModelProto

from mofang.base.domain.errors import ConversionFailed, InvalidModel
from mofang.base.domain.tensors import NUMPY, Array, Datatype, TensorSpec
from mofang.base.domain.work import Progress
from mofang.make.convert.attempt import Attempt, onnx_or_native
from mofang.make.convert.bench import Made, Wishes
from mofang.make.convert.graph import sort_opsets
from mofang.make.convert.probes import tensor_trials
from mofang.make.convert.sizes.onnx import open_sizes, read

_SIZES = ((2, 8), (3, 13))  # of an open first dimension, and of all others
_DATATYPES: Mapping[int, Datatype] = {
    1: "FP32", 2: "UINT8", 3: "INT8", 4: "UINT16", 5: "INT16", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "FP16",
    11: "FP64", 12: "UINT32", 13: "UINT64", 17: "FP64",
}  # fmt: skip


def open_file(path: Path, target: Path, wishes: Wishes, progress: Progress) -> Made:
    """Open what ``mindspore.export(..., file_format="MINDIR")`` wrote into one file.

    Inputs keep their names; outputs have none in MindIR, and are called ``output``, or ``output_0`` and so on.
    """
    inputs, outputs = _signature(path)
    with tempfile.TemporaryDirectory() as scratch:
        copy = shutil.copyfile(path, Path(scratch) / "model.mindir")  # it is told there by its name
        model = _Whole(_graph(copy))

        def source(asked: Mapping[str, Array]) -> dict[str, Array]:
            found = model(*[mindspore.Tensor(asked[spec.name]) for spec in inputs])
            answers = found if isinstance(found, tuple | list) else (found,)
            return {name: each.asnumpy() for name, each in zip(outputs, answers, strict=True)}

        return onnx_or_native(
            Attempt(
                write=lambda folder: _to_onnx(copy, inputs, outputs, folder),
                source=source,
                trials=tensor_trials(inputs),
                keep=None,
                packages=("mindspore",),
            ),
            target,
            progress,
        )


class _Whole(nn.Cell):  # type: ignore[misc]
    """A graph in a cell of its own: the exporter knows no graph that came from a file."""

    def __init__(self, graph: Any) -> None:
        super().__init__()
        self.graph = nn.GraphCell(graph)

    def construct(self, *inputs: Any) -> Any:
        return self.graph(*inputs)


def _signature(path: Path) -> tuple[list[TensorSpec], list[str]]:
    described = ModelProto()
    try:
        described.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise InvalidModel("the MindIR file is damaged or cut short", hint="export it again") from error
    outputs = sum(len(each.attr_info.values) or 1 for each in described.graph.output)  # several are one tuple
    if not described.graph.input or not outputs:
        raise InvalidModel("the MindIR file has no inputs or no outputs", hint="export the whole network")
    names = ["output"] if outputs == 1 else [f"output_{index}" for index in range(outputs)]
    return [_spec(each) for each in described.graph.input], names


def _spec(value: Any) -> TensorSpec:
    name = str(value.name).rpartition(":")[2]  # what comes before is the function's, and numbered anew in every export
    tensors = list(value.tensor)
    datatype = _DATATYPES.get(tensors[0].data_type) if len(tensors) == 1 else None
    if datatype is None:
        raise InvalidModel(f"input {name!r} is no tensor that can be served", hint="take tensors of numbers alone")
    if any(size < -1 for size in tensors[0].dims):
        raise InvalidModel(f"input {name!r} is of unknown rank", hint="export it with the number of dimensions known")
    return TensorSpec(name, datatype, tuple(int(size) for size in tensors[0].dims))


def _graph(path: Path) -> Any:
    try:
        return mindspore.load(str(path))
    except Exception as error:  # MindSpore raises anything over a damaged file
        raise InvalidModel(
            f"MindSpore {mindspore.__version__} cannot read the model: {_first_line(error)}",
            hint="export it again, into one file and not encrypted",
        ) from error


def _to_onnx(path: Path, inputs: Sequence[TensorSpec], outputs: list[str], folder: Path) -> None:
    is_open = any(size < 0 for spec in inputs for size in spec.shape)
    exported = [_export(path, inputs, outputs, sizes) for sizes in (_SIZES if is_open else _SIZES[:1])]
    if is_open:
        open_sizes(exported[0], exported[1])
    sort_opsets(exported[0])
    (folder / "model.onnx").write_bytes(exported[0].SerializeToString(deterministic=True))


def _export(path: Path, inputs: Sequence[TensorSpec], outputs: list[str], sizes: tuple[int, int]) -> Any:
    """Return the model at certain sizes of its open dimensions, with the names of its signature."""
    first, others = sizes
    given = []
    for spec in inputs:
        shape = [(others if axis else first) if size < 0 else size for axis, size in enumerate(spec.shape)]
        given.append(mindspore.Tensor(np.zeros(shape, NUMPY[spec.datatype])))
    written = path.with_name(f"at-{first}.onnx")
    try:  # what was exported or asked once is compiled, and cannot be exported again: read it anew
        mindspore.export(_Whole(_graph(path)), *given, file_name=str(written), file_format="ONNX")
    except Exception as error:  # exporters raise anything
        raise ConversionFailed(
            f"MindSpore cannot export the model to ONNX: {_first_line(error)}",
            hint="its exporter knows no such operator; export it as ONNX by other means, and push that",
        ) from error
    return read(written, [spec.name for spec in inputs], outputs)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
