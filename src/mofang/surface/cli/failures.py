"""How a command ends that could not do its work: one sentence, a hint, an exit code by kind of error.

The sentence goes to standard error, in the one form every error has; with ``--json`` it is one JSON object there:
``{"error": {"code", "message", "hint"}}``. No traceback is shown unless ``--debug`` asks for it: it goes to a log.
"""

from __future__ import annotations

import json
import os
import traceback
from pathlib import Path

import click

from mofang.base.domain.errors import MofangError
from mofang.surface.cli import screen
from mofang.surface.wire.status import status_of

USAGE = 2
INTERRUPTED = 130  # what shells report for SIGINT
UNEXPECTED = 1


class Interrupted(Exception):
    """Somebody pressed Ctrl-C while the server goes on; ``hint`` says how to go on as well."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def show(error: BaseException, *, as_json: bool, debug: bool) -> int:
    """Print ``error`` and return the exit code of the command."""
    if isinstance(error, MofangError):
        _print(error.code, error.message, error.hint, as_json)
        if debug:
            screen.say("".join(traceback.format_exception(error)), err=True)
        return status_of(error).exit_code
    if isinstance(error, click.UsageError):
        _print("usage", error.format_message().rstrip("."), _usage_hint(error), as_json)
        return USAGE
    if isinstance(error, click.ClickException):
        _print("usage", error.format_message(), "", as_json)
        return USAGE
    if isinstance(error, Interrupted):
        _print("interrupted", str(error), error.hint, as_json)
        return INTERRUPTED
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        _print("interrupted", "stopped before it was done", "nothing is half-made; run the command again", as_json)
        return INTERRUPTED
    if isinstance(error, OSError) and error.filename is not None:
        _print("file", f"{error.filename!r}: {os.strerror(error.errno or 0).lower()}", "", as_json)
        return USAGE
    _print("internal", f"unexpected {type(error).__name__}: {_first_line(error)}", _keep(error, debug), as_json)
    return UNEXPECTED


def _print(code: str, message: str, hint: str, as_json: bool) -> None:
    if as_json:
        fields = {"code": code, "message": message, "hint": hint}
        screen.say(json.dumps({"error": fields}, ensure_ascii=False), err=True)
        return
    screen.say(f"{click.style(f'error[{code}]:', fg='red', bold=True)} {message}", err=True)
    if hint:
        screen.say(f"{click.style('hint:', bold=True)} {hint}", err=True)


def _usage_hint(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx else "mofang"
    return f"`{path} --help` shows what it takes"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or ["no message"])[0]


def _keep(error: BaseException, debug: bool) -> str:
    """Print the traceback, or put it into a log and say where that is."""
    story = "".join(traceback.format_exception(error))
    if debug:
        screen.say(story, err=True)
        return "this is a defect in Mofang; the story is above"
    state = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(state if state.startswith("/") else Path.home() / ".local/state") / "mofang"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "error.log"
        log.write_text(story)
    except OSError:
        return "this is a defect in Mofang; --debug shows the whole story"
    return f"this is a defect in Mofang; the whole story is in {log}, and --debug shows it"
