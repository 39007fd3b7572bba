"""PyTorch files to ONNX: exported programs, TorchScript, and bare weights for a network that a function builds."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mofang.base.domain.errors import ConversionFailed, InvalidModel
from mofang.base.domain.tensors import Array, Datatype, TensorSpec
from mofang.base.domain.work import Progress
from mofang.make.convert.attempt import Attempt, onnx_or_native
from mofang.make.convert.bench import Made, Wishes
from mofang.make.convert.graph import sort_opsets
from mofang.make.convert.probes import tensor_trials
from mofang.make.convert.torch import OPSET, export, forget_how, quiet

_DATATYPES: Mapping[torch.dtype, Datatype] = {
    torch.float32: "FP32", torch.float64: "FP64", torch.float16: "FP16", torch.int64: "INT64", torch.int32: "INT32",
    torch.int16: "INT16", torch.int8: "INT8", torch.uint8: "UINT8", torch.bool: "BOOL",
}  # fmt: skip
_PACKAGES = ("torch", "onnxscript")
_SCRIPT_OPSET = 17  # the newest that the exporter of TorchScript writes
_FAILURES = (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError, NotImplementedError)


def open_export(path: Path, target: Path, wishes: Wishes, progress: Progress) -> Made:
    """Open what ``torch.export.save`` wrote. Open dimensions are those that its maker left open."""
    with quiet():
        program = torch.export.load(io.BytesIO(path.read_bytes()))
        module = program.module()
    inputs = list(_inputs(program))
    names = _output_names(module(*(torch.zeros(_example(spec), dtype=_dtype(spec)) for spec in inputs)))

    def write(folder: Path) -> None:
        named = {"input_names": [spec.name for spec in inputs], "output_names": names}
        with quiet():
            exported = torch.onnx.export(
                program, dynamo=True, opset_version=OPSET, external_data=False, verbose=False, **named
            )
        assert exported is not None
        _save(exported.model_proto, folder)

    return _prove(write, module, inputs, names, target, progress)


def open_script(path: Path, target: Path, wishes: Wishes, progress: Progress) -> Made:
    """Open TorchScript of one input; its shape, which the file does not say, is in ``wishes``."""
    module = torch.jit.load(str(path), map_location="cpu").eval()
    arguments = [each for each in module.forward.schema.arguments if each.name != "self"]
    if len(arguments) != 1:
        raise InvalidModel(
            f"the TorchScript module takes {len(arguments)} arguments, one can be served",
            hint="push it as torch.export",
        )
    spec = _asked(arguments[0].name, wishes)
    names = _output_names(module(torch.zeros(_example(spec))))

    def write(folder: Path) -> None:
        axes = {name: {0: "n"} for name in (spec.name, *names)}
        with quiet():
            torch.onnx.export(
                module, (torch.zeros(_example(spec)),), str(folder / "model.onnx"), dynamo=False, dynamic_axes=axes,
                opset_version=_SCRIPT_OPSET, input_names=[spec.name], output_names=names,
            )  # fmt: skip

    return _prove(write, module, [spec], names, target, progress)


def open_state(path: Path, target: Path, wishes: Wishes, progress: Progress) -> Made:
    """Open a state dict, of which nothing but tensors is loaded, for the network ``wishes.architecture`` names."""
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a refused pickle, or a damaged one, raises anything
        first = str(error).strip().splitlines()[0][:200]
        raise InvalidModel(
            f"the file holds more than tensors, or is damaged: {first}",
            hint="save the weights alone: `torch.save(model.state_dict(), path)`, or push it as torch.export",
        ) from error
    return _open_weights(weights, target, wishes, progress)


def open_safetensors(path: Path, target: Path, wishes: Wishes, progress: Progress) -> Made:
    """Open weights in safetensors for the network ``wishes.architecture`` names."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise InvalidModel(f"the safetensors file is damaged: {error}", hint="copy or save it again") from error
    return _open_weights(weights, target, wishes, progress)


