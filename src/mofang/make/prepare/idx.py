"""Folders of IDX files, the format of MNIST and its kin, plain or gzipped.

The format: http://yann.lecun.com/exdb/mnist (two zero bytes, a type byte, the number of dimensions, their sizes as
big-endian 32-bit integers, then the values).
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import DatasetUnavailable, InvalidDataset
from mofang.make.prepare.table import Table

MAX_BYTES = 4 << 30
_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_LABELS = {
    "fashion-mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )
}  # fmt: skip


def read(where: str) -> Table:
    """Read the train and t10k files of the folder ``where``; class names come from its labels.txt, if it has one."""
    folder = Path(where)
    parts = [_read(folder, f"{split}-{kind}") for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    for images, labels in (parts[:2], parts[2:]):
        if len(images) != len(labels) or images.ndim < 2 or labels.ndim != 1:
            raise InvalidDataset(f"{where!r} has {len(images)} images for {len(labels)} labels")
    train, test = parts[::2]
    if train.shape[1:] != test.shape[1:]:
        sizes = " and ".join(" x ".join(map(str, images.shape[1:])) for images in (train, test))
        raise InvalidDataset(f"images of {where!r} differ in size: {sizes} pixels")
    return Table(
        name=folder.name,
        features=np.concatenate([train, test]),
        target=np.concatenate(parts[1::2]),
        test_rows=len(test),
        labels=_labels(folder),
    )


def _labels(folder: Path) -> tuple[str, ...]:
    try:
        return tuple((folder / "labels.txt").read_text("utf-8").split("\n")[:-1])
    except FileNotFoundError:
        return _LABELS.get(folder.name, ())


def _read(folder: Path, stem: str) -> NDArray[Any]:
    plain, packed = folder / f"{stem}-ubyte", folder / f"{stem}-ubyte.gz"
    try:
        with plain.open("rb") if plain.exists() else gzip.open(packed) as file:
            return _array(file, f"{folder / stem}-ubyte")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InvalidDataset(f"{str(packed)!r} is damaged: {error}") from error
    except OSError as error:
        raise DatasetUnavailable(f"{str(packed)!r} cannot be read: {error.strerror}") from error


def _array(file: BinaryIO | gzip.GzipFile, path: str) -> NDArray[Any]:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _DTYPES or not 1 <= start[3] <= 4:
        raise InvalidDataset(f"{path!r} is no IDX file")
    sizes = file.read(4 * start[3])
    if len(sizes) < 4 * start[3]:
        raise InvalidDataset(f"{path!r} ends inside its header")
    shape = struct.unpack(f">{start[3]}I", sizes)
    dtype = np.dtype(_DTYPES[start[2]])
    expected = math.prod(shape) * dtype.itemsize
    if 0 in shape:
        raise InvalidDataset(f"{path!r} is empty: its dimensions are {list(shape)}")
    if expected > MAX_BYTES:
        raise InvalidDataset(f"{path!r} promises {expected} bytes; {MAX_BYTES} are the limit")
    data = file.read(expected + 1)
    if len(data) != expected:
        found = "more" if len(data) > expected else f"only {len(data)}"
        raise InvalidDataset(f"{path!r} promises {expected} bytes of data and holds {found}")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
