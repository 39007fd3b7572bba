"""`mofang train` and `mofang runs`: from a recipe to a registered version, and the story of how it went."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mofang.base.domain.errors import NotFound, RunNotFound
from mofang.base.domain.names import now_us
from mofang.surface.cli import chart, format, report, screen
from mofang.surface.cli.progress import follow_job
from mofang.surface.cli.session import Session, plain
from mofang.surface.cli.verbs import topic, verb

if TYPE_CHECKING:
    from mofang.base.domain.work import Job
    from mofang.surface.sdk.evaluate import Evaluation
    from mofang.surface.sdk.train import TrainingRun

RUN_JSON = (
    "id, job, recipe_name, recipe_digest, recipe, state, algorithm, dataset, curve (epoch, loss, accuracy, "
    "seconds), artifact, conversion (the parity proof), evaluation, version, seconds, code, error, created_at, ended_at"
)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@verb(
    "train",
    example="mofang train examples/digits.toml\nmofang train examples/digits.toml --quote",
    json="One object: job, run, model, version, digest, created, evaluation. With --detach only job. With --quote: "
    "job, seconds, memory_bytes, length, rows, parameters, model_bytes, dataset, calibration_seconds, cost, currency.",
)
@click.argument("recipe", type=FILE)
@click.option("--detach", is_flag=True, help="Return at once; the job goes on in the server.")
@click.option(
    "--quote", is_flag=True, help="Only say what it will take: seconds, memory, cost. Trains a little for it."
)
@click.pass_obj
def train(session: Session, recipe: Path, detach: bool, quote: bool) -> None:
    """Run a recipe: prepare data, train, convert with a parity proof, evaluate, hold to the gate, register."""
    if quote:
        _quote(session, recipe)
        return
    job = session.client.train.run(recipe)
    if detach:
        session.answer({"job": job.id}, lambda: _detached(job))
        return
    ended = follow_job(session, job.id)
    result = {"job": job.id, **ended.result}
    session.answer(result, lambda: _draw_result(session, ended))


def _quote(session: Session, recipe: Path) -> None:
    job = follow_job(session, session.client.train.quote(recipe).id)
    found = job.result
    cost, currency = _cost(session, float(found["seconds"]))
    session.answer(
        {"job": job.id, **found, "cost": cost, "currency": currency},
        lambda: _draw_quote(recipe, found, f"{cost} {currency}" if cost else "nothing: no price for compute_us"),
    )


def _cost(session: Session, seconds: float) -> tuple[str, str]:
    """Return what so many seconds cost at the price of computing (of any endpoint), and the currency."""
    from mofang.surface.sdk.bill import PriceScope  # httpx: not for `--help`

    try:
        book = session.client.bill.current_prices()
    except NotFound:
        return "", ""
    anywhere = PriceScope("*", "*", "*", "*", "compute_us")
    price = next((each for each in book.prices if each.scope == anywhere and each.currency == book.currency), None)
    if price is None:
        return "", ""
    micros = round(seconds * 1e6 * max(tier.micros for tier in price.tiers) / price.per)
    return f"{micros / 1e6:.6f}", book.currency


def _draw_quote(recipe: Path, found: Mapping[str, Any], cost: str) -> None:
    screen.heading(f"{recipe.name} takes about {format.duration(found['seconds'])} of training")
    screen.fields(
        [
            ("rows", format.count(found["rows"])),
            ("peak memory", format.size(found["memory_bytes"])),
            ("parameters", format.count(found["parameters"]) if found["parameters"] else ""),
            ("model", format.size(found["model_bytes"]) if found["model_bytes"] else ""),
            ("cost", cost),
            ("found out in", format.duration(found["calibration_seconds"])),
        ]
    )
    screen.then(f"mofang train {recipe}")


def _detached(job: Job) -> None:
    screen.heading(f"job {job.id} trains in the server")
    screen.then(f"mofang jobs logs {job.id} --follow", f"mofang jobs cancel {job.id}")


def _draw_result(session: Session, job: Job) -> None:
    run = session.client.train.get_run(job.result["run"])
    name = f"{job.result['model']}@{job.result['version']}"
    made = f"registered {name}" if job.result.get("created", True) else f"the same model as {name}: nothing new"
    screen.heading(f"{made} after {format.duration((job.ended_at - job.started_at) / 1e6)}")
    screen.fields([*_about(run), ("gate", _gate(session, run))])
    screen.then(f"mofang runs show {run.id}", f"mofang deploy {name}", f"mofang promote {name} champion")


def _gate(session: Session, run: TrainingRun) -> str:
    evaluation = session.client.evaluate.get_evaluation(run.evaluation)
    word = screen.state("passed" if evaluation.passed else "failed")
    return f"{word}: {evaluation.gate or 'none set'} ({report.headline(evaluation.metrics)})"


def _about(run: TrainingRun) -> list[tuple[str, object]]:
    epochs = f", {len(run.curve)} epochs" if run.curve else ""
    losses = [point["loss"] for point in run.curve if "loss" in point]
    return [
        ("run", run.id),
        ("algorithm", run.algorithm),
        ("data set", format.short_digest(run.dataset)),
        ("training", f"{format.duration(run.seconds)}{epochs}{_expected(run)}" if run.seconds else ""),
        ("loss", f"{chart.sparkline(losses)} {losses[0]:.3f} to {losses[-1]:.3f}" if len(losses) > 1 else ""),
        ("parity", _parity(run)),
        ("digest", run.artifact),
    ]


def _expected(run: TrainingRun) -> str:
    seconds = run.estimate.get("seconds")
    return f" (quoted: {format.duration(float(seconds))})" if seconds else ""


def _parity(run: TrainingRun) -> str:
    proof = run.conversion
    if not proof:
        return ""
    rows, equal = int(proof.get("rows", 0)), proof.get("labels_equal", 0)
    same = rows if equal is True else int(equal)
    sizes = ", ".join(str(size) for size in proof.get("batch_sizes", ()))
    word = "proved" if proof.get("passed") else "refused"
    return (
        f"{word}: {format.count(same)} of {format.count(rows)} {proof.get('compared', 'labels')} equal, "
        f"largest difference {float(proof.get('max_difference', 0.0)):.1e}, batches of {sizes}"
    )


runs = topic("runs", "Training runs: the recipe, the curve, the proof, the result.", usual="list")


@runs.verb("list", example="mofang runs list", json=f"{{items}}, each: {RUN_JSON}.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first.")
@click.pass_obj
def list_runs(session: Session, limit: int) -> None:
    """List training runs, newest first."""
    found = session.client.train.list_runs(limit=limit)
    now = now_us()
    rows = [
        (r.id, r.recipe_name, r.algorithm, r.state, r.version or "-", format.duration(r.seconds) if r.seconds else "-",
         format.ago(r.created_at, now))
        for r in found
    ]  # fmt: skip
    heads = ("run", "recipe", "algorithm", "state", "version", ">training", "started")
    session.answer_list(found, lambda: screen.table(heads, rows, empty="no runs yet; `mofang train RECIPE` makes one"))


@runs.verb(
    "show",
    example="mofang runs show\nmofang runs show run_01k9 --confusion confusion.svg --card card.md",
    json=f"One object: {RUN_JSON}; report holds its evaluation: {report.EVALUATION_JSON}.",
)
@click.argument("run", required=False)
@click.option("--confusion", type=click.Path(path_type=Path), help="Write the confusion matrix there, as SVG.")
@click.option("--card", type=click.Path(path_type=Path), help="Write the model card there, as Markdown.")
@click.option("--recipe", "with_recipe", is_flag=True, help="Show the recipe's text too.")
@click.pass_obj
def show(session: Session, run: str | None, confusion: Path | None, card: Path | None, with_recipe: bool) -> None:
    """Show a run (left out: the newest): its curve, digest, parity proof, gate and report."""
    found = session.client.train.get_run(run) if run else _newest(session)
    evaluation = session.client.evaluate.get_evaluation(found.evaluation) if found.evaluation else None
    session.answer(_as_json(found, evaluation), lambda: _draw_story(found, evaluation, with_recipe))
    if evaluation and confusion:
        report.save_confusion(session, evaluation.id, confusion)
    if evaluation and card:
        report.save_card(session, evaluation.id, card)


def _draw_trials(run: TrainingRun, most: int = 10) -> None:
    ranked = sorted(run.trials, key=lambda trial: math.inf if trial["loss"] is None else trial["loss"])
    rows = [
        (
            "-" if trial["loss"] is None else f"{trial['loss']:.4f}",
            trial["state"],
            format.duration(trial["seconds"]),
            ", ".join(f"{key} = {_value(value)}" for key, value in trial["keys"].items()),
        )
        for trial in ranked[:most]
    ]
    screen.table((">loss", "state", ">time", "values"), rows, empty="")


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _newest(session: Session) -> TrainingRun:
    found = session.client.train.list_runs(limit=1)
    if not found:
        raise RunNotFound("there is no run yet", hint="`mofang train RECIPE` makes one")
    return found[0]


def _as_json(run: TrainingRun, evaluation: Evaluation | None) -> dict[str, object]:
    return {**plain(run), "report": plain(evaluation)}


def _draw_story(run: TrainingRun, evaluation: Evaluation | None, with_recipe: bool) -> None:
    made = f", made {run.version}" if run.version else ""
    screen.heading(f"run of recipe {run.recipe_name}: {run.state}{made}")
    screen.fields(
        [
            *_about(run),
            ("recipe", format.short_digest(run.recipe_digest)),
            ("code", run.code),
            ("started", format.moment(run.created_at)),
            ("error", f"[{run.error['code']}] {run.error['message']}" if run.error else ""),
        ]
    )
    for name in ("loss", "accuracy", "r2", "perplexity"):
        values = [point[name] for point in run.curve if name in point]
        if len(values) > 1:
            screen.say(f"\n  {name} by epoch, 1 to {len(values)}")
            for line in chart.curve(values):
                screen.say("  " + line)
    if run.trials:
        screen.say(f"\n  {len(run.trials)} trials, the best first")
        _draw_trials(run)
    if evaluation:
        screen.say("\n  on held-out data, through the engine that serves it")
        report.draw(evaluation)
    if with_recipe:
        screen.say("\n" + run.recipe)
    if run.version:
        screen.then(f"mofang deploy {run.version}", f"mofang runs show {run.id} --confusion confusion.svg")
