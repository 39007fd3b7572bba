"""Which line of a TOML text says what.

The parser of the standard library forgets lines, and messages need them. Since the text as a whole is known to be
valid TOML, each statement of it can be parsed alone: lines are joined until they parse.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Path = tuple[str, ...]


def locate(text: str) -> dict[Path, int]:
    """Return the line (from 1) of every section and key of a valid TOML text, by its path, e.g. ("train", "epochs").

    What stands in the second of several ``[[price]]`` is found as ("price", "1", "meter"); without the number, the
    first that says it.
    """
    found: dict[Path, int] = {}
    section: Path = ()
    numbered: Path = ()
    arrays: Counter[Path] = Counter()
    for line, statement, parsed in _statements(text):
        if statement.lstrip().startswith("["):
            section = _innermost(parsed)
            numbered = _number(section, arrays, is_array=statement.lstrip().startswith("[["))
            paths: Iterable[Path] = [()]
        else:
            paths = _paths(parsed)
        for path in paths:
            found.setdefault(section + path, line)
            found.setdefault(numbered + path, line)
    return found


def _number(section: Path, arrays: Counter[Path], *, is_array: bool) -> Path:
    """Put after the name of each array of tables which of its tables is meant: the last one so far."""
    numbered: Path = ()
    for place, name in enumerate(section):
        numbered += (name,)
        if is_array and place == len(section) - 1:
            arrays[numbered] += 1
        if numbered in arrays:
            numbered += (str(arrays[numbered] - 1),)
    return numbered


def _statements(text: str) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    statement, first = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        first = first if statement else number
        statement += line + "\n"
        try:
            parsed = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue  # an array or a text that goes on in the next line
        if parsed:
            yield first, statement, parsed
        statement = ""


def _innermost(header: Mapping[str, Any]) -> Path:
    path: Path = ()
    table: Any = header
    while table:
        key, table = next(iter(table.items()))
        table = table[0] if isinstance(table, list) else table
        path += (key,)
    return path


def _paths(table: Mapping[str, Any]) -> Iterator[Path]:
    for key, value in table.items():
        yield (key,)
        if isinstance(value, dict):
            for rest in _paths(value):
                yield (key, *rest)
