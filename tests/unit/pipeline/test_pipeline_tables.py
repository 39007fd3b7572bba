"""From a table of mixed columns to a version that takes them as people write them."""

from pathlib import Path

import numpy as np
import pytest
from watched import Watched

from mofang.base.domain.errors import ConversionFailed
from mofang.base.domain.names import VersionRef
from mofang.make.pipeline import JOB_KINDS
from mofang.make.workshop import Workshop

RECIPE = """
name = "flights"
[prepare]
source = "csv:{path}"
{more}
[train]
algorithm = "{algorithm}"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Late are flights of one carrier in the evening, and those whose note says so."""
    random = np.random.default_rng(0)
    lines = ["distance,carrier,time,note,late"]
    for row in range(400):
        carrier, hour = ("UA", "AA", "B6")[int(random.integers(3))], int(random.integers(24))
        note = ("waiting for the crew, sorry about it", "nothing to say about this one", "all is well here today")[
            row % 3
        ]
        late = (carrier == "UA" and hour > 17) or row % 3 == 0
        distance = "" if row % 11 == 0 else f"{random.uniform(100, 3000):.0f}"
        shown = "NA" if row % 50 == 0 else carrier
        lines.append(
            f'{distance},{shown},2026-01-{row % 28 + 1:02} {hour:02}:30,"{note} {row}",{"yes" if late else "no"}'
        )
    (tmp_path / "flights.csv").write_text("\n".join(lines))
    return tmp_path / "flights.csv"


@pytest.mark.parametrize(
    ("algorithm", "more"),
    [
        ("lightgbm", 'clean = {missing = "keep"}'),
        ("xgboost", 'clean = {missing = "keep"}\nencode = {categories = "mean", text = "characters"}'),
        ("random_forest", 'clean = {missing = "fill"}'),
        ("mlp", 'clean = {missing = "fill"}\nnormalise = {method = "standard"}\nencode = {vocabulary = 50}'),
    ],
)
def test_a_table_is_served_column_by_column(
    tools: Workshop, progress: Watched, path: Path, algorithm: str, more: str
) -> None:
    recipe = RECIPE.format(path=path, algorithm=algorithm, more=more)
    JOB_KINDS["train"]({"recipe": recipe, "filename": "flights.toml"}, tools, progress)
    version = tools.registry.get(VersionRef.parse("flights@1"))
    (run,) = tools.runs.list()
    assert run.conversion["passed"] is True
    assert version.metrics["accuracy"] > 0.9
    assert [str(spec) for spec in version.artifact.signature.inputs] == [
        "distance: [n] FP32", "carrier: [n] BYTES", "time: [n] BYTES", "note: [n] BYTES",
    ]  # fmt: skip
    with tools.folder() as root, tools.engine("onnx", tools.registry.folder(version, root)) as engine:
        assert engine.signature == version.artifact.signature
        answer = engine.infer(
            {
                "distance": np.array([900, np.nan, 900], np.float32),
                "carrier": np.array([b"AA", b"AA", b"a new one"], np.object_),
                "time": np.array([b"2026-01-05T09:30", b"2026-01-05", b""], np.object_),
                "note": np.array(
                    [b"waiting for the crew, sorry about it 3", b"all is well here today", b""], np.object_
                ),
            }
        )
    assert answer["label"][:2].tolist() == [1, 0]
    again = JOB_KINDS["evaluate"]({"version": "flights@1", "dataset": "", "gate": ""}, tools, progress)
    assert tools.evaluations.get(again["evaluation"]).report.metrics == version.metrics


def test_skops_cannot_carry_columns_and_says_so(tools: Workshop, progress: Watched, path: Path) -> None:
    recipe = RECIPE.format(path=path, algorithm="random_forest", more="") + '[convert]\nformat = "skops"\n'
    with pytest.raises(ConversionFailed, match="'skops' cannot carry what the data needs"):
        JOB_KINDS["train"]({"recipe": recipe, "filename": "flights.toml"}, tools, progress)
