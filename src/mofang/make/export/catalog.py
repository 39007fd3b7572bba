"""Which module writes which form, imported only when one is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from mofang.base.domain.errors import ExtraMissing
from mofang.make.export.forms import FORMS, FormName
from mofang.make.export.source import Source, Written

Writer = Callable[[Source, Path], Written]
"""Writes a version into a folder; raises NoExport if it cannot take that form."""

_WRITERS = MappingProxyType(
    {
        "onnx": "files:onnx",
        "gguf": "files:gguf",
        "huggingface": "files:huggingface",
        "adapter": "adapter:adapter",
        "native": "files:native",
        "original": "files:original",
        "mindspore": "files:mindspore",
        "torch": "torch:program",
        "torchscript": "torch:script",
        "safetensors": "torch:weights",
        "keras": "networks:keras",
        "tensorflow": "networks:tensorflow",
    }
)


def writer(form: FormName) -> Writer:
    """Return what writes ``form``; raise ExtraMissing if its framework is not installed."""
    module, _, function = _WRITERS[form].partition(":")
    try:
        found: Writer = getattr(import_module(f"mofang.make.export.{module}"), function)
    except ModuleNotFoundError as error:
        extra = FORMS[form].needs.partition("`")[2].rstrip("`")
        raise ExtraMissing.of(f"an export as {FORMS[form].title}", error.name, extra) from error
    return found
