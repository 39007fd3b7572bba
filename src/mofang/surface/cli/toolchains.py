"""`mofang toolchains`: environments of their own for large frameworks, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mofang.surface.cli import format, screen
from mofang.surface.cli.progress import board
from mofang.surface.cli.session import Session
from mofang.surface.cli.verbs import topic

if TYPE_CHECKING:
    from mofang.make.convert.toolchains import Toolchains

TOOLCHAIN_JSON = "name, title, installed, size_bytes (about, when installed)"

toolchains = topic(
    "toolchains", "Environments of frameworks that are too large to live beside the server.", usual="list"
)


@toolchains.verb("list", example="mofang toolchains list", json=f"{{items}}, each: {TOOLCHAIN_JSON}.", remote=False)
@click.pass_obj
def list_toolchains(session: Session) -> None:
    """List toolchains, and whether they are installed on this machine."""
    from mofang.make.convert.toolchains import TOOLCHAINS

    here = _here(session)
    found = [
        {"name": t.name, "title": t.title, "installed": here.is_installed(t.name), "size_bytes": t.size_bytes}
        for t in TOOLCHAINS.values()
    ]
    rows = [
        (t.name, t.title, "yes" if here.is_installed(t.name) else "no", format.size(t.size_bytes))
        for t in TOOLCHAINS.values()
    ]
    session.answer({"items": found}, lambda: screen.table(("toolchain", "for", "installed", ">size"), rows))


@toolchains.verb(
    "install",
    example="mofang toolchains install tensorflow",
    json="One object: name, folder.",
    remote=False,
)
@click.argument("name")
@click.pass_obj
def install(session: Session, name: str) -> None:
    """Install a toolchain where the server of this machine looks for it; nothing is restarted."""
    with board(session) as shown:

        class Shown:
            def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
                shown.show(stage, fraction, message, data)

        folder = _here(session).install(name, Shown())
    session.answer({"name": name, "folder": str(folder)}, lambda: screen.heading(f"installed {name} in {folder}"))


@toolchains.verb(
    "remove", example="mofang toolchains remove tensorflow", json="One object: name, removed.", remote=False
)
@click.argument("name")
@click.pass_obj
def remove(session: Session, name: str) -> None:
    """Remove a toolchain from this machine."""
    removed = _here(session).remove(name)
    said = f"removed {name}" if removed else f"{name} was not installed"
    session.answer({"name": name, "removed": removed}, lambda: screen.heading(said))


def _here(session: Session) -> Toolchains:
    from mofang.make.convert.toolchains import Toolchains
    from mofang.surface.server.folders import DataDirectory
    from mofang.surface.server.settings import Settings

    return Toolchains(DataDirectory(Path(Settings.load(data=session.data or None).data)).toolchains)
