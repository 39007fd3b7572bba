"""Computes ONNX models with ONNX Runtime on the CPU. Loaded through the catalog, never imported by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from mofang.base.domain.errors import EngineFailed, EngineLoadFailed, InvalidSettings, TensorData
from mofang.base.domain.tensors import Array, Datatype, Signature, TensorSpec
from mofang.base.engines.base import Options

_DATATYPES: Mapping[str, Datatype] = {
    "tensor(bool)": "BOOL", "tensor(uint8)": "UINT8", "tensor(uint16)": "UINT16", "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64", "tensor(int8)": "INT8", "tensor(int16)": "INT16", "tensor(int32)": "INT32",
    "tensor(int64)": "INT64", "tensor(float16)": "FP16", "tensor(float)": "FP32", "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}  # fmt: skip
_IMAGE_KEY = "mofang.image"  # metadata of a graph: which input takes PNG or JPEG files; `prepare` writes it


class OnnxEngine:
    """``folder/model.onnx`` in an ONNX Runtime session.

    Options: ``threads``, how many threads compute one operator (default 1: requests run in parallel instead). One
    whose only input takes images is :class:`Exemplary`.
    """

    example: Callable[[], Mapping[str, Array]]  # of images only: what others take can be made up

    def __init__(self, folder: Path, options: Options) -> None:
        """Load the model. Raises EngineLoadFailed."""
        path = folder / "model.onnx"
        if not path.is_file():
            raise EngineLoadFailed(f"there is no 'model.onnx' in {str(folder)!r}")
        settings = _session_options(options)
        try:
            self._session = ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            raise EngineLoadFailed(f"ONNX Runtime cannot load the model: {_first_line(error)}") from error
        self.signature = Signature(
            tuple(_spec("input", each) for each in self._session.get_inputs()),
            tuple(_spec("output", each) for each in self._session.get_outputs()),
        )
        self._image = self._session.get_modelmeta().custom_metadata_map.get(_IMAGE_KEY, "")
        if self._image:
            self._take_images()
        self._run: Any = None  # the options of the runs from now on; none after an interruption
        self._outputs = [spec.name for spec in self.signature.outputs]
        self._text_inputs = [spec.name for spec in self.signature.inputs if spec.datatype == "BYTES"]
        if self._image:
            self._text_inputs.remove(self._image)
        self._text_outputs = [spec.name for spec in self.signature.outputs if spec.datatype == "BYTES"]

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs. Raises EngineFailed, or TensorData for text that is not UTF-8."""
        if self._text_inputs:
            inputs = {**inputs, **{name: _decoded(name, inputs[name]) for name in self._text_inputs}}
        if self._image:
            inputs = {**inputs, self._image: self._pixels(inputs[self._image])}
        try:
            answers = self._session.run(self._outputs, inputs, self._run or self._begin())
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            raise EngineFailed(f"ONNX Runtime cannot compute the input: {_first_line(error)}") from error
        outputs: dict[str, Array] = dict(zip(self._outputs, answers, strict=True))
        for name in self._text_outputs:
            outputs[name] = _encoded(outputs[name])
        return outputs

    def interrupt(self) -> None:
        """See :class:`Interruptible`. ONNX Runtime looks after every operator, and every round of a loop."""
        run, self._run = self._run, None
        if run is not None:
            run.terminate = True

    def close(self) -> None:
        """Let go of the session; its memory is freed with it."""
        del self._session

    def _take_images(self) -> None:
        """Show the input that takes pixels as one that takes PNG or JPEG files, which are decoded here."""
        try:
            from mofang.base.engines.pillow import pixels
        except ImportError as error:
            hint = "install it where the server runs: `pip install 'mofang[images]'`"
            raise EngineLoadFailed("a model of images needs the package 'pillow'", hint=hint) from error
        known = {spec.name: spec for spec in self.signature.inputs}
        if self._image not in known or len(known[self._image].shape) not in (3, 4):
            raise EngineLoadFailed(f"the graph has no input {self._image!r} of pixels, as its metadata say")
        height, width, *channels = known[self._image].shape[1:]
        self._decode = partial(pixels, size=(height, width), channels=sum(channels))
        if len(known) == 1:
            self.example = partial(_grey_picture, self._image)
        files = {self._image: TensorSpec(self._image, "BYTES", (-1,))}
        self.signature = replace(self.signature, inputs=tuple((known | files).values()))

    def _pixels(self, files: Array) -> Array:
        named = enumerate(files.tolist())
        return np.stack([self._decode(file, where=f"row {row} of input {self._image!r}") for row, file in named])

    def _begin(self) -> Any:
        """Return new options: those of a run that was interrupted are of no use to the next."""
        run = self._run = ort.RunOptions()
        run.log_severity_level = 4
        return run


def _grey_picture(name: str) -> Mapping[str, Array]:
    from mofang.base.engines.pillow import png

    return {name: np.array([png(np.full((8, 8), 128, np.uint8))], np.object_)}


def _session_options(options: Options) -> Any:
    unknown = set(options) - {"threads"}
    if unknown:
        raise InvalidSettings(f"engine 'onnx' has no option {min(unknown)!r}", hint="it knows: threads")
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = int(options.get("threads", 1))
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 4  # what goes wrong is raised, and told once
    # Spinning threads would take the cores from the gateway between two requests.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return settings


def _spec(kind: str, node: Any) -> TensorSpec:
    datatype = _DATATYPES.get(node.type)
    if datatype is None:
        raise EngineLoadFailed(
            f"{kind} {node.name!r} is a {node.type}, which cannot be sent over the wire",
            hint="export plain tensors; for scikit-learn classifiers turn zipmap off",
        )
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape)
    return TensorSpec(node.name, datatype, shape)


def _decoded(name: str, array: Array) -> Array:
    try:
        texts = [each.decode() if isinstance(each, bytes) else str(each) for each in array.flat]
    except UnicodeDecodeError as error:
        raise TensorData(f"input {name!r} holds text that is not UTF-8") from error
    return np.array(texts, dtype=np.object_).reshape(array.shape)


def _encoded(array: Array) -> Array:
    return np.array([str(each).encode() for each in array.flat], dtype=np.object_).reshape(array.shape)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
