"""`mofang compress` and `variants`: search for variants of a version that are smaller and faster, and look at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mofang.surface.cli import format, screen
from mofang.surface.cli.progress import follow_job
from mofang.surface.cli.session import Session, plain
from mofang.surface.cli.verbs import verb

if TYPE_CHECKING:
    from mofang.surface.sdk.compress import Variant, Variants

VARIANT_JSON = (
    "id, model, parent, technique (its name), digest, dataset, comparison (quality, size_bytes, parent_size_bytes, "
    "memory_bytes, parent_memory_bytes, latencies; null if it could not be made), accepted, refusal, version, job, "
    "steps, told, is_front, is_picked, settings (how the pick runs best here: instances, threads, batch_rows, "
    "batch_ms, latency_ms, rows_per_second, deploy; of others empty), created_at"
)
VARIANTS_JSON = f"version, registered (versions, each with variant, its name), candidates, each: {VARIANT_JSON}"
HTML = click.option("--html", type=click.Path(path_type=Path), help="Write all that was measured there, as a page.")
_DETACH = click.option("--detach", is_flag=True, help="Return at once; the job goes on in the server.")


@verb(
    "compress",
    example="mofang compress digits@2 --max-drop 0.005\n"
    "mofang compress encoder@1 --calibration sample.npz --objective size --time 5min\n"
    "mofang compress digits@2 --max-latency-ms 0.5 --max-size-mb 2 --html front.html\n"
    "mofang compress smol@1 --calibration texts.txt --max-drop 0.05",
    json=f"One object: job, picked (MODEL@VERSION+VARIANT), {VARIANTS_JSON}. With --detach only job.",
)
@click.argument("version", metavar="MODEL@VERSION")
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 1),
    default=0.005,
    show_default=True,
    help="The quality it may lose, as a fraction; of a language model, by which perplexity may rise.",
)
@click.option(
    "--max-latency-ms", type=click.FloatRange(0, min_open=True), help="The time one row may take, or one token."
)
@click.option("--max-size-mb", type=click.FloatRange(0, min_open=True), help="The size its files may have.")
@click.option(
    "--objective",
    type=click.Choice(["balance", "latency", "size", "cost"]),
    default="balance",
    show_default=True,
    help="What is to become small: the time of one row, the size, the time of a row in a batch, or all.",
)
@click.option("--time", "span", default="10min", show_default=True, metavar="SPAN", help="How long to search.")
@click.option(
    "--trials", type=click.IntRange(0), default=0, help="How many candidates to try; 0: as many as there are."
)
@click.option("--calibration", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="What the model is asked: .npy of its input, .npz of its inputs by name, or texts.")  # fmt: skip
@click.option("--dataset", default="", metavar="DIGEST", help="Measure on other data than the version was made from.")
@click.option("--metric", type=click.Choice(["auto", "agreement", "cosine"]), default="auto",
              help="How to compare answers where nobody knows the truth.")  # fmt: skip
@click.option("--teacher", default="", metavar="WHO",
              help="Whom networks learn from: MODEL@VERSION, endpoint:NAME or upstream:SERVER/MODEL.")  # fmt: skip
@HTML
@_DETACH
@click.pass_obj
def compress(session: Session, /, version: str, span: str, html: Path | None, detach: bool, **wanted: Any) -> None:
    """Search for the best variant of a version, and register what is good enough.

    Every candidate is measured beside the original, in turns: quality on held-out data, latency, throughput, size and
    memory. If none is good enough, nothing is registered.
    """
    job = session.client.compress.run(version, seconds=format.parse_span(span), **wanted)
    if detach:
        session.answer({"job": job.id}, lambda: screen.then(f"mofang jobs logs {job.id} --follow"))
        return
    picked = follow_job(session, job.id).result["picked"]
    found = session.client.compress.variants(version)

    def draw() -> None:
        chosen = next(each for each in found.candidates if each.is_picked)
        screen.heading(f"registered {picked}: {found.version} by {chosen.told}")
        _draw_picked(chosen)
        _draw_candidates(found)
        screen.then(f"mofang deploy NAME {picked}", f"mofang variants {found.version} --html front.html")

    session.answer({"job": job.id, "picked": picked, **plain(found)}, draw)
    _save(session, version, html)


@verb(
    "variants",
    example="mofang variants digits@2\nmofang variants digits@2 --html front.html",
    json=f"One object: {VARIANTS_JSON}.",
)
@click.argument("version", metavar="MODEL[@VERSION]")
@HTML
@click.pass_obj
def variants(session: Session, version: str, html: Path | None) -> None:
    """Show the variants a version has, and all that the newest search for them measured."""
    found = session.client.compress.variants(version)

    def draw() -> None:
        screen.heading(f"{len(found.registered)} variants of {found.version}")
        rows = [
            (f"  {each}", format.size(each.artifact.size_bytes), each.lineage.steps, format.short_digest(each.digest))
            for each in found.registered
        ]
        screen.table(("  name", ">size", "made by", "digest"), rows, empty="  none is registered")
        if found.candidates:
            _draw_candidates(found)
        first = found.registered[0] if found.registered else None
        screen.then(f"mofang deploy NAME {first}" if first else f"mofang compress {found.version}")

    session.answer(found, draw)
    _save(session, version, html)


def _save(session: Session, version: str, html: Path | None) -> None:
    if html is None:
        return
    html.write_text(session.client.compress.report_html(version), "utf-8")
    if not session.as_json:
        screen.say(f"\nreport: {click.style(str(html), bold=True)}")


def _draw_picked(variant: Variant) -> None:
    found = variant.comparison or {}
    quality = found["quality"]
    lost = _points(_drop(quality))
    between = f"95 %: {_points(quality['high'])} to {_points(quality['low'])}, p = {quality['p_value']:.2g}"
    rows = f"{lost} points on {format.count(quality['rows'])} rows ({between})"
    table: list[tuple[str, ...]] = [
        (f"  {quality['metric']}", f"{quality['value']:.4f}", f"{quality['parent']:.4f}", rows),
        _sizes("size", found["size_bytes"], found["parent_size_bytes"]),
        _sizes("memory", found["memory_bytes"], found["parent_memory_bytes"]),
    ]
    for each in found["latencies"]:
        times = (each["median_us"], each["parent_median_us"])
        said = (format.duration(value / 1e6) for value in times)
        threads = f"{each['threads']} thread{'s' if each['threads'] > 1 else ''}"
        table.append((f"  {_timed(each)}, {threads}", *said, _times(*times, "faster", "slower")))
    screen.table(("", ">variant", ">original", ""), table)
    fields = [("answers", quality["parity"]), ("digest", variant.digest)]
    if best := variant.settings:
        told = f"{best['rows_per_second']:,.0f} rows/s, answers in about {best['latency_ms']:.3g} ms"
        fields.append(("runs best", f"{_setting(best)}: {told}; a new endpoint begins so"))
    screen.fields(fields)


def _sizes(name: str, ours: int, theirs: int) -> tuple[str, str, str, str]:
    return f"  {name}", format.size(ours), format.size(theirs), _times(ours, theirs, "smaller", "larger")


def _draw_candidates(found: Variants) -> None:
    """Draw what was measured, the fastest first; what no other beats is marked."""
    screen.say(f"\n  candidates of the newest search ({len(found.candidates)})")
    measured = [each for each in found.candidates if each.comparison]
    measured.sort(key=lambda each: _ratios(each)[0])
    rows = [_row(each) for each in measured]
    times: tuple[str, ...] = (">one row", ">many rows", ">one, all cores", ">many, all cores")
    if measured and _speaks(measured[0]):
        times = (">first token", ">one stream", ">many streams")
    screen.table(("  steps", ">points", ">size", *times, "", ""), rows, empty="  none could be measured")
    refused = [each for each in found.candidates if not each.comparison]
    for each in refused:
        screen.say(f"  {each.told}: {each.refusal}")


def _row(variant: Variant) -> tuple[str, ...]:
    found = variant.comparison or {}
    quality = found["quality"]
    mark = "picked" if variant.is_picked else "front" if variant.is_front else ""
    return (
        f"  {variant.told}",
        _points(_drop(quality)),
        f"{found['parent_size_bytes'] / found['size_bytes']:.1f}x smaller",
        *(f"{1 / ratio:.1f}x faster" for ratio in _ratios(variant)),
        mark,
        "registered" if variant.accepted else variant.refusal,
    )


def _ratios(variant: Variant) -> list[float]:
    """Return the shares of the original's time: the least and the largest batch, on one thread, then on all cores.

    Of a language model: the first token, and those of one stream and of many.
    """
    latencies: Sequence[Any] = (variant.comparison or {})["latencies"]
    if _speaks(variant):
        return [each["median_us"] / each["parent_median_us"] for each in latencies]
    found = {(each["threads"], each["batch"]): each["median_us"] / each["parent_median_us"] for each in latencies}
    threads, batches = (sorted({key[at] for key in found}) for at in (0, 1))
    return [found[threads[core], batches[batch]] for core in (0, -1) for batch in (0, -1)]


def _speaks(variant: Variant) -> bool:
    """Tell whether tokens were timed."""
    return any(each.get("of") == "first token" for each in (variant.comparison or {})["latencies"])


def _timed(latency: Mapping[str, Any]) -> str:
    """Say what was timed."""
    if latency.get("of", "rows") == "rows":
        return f"{latency['batch']} rows"
    return f"{latency['of']}, {latency['batch']} stream{'s' if latency['batch'] > 1 else ''}"


def _drop(quality: Mapping[str, Any]) -> float:
    """Return what was lost; where less is better, by what share of the original's it rose."""
    value, parent = float(quality["value"]), float(quality["parent"])
    return value / parent - 1 if quality.get("relative") else parent - value


def _setting(best: Mapping[str, Any]) -> str:
    threads = f", {best['threads']} thread{'s' if best['threads'] > 1 else ''} each"
    instances = f"{best['instances']} replica{'s' if best['instances'] > 1 else ''}"
    return f"{instances}{threads if best['deploy']['options'] else ''}, batches of {best['batch_rows']}"


def _times(new: float, old: float, better: str, worse: str) -> str:
    """Say how many times better or worse ``new`` is than ``old``, of two amounts that should be low."""
    if not new or not old:
        return ""
    return f"{old / new:.1f}x {better}" if new <= old else f"{new / old:.1f}x {worse}"


def _points(drop: float) -> str:
    """Say what a drop does to the quality, in points; 0.00 if it cannot be seen."""
    said = f"{-100 * drop:+.2f}"
    return "0.00" if said in ("+0.00", "-0.00") else said
