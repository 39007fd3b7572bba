"""`mofang compress`: make a variant of a version that is smaller or faster, measured against it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from mofang.surface.cli import format, screen
from mofang.surface.cli.progress import follow_job
from mofang.surface.cli.session import Session
from mofang.surface.cli.verbs import verb


@verb(
    "compress",
    example="mofang compress digits@2 --max-drop 0.005",
    json="One object: job, variant (id, model, version, parent, technique, digest, comparison, created_at). "
    "With --detach only job.",
)
@click.argument("version", metavar="MODEL@VERSION")
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 1),
    default=0.005,
    show_default=True,
    help="The accuracy it may lose, as a fraction.",
)
@click.option("--detach", is_flag=True, help="Return at once; the job goes on in the server.")
@click.pass_obj
def compress(session: Session, version: str, max_drop: float, detach: bool) -> None:
    """Compress a version and register the variant if it is good enough; quality, latency and size are measured."""
    job = session.client.compress.run(version, max_drop=max_drop)
    if detach:
        session.answer({"job": job.id}, lambda: screen.then(f"mofang jobs logs {job.id} --follow"))
        return
    variant = follow_job(session, job.id).result["variant"]
    session.answer({"job": job.id, "variant": variant}, lambda: _draw(version, variant))


def _draw(version: str, variant: Mapping[str, Any]) -> None:
    made = f"{variant['model']}@{variant['version']}"
    screen.heading(f"registered {made}: {version} by {variant['technique']}")
    screen.table(("", ">variant", ">original", ""), _rows(variant["comparison"]))
    screen.fields([("digest", variant["digest"])])
    screen.then(f"mofang versions show {made}", f"mofang deploy {made}")


def _rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    points = (found["accuracy"] - found["parent_accuracy"]) * 100
    rows = f"{points:+.2f} points on {format.count(found['rows'])} rows"
    accuracy = (f"{found['accuracy']:.4f}", f"{found['parent_accuracy']:.4f}")
    sizes = (found["size_bytes"], found["parent_size_bytes"])
    table = [("  accuracy", *accuracy, rows), ("  size", *map(format.size, sizes), _times(*sizes, "smaller", "larger"))]
    for latency in found["latencies"]:
        times = (latency["median_us"], latency["parent_median_us"])
        said = (format.duration(value / 1e6) for value in times)
        table.append((f"  latency, batch {latency['batch']}", *said, _times(*times, "faster", "slower")))
    return table


def _times(new: float, old: float, better: str, worse: str) -> str:
    """Say how many times better or worse ``new`` is than ``old``, of two amounts that should be low."""
    return f"{old / new:.1f}x {better}" if new <= old else f"{new / old:.1f}x {worse}"
