"""`mofang jobs`: long work that runs in the server; it goes on when nobody watches."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from mofang.base.domain.names import now_us
from mofang.surface.cli import format, screen
from mofang.surface.cli.progress import follow_job
from mofang.surface.cli.session import Session, plain
from mofang.surface.cli.verbs import topic

if TYPE_CHECKING:
    from mofang.base.domain.work import Job, JobEvent

JOB_JSON = (
    "id, kind, spec, state (queued, running, succeeded, failed, cancelled), actor, attempt, created_at, started_at, "
    "ended_at (microseconds; 0: not yet), progress (0..1), stage, result, error (code, message, hint), cancel_requested"
)

jobs = topic("jobs", "Long work in the server: training, pushing, evaluating, compressing.", usual="list")


@jobs.verb("list", example="mofang jobs list --state running", json=f"{{items}}, each: {JOB_JSON}.")
@click.option("--kind", metavar="KIND", help="Only train, push, evaluate or compress.")
@click.option(
    "--state", type=click.Choice(["queued", "running", "succeeded", "failed", "cancelled"]), help="Only these."
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first.")
@click.pass_obj
def list_jobs(session: Session, kind: str | None, state: Any, limit: int) -> None:
    """List jobs, newest first."""
    found = session.client.jobs.list(kind=kind, state=state, limit=limit)
    now = now_us()
    rows = [(j.id, j.kind, j.state, j.stage, format.ago(j.created_at, now), _took(j, now)) for j in found]
    heads = ("job", "kind", "state", "stage", "created", ">took")
    session.answer_list(found, lambda: screen.table(heads, rows, empty="no jobs yet; `mofang train RECIPE` makes one"))


@jobs.verb("show", example="mofang jobs show job_01k9", json=f"One object: {JOB_JSON}.")
@click.argument("job")
@click.pass_obj
def show(session: Session, job: str) -> None:
    """Show one job: where it is, what it gave, or why it failed."""
    found = session.client.jobs.get(job)
    session.answer(found, lambda: _draw(found))


@jobs.verb(
    "logs",
    example="mofang jobs logs job_01k9 --follow",
    json="{items}, each: seq, at, stage, message, progress (0..1), data. With --follow one a line, as they come.",
)
@click.argument("job")
@click.option("--follow", "-f", is_flag=True, help="Stay until the job has ended.")
@click.pass_obj
def logs(session: Session, job: str, follow: bool) -> None:
    """Print what a job told so far; with --follow also what it will tell."""
    if follow and not session.as_json:
        ended = follow_job(session, job)
        _draw(ended)
    elif follow:
        for event in session.client.jobs.follow(job):
            click.echo(json.dumps(plain(event), ensure_ascii=False))
    else:
        events = session.client.jobs.events(job).items
        session.answer_list(events, lambda: _draw_events(events))


@jobs.verb("cancel", example="mofang jobs cancel job_01k9", json=f"One object: {JOB_JSON}.")
@click.argument("job")
@click.pass_obj
def cancel(session: Session, job: str) -> None:
    """Ask a job to stop; nothing half-made stays."""
    found = session.client.jobs.cancel(job)
    text = f"job {found.id} was cancelled" if found.state == "cancelled" else f"job {found.id} has been asked to stop"
    session.answer(found, lambda: screen.heading(text))


def _draw(job: Job) -> None:
    now = now_us()
    screen.heading(f"{job.kind} job {job.id}: {job.state}")
    screen.fields(
        [
            ("stage", f"{job.stage} ({format.share(job.progress)})" if job.state == "running" else ""),
            ("created", f"{format.moment(job.created_at)} by key {job.actor}"),
            ("took", _took(job, now)),
            ("attempt", job.attempt if job.attempt > 1 else ""),
            *((name, value) for name, value in job.result.items() if isinstance(value, (str, int, bool))),
            ("error", f"[{job.error['code']}] {job.error['message']}" if job.error else ""),
            ("hint", job.error.get("hint")),
        ]
    )
    if job.state in ("queued", "running"):
        screen.then(f"mofang jobs logs {job.id} --follow", f"mofang jobs cancel {job.id}")


def _draw_events(events: list[JobEvent]) -> None:
    rows = [(format.moment(e.at), e.stage, f"{e.progress * 100:.0f} %", e.message) for e in events]
    screen.table(("at", "stage", ">done", "message"), rows, empty="nothing yet: the job waits for its turn")


def _took(job: Job, now: int) -> str:
    return format.duration(((job.ended_at or now) - job.started_at) / 1e6) if job.started_at else "-"
