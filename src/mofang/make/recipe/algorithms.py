"""[train]: the algorithms that are no networks, and what every algorithm understands.

The parser checks against these types, the JSON schema is made from them, and the trainers receive them.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from mofang.make.recipe.data import Seed, Share, Task

Epochs = Annotated[int, Meta(ge=1, le=100_000, description="passes over the training rows")]
Rate = Annotated[float, Meta(gt=0, le=10, description="size of a step along the gradient")]
Depth = Annotated[int, Meta(ge=1, le=64, description="questions from the root to a leaf, at most")]
Leaf = Annotated[int, Meta(ge=1, le=1_000_000, description="rows a leaf has, at least")]
Decay = Annotated[float, Meta(ge=0, le=10, description="strength of the L2 penalty")]


class Train(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="algorithm"):
    """[train]: what every algorithm understands."""

    tasks: ClassVar[tuple[Task, ...]] = ("classification", "regression")
    framework: ClassVar[str] = "sklearn"
    runs_code: ClassVar[bool] = False
    """Whether the recipe brings Python code, which only whoever operates the server may send."""
    length: ClassVar[str] = ""
    """The key that says how long it trains: twice as much takes twice as long; empty: there is none."""

    validation_fraction: Annotated[
        Share, Meta(description="of the training rows, for the curve; chosen as [prepare.split] says")
    ] = 0.1
    seed: Seed = 0

    @property
    def algorithm(self) -> str:
        """The name of the algorithm, as in the recipe."""
        return str(type(self).__struct_config__.tag)

    @property
    def made_by(self) -> str:
        """The framework that trains this one."""
        return self.framework

    def complaint(self, task: str) -> tuple[str, str] | None:
        """Name a key whose value does not go with the others or with the ``task``, and say why; None if all is well."""
        return None


class LogisticRegression(Train, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="logistic_regression"):
    """A linear model of classes, trained by stochastic gradient descent on the log loss; of several labels one each."""

    tasks: ClassVar[tuple[Task, ...]] = ("classification", "multilabel")
    length: ClassVar[str] = "epochs"

    epochs: Epochs = 10
    learning_rate: Rate = 0.001
    alpha: Decay = 0.0001


class LinearRegression(Train, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="linear_regression"):
    """A linear model of a number, by least squares."""

    tasks: ClassVar[tuple[Task, ...]] = ("regression",)

    alpha: Decay = 0.0


class Mlp(Train, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="mlp"):
    """A multi-layer perceptron, trained by Adam on the log loss."""

    tasks: ClassVar[tuple[Task, ...]] = ("classification", "multilabel")
    length: ClassVar[str] = "epochs"

    epochs: Epochs = 10
    learning_rate: Rate = 0.001
    alpha: Decay = 0.0001
    batch_size: Annotated[int, Meta(ge=1, le=65_536, description="rows of one step")] = 200
    hidden: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=8_192)], ...],
        Meta(min_length=1, max_length=16, description="units of each hidden layer"),
    ] = (128,)


class DecisionTree(Train, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="decision_tree"):
    """One tree; of several labels one each."""

    tasks: ClassVar[tuple[Task, ...]] = ("classification", "regression", "multilabel")

    max_depth: Depth = 8
    min_samples_leaf: Leaf = 1


class RandomForest(Train, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="random_forest"):
    """Many trees, each on a sample of the rows; of several labels a forest each."""

    tasks: ClassVar[tuple[Task, ...]] = ("classification", "regression", "multilabel")
    length: ClassVar[str] = "trees"

    trees: Annotated[int, Meta(ge=1, le=5_000, description="trees that vote")] = 100
    max_depth: Depth = 16
    min_samples_leaf: Leaf = 1


Rounds = Annotated[int, Meta(ge=1, le=10_000, description="trees (of each class), each on the errors of those before")]
RowShare = Annotated[float, Meta(ge=0.05, le=1, description="of the rows, drawn anew for each tree")]
ColumnShare = Annotated[
    float, Meta(ge=0.05, le=1, description="of the columns, drawn anew for each tree; helps where they tell the same")
]
Patience = Annotated[
    int, Meta(ge=0, le=10_000, description="stop after so many rounds without a better validation loss, 0: never")
]


class XGBoost(Train, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="xgboost"):
    """Gradient boosting by XGBoost, trees grown level by level; of several labels a model each.

    Needs the extra `boosting`.
    """

    tasks: ClassVar[tuple[Task, ...]] = ("classification", "regression", "multilabel")
    framework: ClassVar[str] = "xgboost"
    length: ClassVar[str] = "rounds"

    rounds: Rounds = 100
    learning_rate: Rate = 0.1
    max_depth: Depth = 6
    l2: Decay = 1.0
    subsample: RowShare = 1.0
    colsample: ColumnShare = 1.0
    early_stopping: Patience = 20


class LightGBM(Train, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="lightgbm"):
    """Gradient boosting by LightGBM, trees grown leaf by leaf; of several labels a model each.

    Needs the extra `boosting`.
    """

    tasks: ClassVar[tuple[Task, ...]] = ("classification", "regression", "multilabel")
    framework: ClassVar[str] = "lightgbm"
    length: ClassVar[str] = "rounds"

    rounds: Rounds = 100
    learning_rate: Rate = 0.1
    leaves: Annotated[int, Meta(ge=2, le=4_096, description="leaves of a tree, at most")] = 31
    min_samples_leaf: Leaf = 20
    l2: Decay = 0.0
    subsample: RowShare = 1.0
    colsample: ColumnShare = 1.0
    early_stopping: Patience = 20


class CatBoost(Train, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="catboost"):
    """Gradient boosting by CatBoost, symmetric trees on ordered rows; of several labels a model each.

    Needs the extra `catboost`.
    """

    tasks: ClassVar[tuple[Task, ...]] = ("classification", "regression", "multilabel")
    framework: ClassVar[str] = "catboost"
    length: ClassVar[str] = "rounds"

    rounds: Rounds = 200
    learning_rate: Rate = 0.1
    max_depth: Annotated[int, Meta(ge=1, le=16, description="questions from the root to a leaf")] = 6
    l2: Decay = 3.0
    subsample: RowShare = 1.0
    colsample: ColumnShare = 1.0
    early_stopping: Patience = 20


class VowpalWabbit(Train, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="vowpal_wabbit"):
    """A linear model by Vowpal Wabbit, learned row by row from data of any size. Needs the extra `vowpalwabbit`."""

    framework: ClassVar[str] = "vowpalwabbit"
    length: ClassVar[str] = "epochs"

    epochs: Epochs = 5
    learning_rate: Rate = 0.5
    decay: Annotated[
        float, Meta(ge=0, le=1, description="of the learning rate: 0 leaves it as it is, 1 divides it by the rows")
    ] = 0.5
    l1: Annotated[float, Meta(ge=0, le=1, description="strength of the L1 penalty")] = 0.0
    l2: Annotated[float, Meta(ge=0, le=1, description="strength of the L2 penalty")] = 0.0
