"""Data from S3, or from what speaks as S3 does: one object, or all below a prefix that ends in a slash.

Credentials, region and endpoint are the server's own, from the usual variables (``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION``, ``AWS_ENDPOINT_URL``), which is why only who operates the server may name
such a source. Breaks in the middle of an object are mended by the library.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from mofang.base.domain.errors import DatasetUnavailable, InvalidDataset
from mofang.base.domain.registry import FileEntry, check_files
from mofang.base.domain.work import Progress
from mofang.make.prepare.http import MOST_BYTES

_MOST_OBJECTS = 1_000_000
_PIECE_BYTES = 8 << 20


def fetch(source: str, scratch: Path, progress: Progress) -> Path:
    """Fetch ``s3://BUCKET/KEY`` into ``scratch``; return the file, or the folder. Raises DatasetUnavailable."""
    bucket, _, key = source.removeprefix("s3://").partition("/")
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    try:
        store = S3Store(bucket, client_options={"allow_http": endpoint.startswith("http:")})
        objects = [*_objects(store, key)] if key.endswith("/") else [obstore.head(store, key)]
    except (BaseError, FileNotFoundError, PermissionError, OSError) as error:
        raise DatasetUnavailable(f"{source} cannot be read: {_first_line(error)}") from error
    total = sum(each["size"] for each in objects)
    if not objects:
        raise DatasetUnavailable(f"nothing is stored below {source}")
    if total > MOST_BYTES:
        raise InvalidDataset(f"{source} has {total:,} bytes, more than {MOST_BYTES:,}, the limit", hint="fetch less")
    root, done = scratch / "fetched", 0
    inside = {each["path"]: _inside(each["path"], key) for each in objects}
    check_files(FileEntry(path, "", 0) for path in inside.values())
    for each in objects:
        path = root / inside[each["path"]]
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("wb") as file:
                for piece in obstore.get(store, each["path"]).stream(min_chunk_size=_PIECE_BYTES):
                    file.write(piece)
                    done += len(piece)
                    progress.report("prepare", 0.3 * done / max(total, 1), f"fetching {source}", bytes=done)
        except (BaseError, OSError) as error:
            raise DatasetUnavailable(f"{source} broke off: {_first_line(error)}") from error
    return root if key.endswith("/") else root / inside[key]


def _objects(store: Any, prefix: str) -> Iterator[Any]:
    count = 0
    for batch in obstore.list(store, prefix=prefix):
        count += len(batch)
        if count > _MOST_OBJECTS:
            raise InvalidDataset(f"{prefix!r} has more than {_MOST_OBJECTS:,} objects, the limit")
        yield from batch


def _inside(path: str, key: str) -> str:
    return path.removeprefix(key) if key.endswith("/") else path.rpartition("/")[2]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
