"""`mofang evaluate`: measure a version on held-out data and hold it to a gate."""

from __future__ import annotations

from pathlib import Path

import click

from mofang.base.domain.errors import GateFailed
from mofang.surface.cli import report, screen
from mofang.surface.cli.progress import follow_job
from mofang.surface.cli.session import Session, plain
from mofang.surface.cli.verbs import verb


@verb(
    "evaluate",
    example="mofang evaluate digits@1\n"
    "mofang evaluate digits@champion --gate 'accuracy >= 0.85 and recall[3] >= 0.7' --confusion confusion.svg",
    json=f"One object: {report.EVALUATION_JSON}. With --detach only job.",
)
@click.argument("version", metavar="MODEL@VERSION")
@click.option("--gate", default="", metavar="EXPRESSION", help="What it must reach; exits 6 if it does not.")
@click.option("--dataset", default="", metavar="DIGEST", help="Other data than the version was made from.")
@click.option("--confusion", type=click.Path(path_type=Path), help="Write the confusion matrix there, as SVG.")
@click.option("--card", type=click.Path(path_type=Path), help="Write the model card there, as Markdown.")
@click.option("--detach", is_flag=True, help="Return at once; the job goes on in the server.")
@click.pass_obj
def evaluate(
    session: Session,
    version: str,
    gate: str,
    dataset: str,
    confusion: Path | None,
    card: Path | None,
    detach: bool,
) -> None:
    """Measure a version on held-out data, through the engine that serves it."""
    job = session.client.evaluate.run(version, dataset=dataset, gate=gate)
    if detach:
        session.answer({"job": job.id}, lambda: screen.then(f"mofang jobs logs {job.id} --follow"))
        return
    result = follow_job(session, job.id).result
    found = session.client.evaluate.get_evaluation(result["evaluation"])

    def draw() -> None:
        screen.heading(f"evaluated {found.version or version}")
        report.draw(found)

    session.answer(plain(found), draw)
    if confusion:
        report.save_confusion(session, found.id, confusion)
    if card:
        report.save_card(session, found.id, card)
    if not found.passed:
        failures = "; ".join(found.report.get("failures", ())) or found.gate
        raise GateFailed(f"{found.version or version} does not pass: {failures}", hint="the version stays as it is")
