"""The recipe: one TOML file that says how a model is made, validated as a whole before any data is touched.

The stages of ``make`` read their own section of it; the pipeline, the control API and the command parse it. It must
not know how any stage does its work.
"""

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
from mofang.make.recipe.data import Augment, Clean, Encode, Normalise, Prepare, Splitting, Task
from mofang.make.recipe.function import Function, Keras
from mofang.make.recipe.networks import Cnn, Dense, Descent, Network, ResNet, Rnn, Transformer, Vgg
from mofang.make.recipe.parse import parse_recipe, recipe_digest, recipe_schema
from mofang.make.recipe.search import Search
from mofang.make.recipe.spec import ALGORITHMS, Convert, Evaluate, Recipe, Register, algorithms
from mofang.make.recipe.tuning import Head, Lora

__all__ = [
    "ALGORITHMS",
    "Augment",
    "CatBoost",
    "Clean",
    "Cnn",
    "Convert",
    "DecisionTree",
    "Dense",
    "Descent",
    "Encode",
    "Evaluate",
    "Function",
    "Head",
    "Keras",
    "LightGBM",
    "LinearRegression",
    "LogisticRegression",
    "Lora",
    "Mlp",
    "Network",
    "Normalise",
    "Prepare",
    "RandomForest",
    "Recipe",
    "Register",
    "ResNet",
    "Rnn",
    "Search",
    "Splitting",
    "Task",
    "Train",
    "Transformer",
    "Vgg",
    "VowpalWabbit",
    "XGBoost",
    "algorithms",
    "parse_recipe",
    "recipe_digest",
    "recipe_schema",
]
