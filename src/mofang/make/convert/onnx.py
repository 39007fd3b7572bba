"""Look at an ONNX model somebody pushed: can it be served, and what goes in and out?

Called by the pipeline on a folder that holds ``model.onnx`` and, for large models, the files of its external data.
The folder is hostile until shown otherwise: paths inside the model are checked here, on the bare protobuf, before the
runtime follows any of them. It must not know where the folder came from or what becomes of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
import onnxruntime
from google.protobuf.message import DecodeError, Message

from mofang.base.domain.errors import InvalidModel
from mofang.base.domain.tensors import Datatype, Signature, TensorSpec

MODEL_FILE = "model.onnx"

_DATATYPES: dict[str, Datatype] = {
    "tensor(bool)": "BOOL", "tensor(string)": "BYTES",
    "tensor(uint8)": "UINT8", "tensor(uint16)": "UINT16", "tensor(uint32)": "UINT32", "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8", "tensor(int16)": "INT16", "tensor(int32)": "INT32", "tensor(int64)": "INT64",
    "tensor(float16)": "FP16", "tensor(float)": "FP32", "tensor(double)": "FP64",
}  # fmt: skip
_NOT_IN_LOCATIONS = ("\\", "\0", "_ORT_MEM_ADDR_")  # the last makes onnxruntime take the offset for an address
_SAVE_BESIDE = "save the model with its data beside it: `onnx.save(model, path, save_as_external_data=True)`"
_BEGINS_LIKE_ONNX = b"\x08"  # the tag of ir_version, which exporters write first


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an ONNX file says of itself. ``labels`` is empty if it is no classifier that names its classes."""

    signature: Signature
    labels: tuple[str, ...]


def inspect(folder: Path) -> Inspection:
    """Check ``folder/model.onnx`` and read its signature with true names, datatypes and open dimensions (-1).

    Raises InvalidModel with one sentence: no ONNX, damaged, external data missing, short or outside the folder, an
    operator or opset this runtime does not know, an input or output the protocol cannot carry.
    """
    model = parse(folder / MODEL_FILE)
    _check_external_data(model, folder)
    session = _open(folder / MODEL_FILE)
    declared = {value.name: value for value in (*model.graph.input, *model.graph.output)}
    signature = Signature(
        inputs=tuple(_spec("input", argument, declared) for argument in session.get_inputs()),
        outputs=tuple(_spec("output", argument, declared) for argument in session.get_outputs()),
    )
    return Inspection(signature, _labels(model.graph.node))


def parse(path: Path) -> Any:
    """Read the bare protobuf: nothing that it refers to is opened. Raises InvalidModel."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InvalidModel(f"the artifact has no file {MODEL_FILE!r}", hint="push one .onnx file") from None
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        if data.startswith(_BEGINS_LIKE_ONNX):
            raise InvalidModel(
                f"the model starts like ONNX, but is damaged or cut short ({len(data):,} bytes)",
                hint="copy or export it again and compare the sizes",
            ) from error
        raise _not_onnx() from error
    if not model.HasField("graph") or not model.graph.node:
        raise _not_onnx()
    if not model.opset_import:
        raise InvalidModel(
            "the model names no operator set: it is damaged or cut short", hint="copy or export it again"
        )
    return model


def _not_onnx() -> InvalidModel:
    return InvalidModel("the file is not an ONNX model", hint="export the model to ONNX, then push the .onnx file")


def rewrite(path: Path, change: Callable[[Any], None]) -> None:
    """Let ``change`` alter the model at ``path``, with all its weights, and write it back."""
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


# --- external data: nothing outside the folder is ever opened -----------------------------------------------------


def _check_external_data(model: Message, folder: Path) -> None:
    for tensor in _tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if len(entries) < len(tensor.external_data):  # readers differ in which of two entries they believe
            raise _bad_entry(tensor.name, "an entry twice")
        path = _inside(folder, entries.get("location", ""), tensor.name)
        offset = _count(entries.get("offset", "0"), "offset", tensor.name)
        length = _count(entries["length"], "length", tensor.name) if "length" in entries else _bytes_of(tensor)
        if offset + length > path.stat().st_size:
            raise InvalidModel(
                f"external data of {tensor.name!r} is cut short: {path.name!r} has {path.stat().st_size:,} bytes,"
                f" {offset + length:,} are needed",
                hint="copy or export the data file again",
            )


def _tensors(message: Message) -> Iterator[Any]:
    """Yield every tensor anywhere in the model: initialisers, attributes, subgraphs, functions, sparse values."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for child in value if isinstance(value, Sequence) else (value,):
            yield from _tensors(child)


