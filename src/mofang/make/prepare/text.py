"""Folders of text files: one folder for each class. Every paragraph is a row, and knows its document.

Rows of one document resemble each other, so that a split must not divide them: [prepare.split] by = "group" and
column = "document".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mofang.base.domain.errors import DatasetUnavailable, InvalidDataset
from mofang.make.prepare.stream import CHUNK_ROWS, Chunk, Stream

NAMES = ("text", "document", "label")
_PARAGRAPHS = re.compile(r"\n\s*\n")


def read(where: str) -> Stream:
    """Open the folder ``where`` of class/document.txt; raise DatasetUnavailable or InvalidDataset."""
    root = Path(where)
    if not root.is_dir():
        raise DatasetUnavailable(f"{where!r} cannot be read: it is no folder")
    files = sorted(path for path in root.glob("*/*.txt") if not path.name.startswith("."))
    if not files:
        raise InvalidDataset(f"{where!r} has no .txt file in a folder of a class", hint="like news/monday.txt")
    return Stream(where, NAMES, _chunks(files, root), {"text": "text", "document": None})


def _chunks(files: list[Path], root: Path) -> Iterator[Chunk]:
    rows: list[tuple[str, str, str]] = []
    for path in files:
        document = path.relative_to(root).as_posix()
        rows.extend((paragraph, document, path.parent.name) for paragraph in paragraphs(path))
        if len(rows) >= CHUNK_ROWS:
            yield _chunk(rows)
            rows = []
    if rows:
        yield _chunk(rows)


def paragraphs(path: Path) -> Iterator[str]:
    """Yield the paragraphs of a file, each in one line. Raises DatasetUnavailable or InvalidDataset."""
    try:
        content = path.read_text("utf-8")
    except OSError as error:
        raise DatasetUnavailable(f"{str(path)!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidDataset(f"{str(path)!r} cannot be read as UTF-8 text: {error}") from error
    yield from filter(None, (" ".join(part.split()) for part in _PARAGRAPHS.split(content)))


def _chunk(rows: list[tuple[str, str, str]]) -> Chunk:
    texts, documents, labels = zip(*rows, strict=True)
    return Chunk([texts, documents, labels], lambda row: documents[row])
