"""The boosting example, by both libraries, from recipe to version."""

from pathlib import Path

import pytest
from watched import Watched

from mofang.base.domain.errors import InvalidRecipe
from mofang.make.pipeline import JOB_KINDS
from mofang.make.workshop import Workshop

EXAMPLE = (Path(__file__).parents[3] / "examples" / "boosting.toml").read_text("utf-8")


@pytest.mark.trains("xgboost", "lightgbm")
@pytest.mark.parametrize("algorithm", ["xgboost", "lightgbm"])
def test_the_example_passes_its_gate(tools: Workshop, algorithm: str) -> None:
    recipe = EXAMPLE.replace('algorithm = "xgboost"', f'algorithm = "{algorithm}"')
    result = JOB_KINDS["train"]({"recipe": recipe, "filename": "boosting.toml"}, tools, Watched())
    run = tools.runs.get(result["run"])
    assert (run.state, run.algorithm, run.conversion["missing"]) == ("succeeded", algorithm, "equal")
    assert algorithm in run.code
    assert "onnxmltools" in run.code


def test_scikit_learns_own_format_is_refused_before_anything_runs(tools: Workshop) -> None:
    recipe = EXAMPLE + '\n[convert]\nformat = "skops"\n'
    with pytest.raises(InvalidRecipe, match="'skops' is for models of scikit-learn"):
        JOB_KINDS["train"]({"recipe": recipe, "filename": "boosting.toml"}, tools, Watched())