def _open_weights(weights: Any, target: Path, wishes: Wishes, progress: Progress) -> Made:
    module, spec = _network(wishes), _asked("input", wishes)
    try:
        module.load_state_dict(weights, strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        lines = " ".join(str(error).split())
        raise InvalidModel(
            f"the weights do not fit {wishes.architecture!r}: {lines[:300]}",
            hint="name the network they were saved from",
        ) from error
    module.eval()
    names = _output_names(module(torch.zeros(_example(spec))))

    def write(folder: Path) -> None:
        export(_Named(module, spec.name), {spec.name: torch.zeros(_example(spec))}, names, folder / "model.onnx")

    return _prove(write, module, [spec], names, target, progress)


class _Named(torch.nn.Module):  # type: ignore[misc]
    """A module of one argument, whatever that is called, which takes it by ``name``."""

    def __init__(self, module: torch.nn.Module, name: str) -> None:
        super().__init__()
        self.module = module
        self._name = name

    def forward(self, input: torch.Tensor) -> Any:
        return self.module(input)


def _network(wishes: Wishes) -> torch.nn.Module:
    """Return the network that ``MODULE:FUNCTION`` makes: of a package that is installed here, or of a pushed file."""
    architecture = wishes.architecture
    module, colon, name = architecture.partition(":")
    if not architecture:
        raise InvalidModel(
            "the file holds weights, and does not say of which network",
            hint="say it: `--architecture PACKAGE.MODULE:FUNCTION --input-shape 3,224,224`, or push it as torch.export",
        )
    try:
        found = _defined(module, wishes.code) if wishes.code else vars(import_module(module))
        made = found[name]() if colon else None
    except (ImportError, AttributeError, TypeError, KeyError, SyntaxError, NameError, ValueError) as error:
        told = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise InvalidModel(
            f"the network {architecture!r} cannot be made: {told}",
            hint="name a function without arguments of a package that is installed where the server runs, or of a file"
            " that is pushed along: `net.py:build`",
        ) from error
    if not isinstance(made, torch.nn.Module):
        raise InvalidModel(f"{architecture!r} makes no torch.nn.Module", hint="write PACKAGE.MODULE:FUNCTION")
    return made


def _defined(path: str, code: str) -> dict[str, Any]:
    """Run ``code``, which a stranger wrote: the bench is locked in."""
    module: dict[str, Any] = {"__name__": "network", "__file__": path}
    exec(compile(code, path, "exec", dont_inherit=True), module)  # noqa: S102
    return module


def _asked(name: str, wishes: Wishes) -> TensorSpec:
    if not wishes.input_shape:
        raise InvalidModel(
            "the file does not say what its input looks like",
            hint="say it without the batch: `--input-shape 3,224,224`",
        )
    return TensorSpec(name, "FP32", (-1, *wishes.input_shape))


def _inputs(program: Any) -> Iterator[TensorSpec]:
    """Yield what an exported program takes, in order; a dimension that is a symbol is open."""
    wanted = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        if node.op != "placeholder" or node.name not in wanted:
            continue
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor) or value.dtype not in _DATATYPES:
            raise InvalidModel(f"input {node.name!r} of the program is no tensor", hint="export it with tensors alone")
        dims = tuple(size if isinstance(size, int) else -1 for size in value.shape)
        yield TensorSpec(node.name, _DATATYPES[value.dtype], dims)


def _example(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(2 if size < 0 else size for size in spec.shape)


def _dtype(spec: TensorSpec) -> torch.dtype:
    return next(dtype for dtype, name in _DATATYPES.items() if name == spec.datatype)


def _flat(answer: Any) -> dict[str, torch.Tensor]:
    """Name the tensors of an answer: those of a dictionary by its keys, one alone ``output``, several by number."""
    if isinstance(answer, torch.Tensor):
        return {"output": answer}
    if isinstance(answer, Mapping):
        found = {str(name): each for name, each in answer.items()}
    elif isinstance(answer, Sequence):
        found = {f"output_{number}": each for number, each in enumerate(answer)}
    else:
        found = {}
    if not found or not all(isinstance(each, torch.Tensor) for each in found.values()):
        raise InvalidModel(
            "the model answers something else than tensors", hint="let it answer tensors, and export again"
        )
    return found


def _output_names(answer: Any) -> list[str]:
    return list(_flat(answer))


def _save(model: Any, folder: Path) -> None:
    forget_how(model)
    sort_opsets(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))


def _prove(
    write: Callable[[Path], None],
    module: Any,
    inputs: list[TensorSpec],
    names: list[str],
    target: Path,
    progress: Progress,
) -> Made:
    def source(asked: Mapping[str, Array]) -> dict[str, Array]:
        with torch.no_grad():
            answer = _flat(module(*(torch.from_numpy(np.ascontiguousarray(asked[spec.name])) for spec in inputs)))
        return {name: answer[name].detach().numpy() for name in names}

    def translated(folder: Path) -> None:
        try:
            write(folder)
        except _FAILURES as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ConversionFailed(f"the module cannot be exported to ONNX: {first[:300]}", hint="") from error

    return onnx_or_native(Attempt(translated, source, tensor_trials(inputs), None, _PACKAGES), target, progress)
