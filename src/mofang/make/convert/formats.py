"""The formats of models that can be pushed: one table, which recognition, refusals and the documentation share.

Data only: ``recognise.py`` tells which of them a file is, ``catalog.py`` which module opens it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

FormatName = Literal[
    "onnx",
    "gguf",
    "skops",
    "pickle",
    "xgboost",
    "lightgbm",
    "catboost",
    "vowpalwabbit",
    "torch.export",
    "torchscript",
    "torch.state",
    "safetensors",
    "keras",
    "keras.h5",
    "savedmodel",
    "mindir",
    "huggingface",
    "lora",
    "mlflow",
]


@dataclass(frozen=True, slots=True)
class Format:
    """One format: what people call it, what in its bytes tells it, and what opening it needs."""

    name: FormatName
    title: str
    told_by: str
    needs: str = ""  # an extra of the package, a toolchain, or what to do where there is no conversion
    toolchain: str = ""


def _table(*formats: Format) -> Mapping[str, Format]:
    return MappingProxyType({each.name: each for each in formats})


FORMATS: Mapping[str, Format] = _table(
    Format("onnx", "ONNX", "a protobuf with operator sets and a graph"),
    Format("gguf", "GGUF", "the letters GGUF, then counts that fit the file", "extra `generative`"),
    Format("skops", "scikit-learn (skops)", "a zip with `schema.json`"),
    Format("pickle", "scikit-learn (pickle, joblib)", "the opcodes of a pickle, also compressed"),
    Format("xgboost", "XGBoost (JSON, UBJSON)", "an object that begins with `learner`", "extra `boosting`"),
    Format("lightgbm", "LightGBM (text)", "a first line `tree`, then `version=`", "extra `boosting`"),
    Format("catboost", "CatBoost (cbm)", "the letters CBM1", "extra `catboost`"),
    Format("vowpalwabbit", "Vowpal Wabbit", "a version's number with its length", "extra `vowpalwabbit`"),
    Format("torch.export", "PyTorch (torch.export, .pt2)", "a zip with an exported program", "extra `torch`"),
    Format("torchscript", "PyTorch (TorchScript)", "a zip with `code/` and `constants.pkl`", "extra `torch`"),
    Format("torch.state", "PyTorch (state dict)", "a zip with `data.pkl` and no code", "extra `torch`"),
    Format("safetensors", "PyTorch (safetensors)", "a length, then JSON of tensors", "extra `torch`"),
    Format("keras", "Keras (.keras)", "a zip with `config.json` and `model.weights.h5`", "extra `keras`"),
    Format("keras.h5", "Keras (.h5)", "the signature of HDF5", "extra `keras`"),
    Format(
        "savedmodel",
        "TensorFlow SavedModel",
        "a folder with `saved_model.pb`",
        "toolchain `tensorflow`",
        toolchain="tensorflow",
    ),
    Format(
        "mindir",
        "MindSpore MindIR",
        "a protobuf whose version is text",
        "toolchain `mindspore`",
        toolchain="mindspore",
    ),
    Format(
        "huggingface", "Hugging Face folder", "`config.json` with a `model_type`, and weights", "extra `transformers`"
    ),
    Format("lora", "LoRA adapter (PEFT folder)", "`adapter_config.json` with a `peft_type`, and weights"),
    Format(
        "mlflow",
        "MLflow model folder",
        "`MLmodel` with flavors; then by the model inside",
        "what the model inside needs",
    ),
)

assert tuple(FORMATS) == get_args(FormatName)


def accepted() -> str:
    """Return what can be pushed, in one line for hints."""
    return "; ".join(each.title for each in FORMATS.values())
