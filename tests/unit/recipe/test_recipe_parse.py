"""Recipes: what they may say, and how complaints are worded."""

import json
from pathlib import Path

import msgspec
import pytest

from mofang.base.domain.errors import InvalidGate, InvalidRecipe
from mofang.make.recipe import (
    ALGORITHMS,
    LogisticRegression,
    Mlp,
    Recipe,
    parse_recipe,
    recipe_digest,
    recipe_schema,
)

EXAMPLES = Path(__file__).parents[3] / "examples"
GOOD = """\
name = "digits"
[prepare]
source = [
  "idx:/data/fashion",  # a comment
  "sklearn:digits",
]
[train]
algorithm = "mlp"
epochs = 3
hidden = [64, 32]

[evaluate]
gate = "accuracy >= 0.8"
"""


def _complaint(text: str) -> InvalidRecipe:
    with pytest.raises(InvalidRecipe) as caught:
        parse_recipe(text, "digits.toml")
    return caught.value


def test_a_recipe_becomes_typed_sections_with_defaults() -> None:
    recipe = parse_recipe(GOOD, "digits.toml")
    assert recipe.train == Mlp(epochs=3, hidden=(64, 32))
    assert recipe.train.algorithm == "mlp"
    assert recipe.prepare.sources == ("idx:/data/fashion", "sklearn:digits")
    assert (recipe.convert.format, recipe.convert.tolerance, recipe.register.alias) == ("onnx", 1e-4, "")


def test_one_source_needs_no_list() -> None:
    recipe = parse_recipe("name='a'\nprepare.source='sklearn:iris'\ntrain.algorithm='logistic_regression'", "a.toml")
    assert recipe.prepare.sources == ("sklearn:iris",)
    assert recipe.train == LogisticRegression()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs", "epoch", "line 9: [train] has no key 'epoch'; did you mean 'epochs'?"),
        ("[train]", "[trian]", "line 7: a recipe has no section 'trian'; did you mean 'train'?"),
        ('"mlp"', '"mpl"', "line 8: [train] algorithm 'mpl' is unknown; did you mean 'mlp'?"),
        ("hidden", "trees", "line 10: [train] algorithm 'mlp' has no key 'trees'; 'random_forest' takes it"),
        ("= 3", "= 'x'", "line 9: [train] epochs must be an integer from 1 to 100000, got 'x'"),
        ("= 3", "= 0", "line 9: [train] epochs must be an integer from 1 to 100000, got 0"),
        ("= 3", "= 3.5", "line 9: [train] epochs must be an integer from 1 to 100000, got 3.5"),
        ("= 3", "= true", "line 9: [train] epochs must be an integer from 1 to 100000, got True"),
        ("64, 32", "0", "line 10: [train] hidden must be a list of 1 to 16, each an integer from 1 to 8192, got [0]"),
        ("epochs = 3", "alpha = nan", "line 9: [train] alpha must be a number from 0 to 10, got nan"),
        ("epochs = 3", "alpha = inf", "line 9: [train] alpha must be a number from 0 to 10, got inf"),
        ("= 3", "= ", "line 9, column 10: invalid value"),
        ('"mlp"', '"mlp"\nalgorithm = "mlp"', "line 9, column 18: cannot overwrite a value"),
        ("sklearn:digits", "sklearn:digts",
         "line 3: [prepare] source 'sklearn:digts': 'digts' is unknown; did you mean 'digits'?"),
        ("idx:/data", "ids:/data",
         "line 3: [prepare] source 'ids:/data/fashion': 'ids' is unknown; did you mean 'idx'?"),
        ("idx:/data", "idx:data", "line 3: [prepare] source 'idx:data/fashion' must name an absolute path"),
        ('"digits"', '"Big Digits"', "line 1: name: 'Big Digits' is no name for a model"),
        ('"digits"', "3", "line 1: name must be a text, got 3"),
        ('name = "digits"', "", "the recipe needs a name: name = 'digits'"),
        ("[evaluate]", "[[evaluate]]",
         "line 12: 'evaluate' must be a section: write [evaluate] in a line of its own"),
        ("[evaluate]", "[register]\nalias = 'A B'\n[evaluate]",
         "line 13: [register] alias: 'A B' is no name for a version"),
        ("[evaluate]", "[convert]\nformat = 'onxx'\n[evaluate]",
         "line 13: [convert] format must be 'onnx' or 'skops', got 'onxx'"),
    ],
)  # fmt: skip
def test_complaints_name_line_key_and_what_would_do(old: str, new: str, message: str) -> None:
    assert old in GOOD
    start = "digits.toml " if message.startswith("line") else "digits.toml: "
    assert _complaint(GOOD.replace(old, new, 1)).message == start + message


