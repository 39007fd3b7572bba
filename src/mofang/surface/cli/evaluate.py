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
    "mofang evaluate digits@2 --gate 'accuracy >= 0.85 and not worse_than(champion)' --html report.html\n"
    "mofang evaluate digits@2 --against digits@1 --confusion confusion.svg",
    json=f"One object: {report.EVALUATION_JSON}. With --detach only job.",
)
@click.argument("version", metavar="MODEL@VERSION")
@click.option("--gate", default="", metavar="EXPRESSION", help="What it must reach; exits 6 if it does not.")
@click.option("--dataset", default="", metavar="DIGEST", help="Other data than the version was made from.")
@click.option("--against", default="", metavar="MODEL@VERSION", help="Compare with this version on the same rows.")
@click.option("--slice", "slices", multiple=True, metavar="COLUMN", help="Tell how each value of a column does.")
@click.option("--html", type=click.Path(path_type=Path), help="Write the whole report there, as a page.")
@click.option("--confusion", type=click.Path(path_type=Path), help="Write the confusion matrix there, as SVG.")
@click.option("--card", type=click.Path(path_type=Path), help="Write the model card there, as Markdown.")
@click.option("--detach", is_flag=True, help="Return at once; the job goes on in the server.")
@click.pass_obj
def evaluate(
    session: Session,
    version: str,
    gate: str,
    dataset: str,
    against: str,
    slices: tuple[str, ...],
    html: Path | None,
    confusion: Path | None,
    card: Path | None,
    detach: bool,
) -> None:
    """Measure a version on held-out data, through the engine that serves it."""
    job = session.client.evaluate.run(version, dataset=dataset, gate=gate, against=against, slices=slices)
    if detach:
        session.answer({"job": job.id}, lambda: screen.then(f"mofang jobs logs {job.id} --follow"))
        return
    result = follow_job(session, job.id).result
    found = session.client.evaluate.get_evaluation(result["evaluation"])

    def draw() -> None:
        screen.heading(f"evaluated {found.version or version}")
        report.draw(found)

    session.answer(plain(found), draw)
    if html:
        report.save_page(session, found.id, html)
    if confusion:
        report.save_confusion(session, found.id, confusion)
    if card:
        report.save_card(session, found.id, card)
    if not found.passed:
        failures = "; ".join(found.report.get("failures", ())) or found.gate
        raise GateFailed(f"{found.version or version} does not pass: {failures}", hint="the version stays as it is")
