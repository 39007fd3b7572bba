"""Drawing on the terminal: headings, aligned fields, tables, and what to do next.

Colour appears only where a person looks (a terminal, and NO_COLOR unset); a pipe gets the same words plain.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

_GOOD = {"ready", "done", "succeeded", "passed", "ok", "running", "serving"}
_BAD = {"failed", "broken", "cancelled", "revoked", "expired", "damaged"}


def say(text: str = "", *, err: bool = False) -> None:
    """Print a line, in colour only to a terminal of somebody who wants it."""
    stream = sys.stderr if err else sys.stdout
    click.echo(text, err=err, color=stream.isatty() and not os.environ.get("NO_COLOR"))


def heading(text: str) -> None:
    """Print what happened: the first line of a screen."""
    say(click.style(text, bold=True))


def fields(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print names and values under each other, values aligned; empty values are left out."""
    shown = [(name, str(value)) for name, value in pairs if value not in ("", None)]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        indented = value.replace("\n", "\n" + " " * (width + 4))
        say(f"  {click.style(f'{name:<{width}}', dim=True)}  {indented}")


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str = "") -> None:
    """Print a table. A head that starts with ``>`` aligns its column to the right; ``empty`` is said if no rows."""
    if not rows:
        say(empty or "none")
        return
    names = [head.removeprefix(">") for head in heads]
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(name), *(len(row[i]) for row in cells)) for i, name in enumerate(names)]
    say(click.style(_line(heads, names, widths), dim=True))
    for row in cells:
        line = _line(heads, row, widths)
        for word in {*row} & (_GOOD | _BAD):
            line = line.replace(word, state(word), 1) if sys.stdout.isatty() else line
        say(line)


def _line(heads: Sequence[str], cells: Sequence[str], widths: Sequence[int]) -> str:
    parts = zip(heads, cells, widths, strict=True)
    return "  ".join(f"{c:>{w}}" if head.startswith(">") else f"{c:<{w}}" for head, c, w in parts).rstrip()


def state(word: str) -> str:
    """Colour a state: green if it is well, red if it is not."""
    colour = "green" if word in _GOOD else "red" if word in _BAD else None
    return click.style(word, fg=colour) if colour else word


def then(*commands: str) -> None:
    """Print what to do next: the last lines of a screen."""
    say()
    for number, command in enumerate(commands):
        say(click.style("next: " if number == 0 else "      ", dim=True) + command)
