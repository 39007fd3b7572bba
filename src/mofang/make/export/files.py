"""Forms that are there already: the artifact as its engine loads it, and files as they were pushed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from mofang.base.engines.catalog import generator_names, load_engine
from mofang.make.convert.catalog import folder_writer
from mofang.make.export.source import Source, Written

_FOLDERS = "transformers"  # the engine of Hugging Face folders
_NATIVE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sklearn": ("scikit-learn", "skops"),
        "xgboost": ("xgboost-cpu",),
        "catboost": ("catboost",),
        "vowpalwabbit": ("vowpalwabbit",),
    }
)
"""Engines whose file is a model of their framework, and what reads it elsewhere."""


def onnx(source: Source, folder: Path) -> Written:
    """Write the graph that is served, with its preparation inside, and what lies beside it."""
    if source.engine not in ("onnx", "encoder"):
        raise source.refuse("onnx", f"it is served by {source.engine!r}, since ONNX was not proven to answer alike")
    _copy(source.folder, folder)
    if source.engine == "encoder":  # the graph alone: its tokenizer lies beside it
        engine = load_engine("onnx", source.folder)
        signature = engine.signature
        engine.close()
        return Written("onnx", signature, ("onnxruntime",), runs=False)
    takes_files = any(spec.datatype == "BYTES" for spec in source.version.artifact.signature.inputs)
    packages = ("onnxruntime", "pillow") if takes_files else ("onnxruntime",)
    return Written("onnx", source.version.artifact.signature, packages)


def gguf(source: Source, folder: Path) -> Written:
    """Write a language model's file: as it is, or made of its Hugging Face folder."""
    if source.engine not in generator_names():
        raise source.refuse("gguf", f"it is served by {source.engine!r}, and is no language model")
    about = "openvino", source.version.artifact.signature, ("openvino-genai",)
    if source.engine == _FOLDERS:
        return Written(*about, runs=False, proof=folder_writer()(source.folder, folder))
    if not list(source.folder.rglob("*.gguf")):
        raise source.refuse("gguf", "it was not pushed as one")
    _copy(source.folder, folder)
    return Written(*about, runs=False)


def huggingface(source: Source, folder: Path) -> Written:
    """Write the Hugging Face folder that is served."""
    if source.engine != _FOLDERS:
        raise source.refuse("huggingface", f"it is served by {source.engine!r}")
    _copy(source.folder, folder)
    return Written("", source.version.artifact.signature, ("transformers", "torch"), runs=False)


def native(source: Source, folder: Path) -> Written:
    """Write the file that the engine of its own framework loads."""
    if source.engine not in _NATIVE:
        raise source.refuse("native", f"it is served by {source.engine!r}")
    _copy(source.folder, folder)
    signature, packages = source.version.artifact.signature, _NATIVE[source.engine]
    return Written(source.engine, signature, packages, runs=source.version.lineage.source == "train")


def original(source: Source, folder: Path) -> Written:
    """Write the files as they were pushed."""
    if source.pushed is None:
        raise source.refuse("original", "it was not pushed in another format than it is served in")
    _copy(source.pushed, folder)
    return Written("", source.version.artifact.signature, (), runs=False)


def mindspore(source: Source, folder: Path) -> Written:
    """Write MindIR as it was pushed: nothing else becomes MindIR."""
    if source.was != "mindir":
        raise source.refuse("mindspore", "only what came as MindIR can leave as MindIR")
    return original(source, folder)


def _copy(found: Path, folder: Path) -> None:
    for path in sorted(path for path in found.rglob("*") if path.is_file()):
        target = folder / path.relative_to(found)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
