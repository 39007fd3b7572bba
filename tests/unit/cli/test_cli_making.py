"""From a recipe or a file to a version, through the command line, the control API and the real pipeline."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from terminal import Site, Terminal

from graphs import classifier, save

RECIPE = """
name = "irises"

[prepare]
source = ["sklearn:iris"]

[train]
algorithm = "{algorithm}"
epochs = {epochs}
learning_rate = 0.01

[evaluate]
gate = "accuracy >= {gate}"
"""


def write_recipe(
    folder: Path,
    *,
    gate: float = 0.5,
    epochs: int = 5,
    name: str = "irises.toml",
    algorithm: str = "logistic_regression",
) -> str:
    (folder / name).write_text(RECIPE.format(gate=gate, epochs=epochs, algorithm=algorithm))
    return str(folder / name)


def test_a_recipe_becomes_a_version_and_its_run_tells_the_story(mofang: Terminal, tmp_path: Path) -> None:
    ran = mofang.good("train", write_recipe(tmp_path))
    assert ran.out.startswith("registered irises@1 after ")
    assert "next: mofang runs show run_" in ran.out
    assert "  train       20 %  epoch 1 of 5: loss" in ran.err
    assert "\x1b" not in ran.out + ran.err

    shown = mofang.good("runs", "show", "--confusion", str(tmp_path / "c.svg"), "--card", str(tmp_path / "c.md"))
    assert "run of recipe irises: succeeded, made irises@1" in shown.out
    assert "loss by epoch, 1 to 5" in shown.out
    assert "labels equal, largest difference" in shown.out
    assert "passed: accuracy >= 0.5" in shown.out
    assert "setosa" in shown.out
    assert "<- answered" in shown.out
    assert (tmp_path / "c.svg").read_text().startswith("<svg")
    assert "irises" in (tmp_path / "c.md").read_text()

    story = mofang.good("runs", "show", "--json").json
    assert story["report"]["passed"] is True
    assert len(story["curve"]) == 5
    listed = mofang.good("runs").out
    assert "irises@1" in listed
    assert mofang.good("datasets").out.splitlines()[1].startswith("iris")

    digest = mofang.good("datasets", "list", "--json").json["items"][0]["digest"]
    assert digest in mofang.good("datasets", "show", digest.removeprefix("sha256:")[:8]).out


def test_a_regression_shows_its_residuals_and_no_confusion_matrix(mofang: Terminal, tmp_path: Path) -> None:
    recipe = (
        'name = "years"\n[prepare]\nsource = "sklearn:diabetes"\n[train]\nalgorithm = "random_forest"\ntrees = 10\n'
    )
    (tmp_path / "years.toml").write_text(recipe + '[evaluate]\ngate = "rmse <= 70"\n')
    ran = mofang.good("train", str(tmp_path / "years.toml"))
    assert "passed: rmse <= 70 (rmse " in ran.out
    shown = mofang.good("runs", "show").out
    assert "90 of 90 values equal" in shown
    assert "r2 by epoch, 1 to 10" in shown
    assert "residuals, answer minus truth" in shown
    assert "median" in shown
    assert "<- answered" not in shown
    refused = mofang("runs", "show", "--confusion", str(tmp_path / "c.svg"))
    assert "there is no confusion matrix" in refused.err
    assert not (tmp_path / "c.svg").exists()


def test_train_answers_scripts_in_json(mofang: Terminal, tmp_path: Path) -> None:
    ran = mofang.good("train", write_recipe(tmp_path, epochs=4), "--json")
    assert {"job", "run", "model", "version", "digest", "created", "evaluation"} <= ran.json.keys()
    assert ran.err == ""


def test_a_gate_that_fails_ends_as_a_conflict_with_the_run_to_look_at(mofang: Terminal, tmp_path: Path) -> None:
    ran = mofang("train", write_recipe(tmp_path, gate=1.0, epochs=1))
    assert ran.code == 6
    assert "error[gate.failed]: " in ran.err
    assert "hint: nothing was registered; `mofang runs show run_" in ran.err
    shown = mofang.good("runs", "show")
    assert "failed" in shown.out.splitlines()[0]
    assert "failed: accuracy >= 1.0" in shown.out


def test_a_typo_in_a_recipe_is_named_before_anything_runs(mofang: Terminal, tmp_path: Path) -> None:
    (tmp_path / "typo.toml").write_text(RECIPE.format(gate=0.5, epochs=1, algorithm="mlp").replace("epochs", "epoch"))
    ran = mofang("train", str(tmp_path / "typo.toml"))
    assert ran.code == 2
    assert "error[recipe.invalid]: " in ran.err
    assert "epoch" in ran.err


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    weights = np.eye(4, 3, dtype=np.float32)
    return save(classifier(weights), tmp_path) / "model.onnx"


def test_a_pushed_file_is_a_version_once(mofang: Terminal, graph: Path) -> None:
    first = mofang.good("push", "plain", str(graph), "--json").json
    assert (first["model"], first["version"], first["created"]) == ("plain", 1, True)
    assert first["digest"].startswith("sha256:")
    again = mofang.good("push", "plain", str(graph))
    assert again.out.startswith("plain@1 is the same: nothing new was made")
    assert "features: [n, 4] FP32" in again.out
    assert "upload" in again.err


def test_a_file_that_is_no_model_is_refused(mofang: Terminal, tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_text("not a model")
    ran = mofang("push", "broken", str(tmp_path / "no.onnx"))
    assert ran.code == 2
    assert "error[model.format]: 'no.onnx' is no model: it is text that begins 'not a model'" in ran.err
    assert mofang("models", "show", "broken").code == 5


def test_versions_and_aliases(mofang: Terminal, graph: Path) -> None:
    mofang.good("push", "named", str(graph))
    assert mofang.good("promote", "named@1").out.startswith("named@champion is now named@1")
    shown = mofang.good("models", "show", "named").out
    assert "champion -> 1" in shown
    assert "features: [n, 4] FP32" in shown
    assert mofang.good("versions", "show", "named@champion", "--json").json["number"] == 1
    assert "model.onnx" in mofang.good("versions", "show", "named").out
    assert "champion" in mofang.good("versions", "list", "named").out
    assert mofang("promote", "named@9").code == 5
    digest = mofang.good("versions", "show", "named", "--json").json["digest"]
    assert "named@1" in mofang.good("versions", "find", digest).out
    begins = digest.removeprefix("sha256:")[:12]  # as usage shows it
    assert "named@1" in [
        f"{each['model']}@{each['number']}" for each in mofang.good("versions", "find", begins, "--json").json["items"]
    ]
    assert "nothing has this digest" in mofang.good("versions", "find", "0" * 12).out
    assert mofang("versions", "find", "../../etc").code == 2


def test_evaluate_holds_a_version_to_a_gate(mofang: Terminal, tmp_path: Path) -> None:
    mofang.good("train", write_recipe(tmp_path, epochs=6))
    good = mofang.good("evaluate", "irises", "--gate", "accuracy >= 0.1", "--confusion", str(tmp_path / "c.svg"))
    assert "passed: accuracy >= 0.1" in good.out
    assert (tmp_path / "c.svg").exists()
    bad = mofang("evaluate", "irises", "--gate", "accuracy > 1", "--json")
    assert bad.code == 6
    assert json.loads(bad.out)["passed"] is False
    assert json.loads(bad.err)["error"]["code"] == "gate.failed"
    assert mofang("evaluate", "irises", "--gate", "acuracy > 1").code == 2


def test_compress_shows_the_variant_beside_the_original(mofang: Terminal, tmp_path: Path) -> None:
    mofang.good("train", write_recipe(tmp_path, epochs=7, algorithm="mlp", gate=0.0))
    page = tmp_path / "front.html"
    wanted = ("--max-drop", "1", "--objective", "size", "--trials", "2", "--html", str(page))
    ran = mofang.good("compress", "irises", *wanted)
    assert re.search(r"registered (irises@\d+)\+int8-dynamic: \1 by int8 dynamic", ran.out)
    assert "1 rows, 1 thread" in ran.out
    assert "points on 30 rows" in ran.out
    assert re.search(r"runs best +\d replicas?(, \d threads? each), batches of \d+: [\d,]+ rows/s", ran.out)
    assert "many, all cores" in ran.out
    assert "many rows, all cores" in page.read_text()
    assert "runs best with" in page.read_text()
    assert "2: int8 static minmax" in ran.err
    assert "<svg" in page.read_text()
    shown = mofang.good("variants", "irises")
    assert "1 variants of irises@" in shown.out
    assert "candidates of the newest search (2)" in shown.out
    assert mofang.good("variants", "irises", "--json").json["registered"][0]["variant"] == "int8-dynamic"
    name = mofang.good("variants", "irises", "--json").json["version"] + "+int8-dynamic"
    assert "int8 dynamic" in mofang.good("versions", "show", name).out
    promoted = mofang("promote", name)
    assert promoted.code == 2
    assert "is a variant of one" in promoted.err
    refused = mofang("compress", "irises", "--max-size-mb", "0.000001", "--trials", "1")
    assert refused.code == 6
    assert "nothing was registered for irises@" in refused.err


def test_jobs_are_listed_shown_and_told(mofang: Terminal, tmp_path: Path) -> None:
    job = mofang.good("train", write_recipe(tmp_path, epochs=8), "--detach", "--json").json["job"]
    followed = mofang.good("jobs", "logs", job, "--follow")
    assert f"train job {job}: succeeded" in followed.out
    assert "register" in followed.err
    assert job in mofang.good("jobs", "--kind", "train").out
    told = mofang.good("jobs", "logs", job, "--json").json["items"]
    assert [event["seq"] for event in told] == sorted(event["seq"] for event in told)
    lines = mofang.good("jobs", "logs", job, "--follow", "--json").out.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [event["seq"] for event in told]
    assert "succeeded" in mofang.good("jobs", "show", job).out


def test_a_waiting_job_is_cancelled_and_an_ended_one_is_not(mofang: Terminal, tmp_path: Path, site: Site) -> None:
    job = mofang.good("train", write_recipe(tmp_path, name="waiting.toml"), "--detach", "--json").json["job"]
    assert mofang.good("jobs", "cancel", job).out == f"job {job} was cancelled\n"
    again = mofang("jobs", "cancel", job)
    assert again.code == 6
    assert "error[job.ended]" in again.err
    assert mofang("jobs", "logs", job, "--follow").code == 10


def test_a_version_is_exported_into_a_folder_of_its_own(mofang: Terminal, tmp_path: Path) -> None:
    made = mofang.good("train", write_recipe(tmp_path, epochs=3), "--json").json
    version, out = f"irises@{made['version']}", tmp_path / "out"
    ran = mofang.good("export", version, "--to", "onnx", "--output", str(out), "--licence", "MIT")
    assert ran.out.startswith(f"wrote {version} to {out}")
    assert "answered as the served model" in ran.out
    assert f"next: cd {out} && python predict.py example.json" in ran.out
    assert 'license: "MIT"' in (out / "README.md").read_text()
    again = mofang("export", version, "--output", str(out))
    assert again.code == 2
    assert "is not empty" in again.err
    refused = mofang("export", version, "--to", "torch", "--json")
    assert refused.code == 6
    assert "export.none" in refused.out + refused.err


def test_data_is_prepared_and_looked_at_before_anything_is_trained(mofang: Terminal, tmp_path: Path) -> None:
    rows = [f"{n % 7},{'yes' if n % 3 else 'no'},{'yes' if n % 3 else 'no'}" for n in range(300)]
    (tmp_path / "told.csv").write_text("day,answer,target\n" + "\n".join(rows) + "\n")
    recipe = f'name = "told"\n[prepare]\nsource = "csv:{tmp_path}/told.csv"\n[train]\nalgorithm = "decision_tree"\n'
    (tmp_path / "told.toml").write_text(recipe)
    made = mofang.good("prepare", "run", str(tmp_path / "told.toml"), "--json").json
    assert made["rows"]["train"] + made["rows"]["test"] == 300
    page = tmp_path / "sheet.html"
    shown = mofang.good("prepare", "show", made["dataset"], "--html", str(page)).out
    assert "'answer' alone tells 100.0% of the target" in shown
    assert "held-out rows are also trained on" in shown
    text = page.read_text()
    assert "<polyline" in text
    assert "<script" not in text
    sheet = mofang.good("prepare", "show", made["dataset"], "--json").json
    assert {warning["kind"] for warning in sheet["warnings"]} >= {"leakage", "duplicates"}
    assert [column["name"] for column in sheet["columns"]] == ["day", "answer"]
