"""`mofang predict`: ask an endpoint, the way any client would."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from mofang.surface.cli import format, screen
from mofang.surface.cli.session import Session, plain
from mofang.surface.cli.verbs import verb

if TYPE_CHECKING:
    from mofang.base.domain.tensors import Array
    from mofang.surface.sdk.prediction import Prediction

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
SHOWN_ROWS = 8


@verb(
    "predict",
    example="mofang predict digits --input features=@row.json\n"
    "mofang predict adder --input 'x=[[1, 2]]' --input 'y=[[3, 4]]' --protocol grpc\n"
    "mofang predict digits --npy features=rows.npy\n"
    "mofang predict digits --json-file body.json",
    json="One object: endpoint, version, revision, digest, request_id, protocol, seconds, "
    "outputs (by name: datatype, shape, data).",
)
@click.argument("endpoint")
@click.option("--input", "given", multiple=True, metavar="NAME=JSON", help="A tensor: JSON, or @FILE.json.")
@click.option("--npy", multiple=True, metavar="NAME=FILE", help="A tensor, as numpy.save wrote it.")
@click.option("--json-file", "body", type=FILE, help="A whole request of the Open Inference Protocol.")
@click.option("--protocol", type=click.Choice(["rest", "grpc"]), default="rest", show_default=True, help="How to ask.")
@click.option("--version", default="", metavar="NUMBER", help="Insist on this version.")
@click.option("--timeout", default="30s", show_default=True, metavar="SPAN", help="How long the answer may take.")
@click.pass_obj
def predict(
    session: Session,
    endpoint: str,
    given: tuple[str, ...],
    npy: tuple[str, ...],
    body: Path | None,
    protocol: Literal["rest", "grpc"],
    version: str,
    timeout: str,
) -> None:
    """Ask an endpoint and show its answer: outputs, version, revision, request id, latency."""
    from mofang.surface.cli import inputs  # numpy

    span = format.parse_span(timeout)
    signature = session.client.serve.metadata(endpoint)
    arrays = inputs.read(given, npy, body, signature["inputs"])
    started = time.perf_counter()
    found = session.client.serve.predict(
        endpoint, arrays, protocol=protocol, version=version, timeout_seconds=float(span)
    )
    seconds = time.perf_counter() - started
    session.answer(_as_json(found, protocol, seconds), lambda: _draw(found, protocol, seconds))


def _as_json(found: Prediction, protocol: str, seconds: float) -> dict[str, Any]:
    outputs = {
        name: {"datatype": _datatype(array), "shape": list(array.shape), "data": plain(array)}
        for name, array in found.outputs.items()
    }
    about = {name: getattr(found, name) for name in ("endpoint", "version", "revision", "digest", "request_id")}
    return {**about, "protocol": protocol, "seconds": seconds, "outputs": outputs}


def _draw(found: Prediction, protocol: str, seconds: float) -> None:
    took = f"{format.duration(seconds)} over {'gRPC' if protocol == 'grpc' else 'REST'}"
    screen.heading(f"{found.endpoint} answered with version {found.version} (revision {found.revision}) in {took}")
    screen.fields(
        [
            *(
                (name, f"{list(array.shape)} {_datatype(array)}\n{_values(array)}")
                for name, array in found.outputs.items()
            ),
            ("digest", found.digest),
            ("request", found.request_id),
        ]
    )


def _datatype(array: Array) -> str:
    from mofang.base.domain.tensors import datatype_of

    return datatype_of(array)


def _values(array: Array) -> str:
    """Write an array for people: short numbers, aligned, the middle of a large one left out."""
    import numpy as np

    shown = np.char.decode(array.astype("S"), "utf-8", "replace") if array.dtype == object else array
    return np.array2string(
        shown, precision=4, suppress_small=True, threshold=200, edgeitems=SHOWN_ROWS // 2, max_line_width=96
    )
