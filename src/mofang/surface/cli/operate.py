"""`mofang up`, `down` and `status`: the server on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mofang.base.domain.names import now_us
from mofang.surface.cli import format, screen
from mofang.surface.cli.session import Session
from mofang.surface.cli.verbs import verb

if TYPE_CHECKING:
    from mofang.surface.server.launch import Ready


@verb(
    "up",
    example="mofang up --detach\nmofang up --data ./mofang-data --http 127.0.0.1:8080 --grpc 127.0.0.1:8081",
    json="One object when it is ready: http_url, grpc_address, data, admin_key (first start only), pid, seconds.",
    remote=False,
)
@click.option("--http", metavar="HOST:PORT", help="Where HTTP is served.  [default: 127.0.0.1:8080]")
@click.option("--grpc", metavar="HOST:PORT", help="Where gRPC is served.  [default: 127.0.0.1:8081]")
@click.option("--gateways", type=click.IntRange(1, 64), help="Processes that answer, one a core.  [default: 1]")
@click.option("--detach", is_flag=True, help="Leave it in the background and return when it is ready.")
@click.pass_obj
def up(session: Session, http: str | None, grpc: str | None, gateways: int | None, detach: bool) -> None:
    """Start the server on this machine and say when it is ready.

    In the foreground it runs until Ctrl-C or SIGTERM, then answers what is in flight and stops.
    """
    from mofang.surface.server.launch import up as start
    from mofang.surface.server.settings import Settings

    settings = Settings.load(data=session.data or None, http=http, grpc=grpc, gateways=gateways)

    def on_ready(ready: Ready) -> None:
        session.answer(ready, lambda: _ready(session, ready, detach))

    code = start(settings, detach=detach, on_ready=on_ready)
    if not detach and not session.as_json:
        screen.heading(f"\nMofang has stopped; its data stays in {settings.data}")
    click.get_current_context().exit(code)


def _ready(session: Session, ready: Ready, detach: bool) -> None:
    screen.heading(f"Mofang is ready after {format.duration(ready.seconds)}")
    screen.fields(
        [
            ("http", f"{ready.http_url}  (/v2 inference, /api/v1 control, /metrics)"),
            ("grpc", ready.grpc_address),
            ("data", ready.data),
            ("process", f"pid {ready.pid}, " + ("in the background" if detach else "Ctrl-C stops it")),
            ("admin key", ready.admin_key and f"{ready.admin_key}  (shown once; kept in DATA/admin.key)"),
        ]
    )
    where = f" --data {session.data}" if session.data else ""
    screen.then(
        f"mofang train examples/digits.toml{where}",
        f"mofang push NAME model.onnx{where}",
        f"mofang status{where}",
        *([f"mofang down{where}"] if detach else []),
    )


@verb(
    "down",
    example="mofang down",
    json="One object: stopped (whether one was running), pid, data.",
    remote=False,
)
@click.option(
    "--timeout", default="60s", show_default=True, metavar="SPAN", help="How long answers in flight may take."
)
@click.pass_obj
def down(session: Session, timeout: str) -> None:
    """Stop the server of the data directory: it finishes the answers in flight, then ends."""
    from mofang.surface.server.launch import down as stop
    from mofang.surface.server.launch import running
    from mofang.surface.server.settings import Settings

    settings = Settings.load(data=session.data or None)
    run = running(settings)
    stopped = stop(settings, float(format.parse_span(timeout)))
    value = {"stopped": stopped, "pid": run["pid"] if run else None, "data": str(session.data_folder)}
    text = f"Mofang has stopped; its data stays in {session.data_folder}"
    nothing = f"nothing to stop: no server runs on {session.data_folder}"
    session.answer(value, lambda: screen.heading(text if stopped else nothing))


@verb(
    "status",
    example="mofang status",
    json="One object: version, started_at, counts, processes (each: name, state, pid, restarts, started_at).",
)
@click.pass_obj
def status(session: Session) -> None:
    """Show what runs: the server, its processes and the endpoints that answer."""
    found = session.client.operate.status()
    now = now_us()

    def draw() -> None:
        screen.heading(f"Mofang {found.version} at {session.connection.url}")
        screen.fields(
            [
                ("started", f"{format.moment(found.started_at)} ({format.ago(found.started_at, now)})"),
                *((name.replace("_", " "), format.count(number)) for name, number in found.counts.items()),
                ("grpc", session.connection.grpc),
                ("data", session.data_folder if session.connection.grpc else ""),
            ]
        )
        screen.say()
        rows = [(p.name, p.pid, p.state, p.restarts, format.ago(p.started_at, now)) for p in found.processes]
        screen.table(("process", ">pid", "state", ">restarts", "started"), rows)
        screen.then("mofang endpoints list", "mofang usage", "mofang doctor")

    session.answer(found, draw)