NETWORK = """\
name = "digits"
[prepare]
source = "sklearn:digits"
task = "classification"
[train]
algorithm = "resnet"
blocks = [2, 2]
decay = "cosine"
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("decay =", "decai =", "line 8: [train] has no key 'decai'; did you mean 'decay'?"),
        ('"cosine"', '"cosin"', "line 8: [train] decay must be 'cosine', 'none', 'plateau' or 'step', got 'cosin'"),
        ('"cosine"', '"cosine"\nloss = "mse"',
         "line 9: [train] loss 'mse' is for numbers; for classes there is 'cross_entropy'"),
        ('"cosine"', '"cosine"\nwarmup_epochs = 10',
         "line 9: [train] warmup_epochs must be below epochs (10), got 10"),
        ('"resnet"\nblocks = [2, 2]', '"transformer"\nwidth = 30',
         "line 7: [train] width must be a multiple of heads (4), got 30"),
        ("blocks", "hidden",
         "line 7: [train] algorithm 'resnet' has no key 'hidden'; 'mlp', 'dense', 'cnn', 'vgg' and 'head' takes it"),
    ],
)  # fmt: skip
def test_complaints_about_networks(old: str, new: str, message: str) -> None:
    assert old in NETWORK
    assert _complaint(NETWORK.replace(old, new, 1)).message == f"digits.toml {message}"


def test_all_algorithms_are_named_if_none_is_near() -> None:
    error = _complaint(GOOD.replace('"mlp"', '"svm"'))
    assert all(repr(name) in error.message for name in ALGORITHMS)


@pytest.mark.parametrize("section", ["prepare", "train"])
def test_missing_sections_and_keys_are_named(section: str) -> None:
    assert _complaint("name = 'a'\n" + ("[prepare]\n" if section == "train" else "")).message == (
        f"a recipe needs a section [{section}]"
    ).replace("a recipe", "digits.toml: the recipe")
    assert (
        _complaint("name='a'\n[prepare]\n[train]\nalgorithm='mlp'").message
        == "digits.toml line 2: [prepare] needs 'source'"
    )


def test_gates_are_read_by_who_knows_them() -> None:
    def refuse(gate: str) -> None:
        raise InvalidGate(f"{gate!r} names no metric")

    with pytest.raises(InvalidRecipe, match=r"line 13: \[evaluate\] gate: 'accuracy >= 0.8' names no metric") as caught:
        parse_recipe(GOOD, "digits.toml", check_gate=refuse)
    assert caught.value.hint == InvalidGate.hint


@pytest.mark.parametrize("text", ["a = " + "[" * 9_000, "\n" * 2_000, "a = 1\n" + "#" * 40_000, "\0", "a = 'x"])
def test_hostile_texts_are_refused_in_one_sentence(text: str) -> None:
    message = _complaint(text).message
    assert message.startswith("digits.toml")
    assert "\n" not in message


def test_the_digest_is_over_the_text() -> None:
    assert recipe_digest(GOOD) == recipe_digest(GOOD) != recipe_digest(GOOD + "\n")


def test_the_schema_knows_every_key_and_takes_what_the_parser_takes() -> None:
    schema = recipe_schema()
    assert set(schema["$defs"]["Mlp"]["properties"]) == {"algorithm", *Mlp.__struct_fields__}
    assert json.dumps(schema)
    recipe = parse_recipe(GOOD, "digits.toml")
    assert msgspec.convert(msgspec.to_builtins(recipe), Recipe) == recipe


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("digits*.toml")), ids=lambda path: path.name)
def test_examples_parse(path: Path) -> None:
    assert parse_recipe(path.read_text("utf-8"), path.name).name == "digits"


LORA = """\
name = "colours"
[prepare]
source = "jsonl:/data/colours.jsonl"
[train]
algorithm = "lora"
base = "smol@1"
"""


def test_a_language_model_is_given_prompts_and_completions() -> None:
    assert parse_recipe(LORA, "lora.toml").prepare.task == "generation"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("smol@1", "Smol 1", "line 6: [train] base must name a version, such as smol@1: "),
        ("jsonl:/data/colours.jsonl", "sklearn:iris",
         "line 3: [prepare] source 'sklearn:iris': a language model cannot learn from it"),
        ('"smol@1"', '"smol@1"\ntargets = ["query"]',
         "line 7: [train] targets must be a list of 1 to any number, each 'down_proj', "),
        ('"smol@1"', '"smol@1"\nranks = 8', "line 7: [train] has no key 'ranks'; did you mean 'rank'?"),
        ('"smol@1"', '"smol@1"\nwarmup_epochs = 9', "line 7: [train] warmup_epochs must be below epochs (3), got 9"),
        ("[train]", 'task = "regression"\n[train]',
         "line 6: [train] algorithm 'lora' is for 'generation', but [prepare] task is 'regression'"),
    ],
)  # fmt: skip
def test_complaints_of_fine_tuning(old: str, new: str, message: str) -> None:
    with pytest.raises(InvalidRecipe) as caught:
        parse_recipe(LORA.replace(old, new, 1), "lora.toml")
    assert caught.value.message.startswith(f"lora.toml {message}")
