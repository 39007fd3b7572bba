"""`mofang doctor`: everything a report of a problem needs, checked in one go."""

from __future__ import annotations

from collections.abc import Iterator

import click

from mofang.base.domain.errors import MofangError
from mofang.surface.cli import checks, screen
from mofang.surface.cli.checks import Check
from mofang.surface.cli.session import Session
from mofang.surface.cli.verbs import verb
from mofang.surface.server.folders import DataDirectory


@verb(
    "doctor",
    example="mofang doctor\nmofang doctor --json > report.json",
    json="One object: well (no check failed), checks, each: name, state (ok, note, failed), detail, hint.",
)
@click.option("--quick", is_flag=True, help="Do not hash the stored objects again.")
@click.pass_obj
def doctor(session: Session, quick: bool) -> None:
    """Check Python, packages, the data directory, what is stored in it, ports and the server; exits 1 if one failed."""
    found = []
    if not session.as_json:
        screen.heading("what Mofang stands on")
    for check in _all(session, quick):
        found.append(check)
        if not session.as_json:
            _draw(check)
    failed = [check for check in found if check.state == "failed"]
    text = "all is well" if not failed else f"{len(failed)} of {len(found)} checks failed"
    session.answer({"well": not failed, "checks": found}, lambda: screen.heading(f"\n{text}"))
    click.get_current_context().exit(1 if failed else 0)


def _all(session: Session, quick: bool) -> Iterator[Check]:
    from mofang.surface.server.launch import running
    from mofang.surface.server.settings import Settings

    settings = Settings.load(data=session.data or None)
    folders = DataDirectory(settings.data)
    run = running(settings)
    yield checks.python()
    yield from checks.packages()
    yield checks.data_directory(folders)
    yield checks.admin_key(folders)
    if not quick:
        yield from checks.blobs(folders)
    yield from checks.journal(folders)
    if run:
        yield Check("server", "ok", f"pid {run['pid']} on {run['http']}, gRPC on {run['grpc']}")
    else:
        yield checks.port("http", settings.http)
        yield checks.port("grpc", settings.grpc)
        yield Check("server", "note", f"none runs on {settings.data}", "start it: `mofang up --detach`")
    if run or session.url:
        yield from _server(session)
    if folders.logs.exists():
        yield checks.logs(folders.logs)


def _server(session: Session) -> Iterator[Check]:
    """Ask the server about itself and its audit log."""
    try:
        status = session.client.operate.status()
        down = [process.name for process in status.processes if process.state not in ("running", "ready")]
        state = f"version {status.version}, {len(status.processes)} processes"
        bad = f"{state}; not running: {', '.join(down)}"
        yield Check("processes", "failed", bad, "its log tells why") if down else Check("processes", "ok", state)
        proof = session.client.audit.verify()
        yield Check("audit", "ok", f"{proof.records} records, none touched")
    except MofangError as error:
        yield Check("server", "failed", error.message, error.hint)


def _draw(check: Check) -> None:
    colour = {"ok": "green", "note": "yellow", "failed": "red"}[check.state]
    screen.say(f"  {click.style(f'{check.state:<6}', fg=colour)}  {check.name:<10}  {check.detail}")
    if check.hint:
        screen.say(f"{'':<22}{click.style('hint:', bold=True)} {check.hint}")
