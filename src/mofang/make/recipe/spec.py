"""What a recipe may say: every section, key, type and bound, as data.

The parser checks against these types, the JSON schema is made from them, and the stages receive them. Adding a key
here is all it takes for the recipe to know it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from msgspec import Meta, Struct

from mofang.make.recipe.algorithms import (
    CatBoost,
    DecisionTree,
    LightGBM,
    LinearRegression,
    LogisticRegression,
    Mlp,
    RandomForest,
    Train,
    VowpalWabbit,
    XGBoost,
)
from mofang.make.recipe.data import Prepare
from mofang.make.recipe.function import Function, Keras
from mofang.make.recipe.networks import Cnn, Dense, ResNet, Rnn, Transformer, Vgg
from mofang.make.recipe.search import Search
from mofang.make.recipe.tuning import Head, Lora

ALGORITHMS: Mapping[str, type[Train]] = MappingProxyType(
    {
        str(kind.__struct_config__.tag): kind
        for kind in (
            LogisticRegression, LinearRegression, Mlp, DecisionTree, RandomForest, XGBoost, LightGBM,
            CatBoost, VowpalWabbit, Dense, Cnn, Vgg, ResNet, Rnn, Transformer, Keras, Head, Lora, Function,
        )
    }
)  # fmt: skip


def algorithms(task: str) -> list[str]:
    """Name the algorithms that learn ``task``."""
    return [name for name, kind in ALGORITHMS.items() if task in kind.tasks]


class Convert(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[convert]: the artifact to make, and how close its answers must be to the source's."""

    input: Annotated[
        Literal["auto", "numbers", "image"],
        Meta(description="what the model takes; image: PNG or JPEG files; auto: files if it was made from files"),
    ] = "auto"
    format: Annotated[
        Literal["onnx", "skops"], Meta(description="onnx: portable and fast; skops: served by scikit-learn itself")
    ] = "onnx"
    tolerance: Annotated[
        float,
        Meta(
            gt=0,
            le=0.1,
            description="largest difference of a probability; of a number, in standard deviations of the answers",
        ),
    ] = 1e-4


class Evaluate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[evaluate]: what the model must reach on the held-out rows to be registered."""

    gate: Annotated[
        str,
        Meta(description="e.g. accuracy >= 0.85 and recall[3] >= 0.7 and not worse_than(champion); empty: no gate"),
    ] = ""
    slices: Annotated[tuple[str, ...], Meta(description="columns: the report tells how each of their values does")] = ()


class Register(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[register]: what happens to the version once it is registered."""

    alias: Annotated[str, Meta(description="moved to the new version, e.g. champion; empty: none")] = ""


class Recipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole recipe."""

    name: Annotated[str, Meta(description="the model to register the result under")]
    prepare: Prepare
    train: (
        LogisticRegression | LinearRegression | Mlp | DecisionTree | RandomForest | XGBoost | LightGBM
        | CatBoost | VowpalWabbit | Dense | Cnn | Vgg | ResNet | Rnn | Transformer | Keras | Head | Lora | Function
    )  # fmt: skip
    search: Search = Search()
    convert: Convert = Convert()
    evaluate: Evaluate = Evaluate()
    register: Register = Register()