def _inside(folder: Path, location: str, name: str) -> Path:
    parts = PurePosixPath(location).parts
    path = folder.joinpath(*parts)
    outside = location.startswith("/") or ".." in parts or any(part in location for part in _NOT_IN_LOCATIONS)
    links = not outside and any(folder.joinpath(*parts[: i + 1]).is_symlink() for i in range(len(parts)))
    if outside or links or not parts:
        raise InvalidModel(
            f"external data of {name!r} is at {location!r}, outside the model's folder",
            hint=_SAVE_BESIDE,
        )
    if not path.is_file():
        raise InvalidModel(
            f"external data of {name!r} is missing: there is no file {location!r}",
            hint="push the data file together with the model",
        )
    return path


def _count(text: str, what: str, name: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise _bad_entry(name, f"{what} {text!r}, which is no number of bytes")
    return int(text)


def _bad_entry(name: str, what: str) -> InvalidModel:
    return InvalidModel(f"external data of {name!r} has {what}", hint=_SAVE_BESIDE)


def _bytes_of(tensor: Any) -> int:
    try:
        item = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, ValueError, TypeError):
        raise _bad_entry(tensor.name, f"the unknown datatype {tensor.data_type}") from None
    if any(dim < 0 for dim in tensor.dims):
        raise _bad_entry(tensor.name, f"the impossible shape {list(tensor.dims)}")
    return int(math.prod(tensor.dims)) * int(item)


# --- what the runtime says ----------------------------------------------------------------------------------------


def _open(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # what goes wrong is raised; nothing is to be printed besides
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class of their own
        raise InvalidModel(
            f"onnxruntime {onnxruntime.__version__} cannot load the model: {_reason(str(error))}",
            hint="export it again with standard operators and opset 21, which every runtime in use reads",
        ) from error


def _reason(text: str) -> str:
    """Cut onnxruntime's message to what went wrong: no error number, no path, no C++ function."""
    opset = re.search(r"Opset (\d+) is under development.* domain (\S+) is till opset (\d+)", text)
    if opset:
        return f"it is of opset {opset[1]} of {opset[2]}, the newest known is {opset[3]}"
    text = re.sub(
        r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed:|/onnxruntime_src/.*?\) (?=[A-Z])", "", text
    )
    return text.partition("\n")[0].strip()[:300]


def _spec(kind: str, argument: Any, declared: dict[str, Any]) -> TensorSpec:
    datatype = _DATATYPES.get(argument.type)
    if datatype is None:
        raise InvalidModel(
            f"{kind} {argument.name!r} is {argument.type}, which the inference protocol cannot carry",
            hint="convert again with `options={'zipmap': False}`, so that probabilities are one tensor"
            if argument.type.startswith(("seq", "map"))
            else f"end the graph in a Cast of {argument.name!r} to float, and export again",
        )
    if not argument.shape and not declared[argument.name].type.tensor_type.HasField("shape"):
        raise InvalidModel(
            f"{kind} {argument.name!r} does not say how many dimensions it has",
            hint="declare its shape (open dimensions may be symbols), and export again",
        )
    dims = (dim if isinstance(dim, int) and dim >= 0 else -1 for dim in argument.shape)
    return TensorSpec(argument.name, datatype, tuple(dims))


def _labels(nodes: Sequence[Any]) -> tuple[str, ...]:
    """Return the class labels the graph's classifier names, if exactly one list of them is there."""
    found: set[tuple[str, ...]] = set()
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name in ("classlabels_strings", "classlabels_ints", "classlabels_int64s"):
                found.add((*(text.decode() for text in attribute.strings), *map(str, attribute.ints)))
    found.discard(())
    return found.pop() if len(found) == 1 else ()
