"""The forms a version can be taken out in: one table, which the export, refusals and the documentation share.

Data only: ``catalog.py`` names the module that writes each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

FormName = Literal[
    "onnx",
    "torch",
    "torchscript",
    "safetensors",
    "keras",
    "tensorflow",
    "mindspore",
    "gguf",
    "huggingface",
    "adapter",
    "native",
    "original",
]


@dataclass(frozen=True, slots=True)
class Form:
    """One form: what people call it, which versions can take it, and what writing it needs on the server."""

    name: FormName
    title: str
    of: str
    needs: str = ""


def _table(*forms: Form) -> Mapping[str, Form]:
    return MappingProxyType({each.name: each for each in forms})


FORMS: Mapping[str, Form] = _table(
    Form("onnx", "ONNX", "every version that is served as ONNX, its preparation inside"),
    Form("torch", "PyTorch (torch.export, .pt2)", "networks of PyTorch that were trained here", "extra `torch`"),
    Form("torchscript", "PyTorch (TorchScript)", "networks of PyTorch that were trained here", "extra `torch`"),
    Form("safetensors", "weights (safetensors)", "networks of PyTorch that were trained here", "extra `torch`"),
    Form("keras", "Keras (.keras)", "networks of Keras, trained here or pushed", "extra `keras`"),
    Form("tensorflow", "TensorFlow SavedModel", "networks of Keras, trained here or pushed", "toolchain `tensorflow`"),
    Form("mindspore", "MindSpore MindIR", "versions that were pushed as MindIR", ""),
    Form("gguf", "GGUF", "language models; of a Hugging Face folder if it is of a kind known here", ""),
    Form("huggingface", "Hugging Face folder (safetensors)", "language models served from one"),
    Form("adapter", "LoRA adapter (PEFT folder)", "language models that were fine-tuned here", "extra `transformers`"),
    Form("native", "the file its engine loads", "versions served by scikit-learn, XGBoost, CatBoost, Vowpal Wabbit"),
    Form("original", "the files as they were pushed", "versions that were pushed"),
)

assert tuple(FORMS) == get_args(FormName)
