"""Look at a language model somebody pushed: is its GGUF file whole, and can it be served?

Called by the pipeline on a folder. What is wrong with a header is found by :mod:`mofang.base.engines.gguf`, which the
engines ask too, before anything maps the file.
"""

from __future__ import annotations

from pathlib import Path

from mofang.base.domain.errors import InvalidModel
from mofang.base.domain.generation import TEXT_SIGNATURE
from mofang.base.domain.tensors import Signature
from mofang.base.engines.gguf import read_gguf


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
