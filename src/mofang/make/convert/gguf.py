"""Look at a language model somebody pushed: is its GGUF file whole, and can it be served?

Called by the pipeline on a folder. What is wrong with a header is found by :mod:`mofang.base.engines.gguf`, which the
engines ask too, before anything maps the file.
"""

from __future__ import annotations

import platform
from pathlib import Path

from mofang.base.domain.errors import InvalidModel
from mofang.base.domain.generation import TEXT_SIGNATURE
from mofang.base.domain.registry import Choice
from mofang.base.domain.tensors import Signature
from mofang.base.engines.gguf import read_gguf
from mofang.make.convert.trial import compare, machine

_KINDS = frozenset({"llama", "qwen2", "qwen3"})
_TYPES = frozenset({"F32", "F16", "Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q6_K"})
"""Architectures, and types of tensors, that OpenVINO GenAI reads from GGUF files."""
_PROCESSORS = frozenset({"x86_64", "AMD64"})


def engine_for(folder: Path, processor: str = "") -> tuple[str, str]:
    """Return the engine that the GGUF file in ``folder`` is usually computed with, and why. Raises InvalidModel.

    ``openvino``, usually the faster one with many streams, where it reads the file and is made for ``processor`` (left
    out: the one there is); else ``llamacpp``.
    """
    about = read_gguf(next(iter(sorted(folder.rglob("*.gguf")))))
    processor = processor or platform.machine()
    strange = sorted({tensor.type for tensor in about.tensors} - _TYPES)
    if about.architecture not in _KINDS:
        return "llamacpp", f"OpenVINO does not read {about.architecture!r} from GGUF files"
    if about.metadata.get(f"{about.architecture}.expert_count"):
        return "llamacpp", "OpenVINO does not read mixtures of experts from GGUF files"
    if strange:
        return "llamacpp", f"OpenVINO does not read tensors of type {', '.join(strange)}"
    if processor not in _PROCESSORS:
        return "llamacpp", f"the processor is {processor}"
    return "openvino", f"OpenVINO reads {about.architecture!r}, and is usually the faster one with many streams"


def choose_engine(folder: Path) -> Choice:
    """Return the engine for the GGUF file in ``folder``: measured, if both can read it. Raises InvalidModel."""
    engine, why = engine_for(folder)
    if engine != "openvino":
        return Choice(engine, why, machine())
    return compare(next(iter(sorted(folder.rglob("*.gguf")))), (engine, "llamacpp"), why)


def inspect(folder: Path) -> Signature:
    """Return the signature of the language model in ``folder``: one GGUF file, or OpenVINO IR. Raises InvalidModel."""
    files = sorted(folder.rglob("*.gguf"))
    if len(files) == 1:
        about = read_gguf(files[0])
        if not about.vocabulary:
            raise InvalidModel("the GGUF file has no tokenizer, so that nobody can speak with it")
    elif files or not (folder / "openvino_model.xml").is_file():
        raise InvalidModel(
            f"{len(files)} of the files end in .gguf, one must",
            hint="push one .gguf file, or the folder of an OpenVINO model with its tokenizer",
        )
    return TEXT_SIGNATURE
