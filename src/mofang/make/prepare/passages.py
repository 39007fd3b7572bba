"""What a language model learns from: rows of a prompt, which is given, and a completion, which is learned.

JSON lines say which is which: ``{"prompt", "completion"}``, or ``{"messages"}``, a conversation whose last message is
learned, or ``{"text"}``, which is learned whole. Of text files every paragraph is a row. Texts stay as they were
written: a blank before a word belongs to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import InvalidDataset
from mofang.make.prepare import jsonl, text
from mofang.make.prepare.columns import Column
from mofang.make.prepare.csv import fail
from mofang.make.prepare.table import Table

PROMPT, MESSAGES, COMPLETION = "prompt", "messages", "completion"
_DOCUMENT = "document"  # by which paragraphs of text files can be split
_MOST_TEXTS = 1 << 24  # single precision counts no further
_FORMS = '{"prompt", "completion"}, {"messages"} or {"text"}'


@dataclass(frozen=True, slots=True)
class _Row:
    given: str  # the prompt, or the messages before the last as JSON
    completion: str
    kind: str = PROMPT
    apart: str = ""  # what rows are split by


def read(scheme: str, where: str, column: str = "") -> Table:
    """Read the file or folder ``where``; ``column`` names what rows are split by.

    The target is how many characters a completion has. Raises DatasetUnavailable, or InvalidDataset that names the
    line.
    """
    rows = _records(where, column) if scheme == "jsonl" else _paragraphs(where, column)
    texts, kinds = (_Texts(), _Texts()), set()
    apart = _Texts()
    positions, lengths, groups = [], [], []
    empty = 0
    for row in rows:
        if not row.completion.strip():
            empty += 1
            continue
        kinds.add(row.kind)
        positions.append((texts[0].position(row.given), texts[1].position(row.completion)))
        lengths.append(len(row.completion))
        groups.append(apart.position(row.apart))
    if max(len(each.known) for each in texts) > _MOST_TEXTS:
        raise InvalidDataset(f"{where!r} has more than {_MOST_TEXTS:,} different texts")
    if len(kinds) > 1:
        raise InvalidDataset(f"{where!r} holds prompts and conversations", hint="make a file of each")
    names = (kinds.pop() if kinds else PROMPT, COMPLETION)
    return Table(
        name=Path(where).stem,
        features=np.array(positions, np.float32).reshape(-1, 2),
        target=np.array(lengths, np.float64),
        names=names,
        columns=tuple(Column(name, "text") for name in names),
        texts={name: list(each.known) for name, each in zip(names, texts, strict=True)},
        removed={"no completion": empty} if empty else {},
        apart=_groups(groups) if column else None,
    )


def is_prose(path: Path) -> bool:
    """Tell whether the file or folder at ``path`` is text, and not JSON lines."""
    return path.is_dir() or not _begins_like_json(path)


def are_passages(columns: Sequence[Column]) -> bool:
    """Tell whether rows of these columns were read by this module: nothing was fitted to them."""
    names = tuple((column.name, column.encoding) for column in columns)
    return names in [((given, ""), (COMPLETION, "")) for given in (PROMPT, MESSAGES)]


@dataclass(slots=True)
class _Texts:
    known: dict[str, int] = field(default_factory=dict)

    def position(self, found: str) -> int:
        return self.known.setdefault(found, len(self.known))


def _groups(positions: list[int]) -> NDArray[np.float64]:
    return np.array(positions, np.float64)


def _begins_like_json(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
    except OSError:
        return False  # whoever reads it will tell


# --- JSON lines ---------------------------------------------------------------------------------------------------


def _records(where: str, column: str) -> Iterator[_Row]:
    for number, record in jsonl.rows_of(where):
        if column and column not in record:
            fail(where, number, f"there is no key {column!r}, by which the rows are to be split")
        apart = json.dumps(record.get(column), sort_keys=True) if column else ""
        given, completion, kind = _row(where, number, record)
        yield _Row(given, completion, kind, apart)


def _row(where: str, number: int, record: dict[str, Any]) -> tuple[str, str, str]:
    match record:
        case {"messages": list(messages)}:
            return _conversation(where, number, messages)
        case {"prompt": str(prompt), "completion": str(completion)}:
            return prompt, completion, PROMPT
        case {"text": str(whole)}:
            return "", whole, PROMPT
        case _:
            keys = ", ".join(map(repr, record)) or "of nothing"
            raise InvalidDataset(f"{where!r} line {number}: a record must be {_FORMS}, got the keys {keys}")


def _conversation(where: str, number: int, messages: list[Any]) -> tuple[str, str, str]:
    for message in messages:
        if not (isinstance(message, dict) and isinstance(message.get("role"), str) and _is_said(message)):
            fail(where, number, 'each of "messages" must be {"role": "...", "content": "..."}')
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        fail(where, number, 'the last of two or more "messages" must be of the role "assistant": it is what is learned')
    return json.dumps(messages[:-1], ensure_ascii=False), messages[-1]["content"], MESSAGES


def _is_said(message: dict[str, Any]) -> bool:
    return isinstance(message.get("content"), str)


# --- text ---------------------------------------------------------------------------------------------------------


def _paragraphs(where: str, column: str) -> Iterator[_Row]:
    if column not in ("", _DOCUMENT):
        raise InvalidDataset(f"{where!r}: paragraphs have no {column!r}", hint=f'column = "{_DOCUMENT}" splits by file')
    root = Path(where)
    for path in _files(root):
        document = path.relative_to(root).as_posix() if path != root else path.name
        for paragraph in text.paragraphs(path):
            yield _Row("", paragraph, PROMPT, document)


def _files(root: Path) -> Iterable[Path]:
    if not root.is_dir():
        return [root]
    files = sorted(path for path in root.rglob("*.txt") if not path.name.startswith("."))
    if not files:
        raise InvalidDataset(f"{str(root)!r} has no .txt file")
    return files
