"""`mofang tune`: how to run a version on the server's machine, found by measuring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from mofang.surface.cli import screen
from mofang.surface.cli.progress import follow_job
from mofang.surface.cli.session import Session
from mofang.surface.cli.verbs import verb


@verb(
    "tune",
    example="mofang tune digits@2 --latency-ms 20",
    json="One object: job, version, digest, latency_ms (the goal), kept (whether the goal is), chosen and front: "
    "instances, threads, batch_rows, batch_ms, latency_ms, rows_per_second, deploy (what a deployment is sent).",
)
@click.argument("version", metavar="MODEL@VERSION")
@click.option(
    "--latency-ms",
    default=50.0,
    show_default=True,
    type=click.FloatRange(0, 600_000, min_open=True),
    help="How long an answer may take when all are busy.",
)
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(1, 3600), help="How long to measure.")
@click.pass_obj
def tune(session: Session, version: str, latency_ms: float, seconds: float) -> None:
    """Measure instances, threads and batches in turns, and keep what computes most within a latency.

    `mofang deploy --tuned` uses it. Measure on an idle machine: what others do is in the times.
    """
    job = session.client.compress.tune(version, latency_ms=latency_ms, seconds=seconds)
    result = follow_job(session, job.id).result
    session.answer({"job": job.id, **result}, lambda: _draw(result))


def _draw(result: Mapping[str, Any]) -> None:
    chosen = result["chosen"]
    kept = "" if result["kept"] else f"; nothing answers within {result['latency_ms']:g} ms"
    screen.heading(f"{result['version']} computes {chosen['rows_per_second']:,.0f} rows a second{kept}")
    rows = [
        (
            "* " if each == chosen else "  ",
            str(each["instances"]),
            str(each["threads"]),
            str(each["batch_rows"]),
            f"{each['latency_ms']:.2f} ms",
            f"{each['rows_per_second']:,.0f}",
        )
        for each in (*([] if chosen in result["front"] else [chosen]), *result["front"])
    ]
    screen.table(("  ", ">instances", ">threads", ">rows a batch", ">latency", ">rows a second"), rows)
    model = result["version"].partition("@")[0]
    screen.then(f"mofang deploy {model} {result['version']} --tuned")
