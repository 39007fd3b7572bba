"""Which module converts the models of which framework, imported only when one is there to convert."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mofang.base.domain.errors import ExtraMissing
from mofang.base.domain.work import Progress
from mofang.make.convert.bench import Made, Wishes
from mofang.make.convert.formats import FORMATS, FormatName
from mofang.make.convert.graph import Reference, ToOnnx

Opener = Callable[[Path, Path, Wishes, Progress], Made]
"""Opens a pushed file or folder, writes an artifact into the second folder, and proves that it answers alike."""

_OPENERS = MappingProxyType(
    {
        "skops": "sklearn:open_skops",
        "pickle": "sklearn:open_pickle",
        "xgboost": "xgboost:open_file",
        "lightgbm": "lightgbm:open_file",
        "catboost": "catboost:open_file",
        "vowpalwabbit": "pushed.vowpalwabbit:open_file",
        "torch.export": "pushed.torch:open_export",
        "torchscript": "pushed.torch:open_script",
        "torch.state": "pushed.torch:open_state",
        "safetensors": "pushed.torch:open_safetensors",
        "keras": "keras:open_keras",
        "keras.h5": "keras:open_h5",
        "savedmodel": "pushed.tensorflow:open_folder",
        "mindir": "pushed.mindspore:open_file",
        "huggingface": "pushed.transformers.torch:open_folder",
    }
)


def converter(framework: str) -> tuple[ToOnnx, Reference]:
    """Return what writes a model of ``framework`` as ONNX, and what asks the model itself."""
    match framework:
        case "function":
            from mofang.make.convert.layers import onnx as layers

            return layers.to_onnx, layers.reference
        case "torch":
            from mofang.make.convert import torch

            return torch.to_onnx, torch.reference
        case "catboost":
            from mofang.make.convert import catboost

            return _each_label(catboost.to_onnx, catboost.source)
        case "vowpalwabbit":
            from mofang.make.convert import vowpalwabbit

            return vowpalwabbit.to_onnx, vowpalwabbit.reference
        case "keras":
            from mofang.make.convert import keras

            return keras.to_onnx, keras.reference
        case "xgboost":
            from mofang.make.convert import xgboost

            return _each_label(xgboost.to_onnx, xgboost.reference)
        case "lightgbm":
            from mofang.make.convert import lightgbm

            return _each_label(lightgbm.to_onnx, lightgbm.reference)
        case _:
            from mofang.make.convert import sklearn

            return sklearn.to_onnx, sklearn.reference


def _each_label(to_onnx: ToOnnx, reference: Reference) -> tuple[ToOnnx, Reference]:
    from mofang.make.convert.labels.onnx import each_label

    return each_label(to_onnx, reference)


def language_writer() -> Callable[[Any, Path, Path], None]:
    """Return what writes a language model of PyTorch as GGUF; raise ExtraMissing if that is not installed."""
    try:
        from mofang.make.convert.language.gguf import write
    except ModuleNotFoundError as error:
        raise ExtraMissing.of("a language model as GGUF", error.name, "transformers") from error
    return write


def folder_writer() -> Callable[[Path, Path], str]:
    """Return what writes a Hugging Face folder as GGUF; raise ExtraMissing if that is not installed."""
    try:
        from mofang.make.convert.pushed.transformers.gguf import from_folder
    except ModuleNotFoundError as error:
        raise ExtraMissing.of("a language model as GGUF", error.name, "transformers") from error
    return from_folder


def opener(name: FormatName) -> Opener:
    """Return what opens pushed files of a format; raise ExtraMissing if its framework is not installed."""
    module, _, function = _OPENERS[name].partition(":")
    try:
        found: Opener = getattr(import_module(f"mofang.make.convert.{module}"), function)
    except ModuleNotFoundError as error:
        extra = FORMATS[name].needs.partition("`")[2].rstrip("`")
        raise ExtraMissing.of(f"a model of {FORMATS[name].title}", error.name, extra) from error
    return found
