"""`mofang export`: a version leaves as files of some framework."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from mofang.surface.cli import format, screen
from mofang.surface.cli.progress import follow_job
from mofang.surface.cli.session import Session
from mofang.surface.cli.verbs import verb

FORMS = (
    "onnx", "torch", "torchscript", "safetensors", "keras", "tensorflow", "mindspore", "gguf", "huggingface", "adapter",
    "native", "original",
)  # fmt: skip
"""As ``make.export.forms`` has them, which a command does not import; a test holds the two together."""


@verb(
    "export",
    example="mofang export digits@2 --to onnx --output digits-onnx",
    json="One object: job, version, digest, to, files (path, size_bytes), parity (said, rows, max_difference), "
    "archive, size_bytes, folder. With --detach only job.",
)
@click.argument("version", metavar="MODEL@VERSION")
@click.option("--to", type=click.Choice(FORMS), default="onnx", show_default=True, help="The form it leaves in.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="The folder to write; else named after version and form."
)
@click.option("--licence", default="", metavar="ID", help="Put on its card, e.g. Apache-2.0.")
@click.option("--detach", is_flag=True, help="Return at once; the job goes on in the server.")
@click.pass_obj
def export(session: Session, version: str, to: str, output: Path | None, licence: str, detach: bool) -> None:
    """Write a version as files: the model, its signature and card, an example, and code that asks it.

    What was made here is run before it leaves, and must answer as the served model does.
    """
    job = session.client.export.run(version, to, licence=licence)
    if detach:
        session.answer({"job": job.id}, lambda: screen.then(f"mofang jobs logs {job.id} --follow"))
        return
    result = follow_job(session, job.id).result
    folder = output or Path(f"{result['version'].replace('@', '-')}-{to}")
    session.client.export.save(job.id, folder)
    session.answer({"job": job.id, **result, "folder": str(folder)}, lambda: _draw(result, folder))


def _draw(result: Mapping[str, Any], folder: Path) -> None:
    screen.heading(f"wrote {result['version']} to {folder}")
    screen.table(
        ("  file", ">size"), [(f"  {each['path']}", format.size(each["size_bytes"])) for each in result["files"]]
    )
    screen.fields([("digest", result["digest"]), ("parity", result["parity"]["said"])])
    if any(each["path"] == "predict.py" for each in result["files"]):
        screen.then(f"cd {folder} && python predict.py example.json")
