"""Reports that look closer: rivals, slices, the worst answers, and what they look like."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from watched import Watched

from mofang.base.domain.errors import GateFailed, InvalidRecipe
from mofang.make.evaluate.page import report_html
from mofang.make.pipeline import JOB_KINDS
from mofang.make.workshop import Workshop

RECIPE = """
name = "digits"
[prepare]
source = "sklearn:digits"
[train]
algorithm = "{algorithm}"
{more}
[evaluate]
gate = "{gate}"
[register]
alias = "champion"
"""


def _train(tools: Workshop, progress: Watched, algorithm: str, more: str, gate: str) -> None:
    recipe = RECIPE.format(algorithm=algorithm, more=more, gate=gate)
    JOB_KINDS["train"]({"recipe": recipe, "filename": "digits.toml"}, tools, progress)


def _is_whole(page: str) -> bool:
    """Tell whether every element is closed in the order it was opened."""
    open_ones: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "img", "br"):
                open_ones.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_ones.pop() == tag

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            pass

    Parser().feed(page)
    return not open_ones


def test_a_version_that_is_worse_than_the_champion_is_not_registered(tools: Workshop, progress: Watched) -> None:
    gate = "accuracy >= 0.3 and latency_p99_ms <= 10000 and not worse_than(champion)"
    _train(tools, progress, "logistic_regression", "epochs = 20", gate)  # there is no champion yet
    with pytest.raises(GateFailed, match=r"worse than champion \(digits@1\): accuracy differs by -0\.\d+, p = "):
        _train(tools, progress, "decision_tree", "max_depth = 3", gate)
    report = tools.evaluations.list()[0].report
    assert [(each.rival, each.version, each.verdict) for each in report.comparisons] == [
        ("champion", "digits@1", "worse")
    ]
    assert report.mistakes[0].image
    assert report.latency is not None
    page = report_html("digits", "sha256:abc", report)
    assert _is_whole(page)
    for part in ("Gate failed", "Against other versions", "Where answers go", "ROC", "Calibration", "data:image/png"):
        assert part in page

    spec = {"version": "digits@1", "dataset": "", "gate": "", "against": "digits@1"}
    again = tools.evaluations.get(JOB_KINDS["evaluate"](spec, tools, progress)["evaluation"]).report
    assert again.comparisons[0].verdict == "equal"


def test_slices_tell_how_each_group_does(tools: Workshop, progress: Watched, tmp_path: Path) -> None:
    lines = [
        f"{row % 7},{'north' if row % 2 else 'south'},{row % 7 * (3 if row % 2 else -3) + row % 3 + 0.5}"
        for row in range(400)
    ]
    (tmp_path / "a.csv").write_text("hour,side,load\n" + "\n".join(lines))
    recipe = f"""
        name = "load"
        [prepare]
        source = "csv:{tmp_path}/a.csv"
        [train]
        algorithm = "random_forest"
        trees = 10
        [evaluate]
        slices = ["side", "hour"]
    """
    JOB_KINDS["train"]({"recipe": recipe, "filename": "load.toml"}, tools, progress)
    report = tools.evaluations.list()[0].report
    sides = [each for each in report.slices if each.column == "side"]
    assert {each.value for each in sides} == {"north", "south"}
    assert sum(each.rows for each in sides) == report.scores.rows
    assert all(each.metrics["rmse"] < 2 for each in report.slices)
    assert set(report.intervals) == {"rmse", "mae", "r2"}
    assert report.mistakes[0].values["side"] in ("north", "south")
    assert _is_whole(report_html("load@1", "sha256:abc", report))
    spec = {"version": "load@1", "dataset": "", "gate": "", "slices": ["wind"]}
    with pytest.raises(InvalidRecipe, match="slices names column 'wind'"):
        JOB_KINDS["evaluate"](spec, tools, progress)
