"""NumPy archives: arrays ``x`` and ``y``, or ``x_train``, ``y_train``, ``x_test`` and ``y_test``."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import DatasetUnavailable, InvalidDataset
from mofang.make.prepare.npy import DAMAGED
from mofang.make.prepare.table import Table

MAX_BYTES = 4 << 30
_WHOLE, _SPLIT = ("x", "y"), ("x_train", "y_train", "x_test", "y_test")


def read(where: str) -> Table:
    """Read the archive ``where``; images [n, height, width(, channels)] of uint8 stay so, the rest is flattened."""
    path = Path(where)
    try:
        return _table(path)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, *DAMAGED) as error:
        raise InvalidDataset(f"{where!r} cannot be read as .npz: {error}") from error
    except OSError as error:
        raise DatasetUnavailable(f"{where!r} cannot be read: {error.strerror}") from error


def _table(path: Path) -> Table:
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
            raise InvalidDataset(f"{str(path)!r} unpacks to more than {MAX_BYTES} bytes")
    with np.load(path, allow_pickle=False) as arrays:
        wanted = _SPLIT if "x_train" in arrays else _WHOLE
        missing = [name for name in wanted if name not in arrays]
        if missing:
            raise InvalidDataset(
                f"{str(path)!r} has no array {missing[0]!r}; it has {sorted(arrays)}",
                hint="name them x and y, or x_train, y_train, x_test and y_test",
            )
        parts = [np.asarray(arrays[name]) for name in wanted]  # bytes, if a member is no array
    for features, target in zip(parts[::2], parts[1::2], strict=True):
        _check(str(path), features, target)
    flat = [features if _are_images(features) else features.reshape(len(features), -1) for features in parts[::2]]
    if len({rows.shape[1:] for rows in flat}) > 1:
        raise InvalidDataset(f"rows of {str(path)!r} differ in size between the splits")
    test_rows = len(flat[1]) if len(flat) > 1 else 0
    return Table(path.stem, np.concatenate(flat), np.concatenate(parts[1::2]), test_rows)


def _are_images(features: NDArray[Any]) -> bool:
    return features.dtype == np.uint8 and (features.ndim == 3 or (features.ndim == 4 and features.shape[3] in (1, 3)))


def _check(path: str, features: NDArray[Any], target: NDArray[Any]) -> None:
    if features.dtype.kind not in "biuf" or features.ndim < 2 or features.size == 0:
        raise InvalidDataset(f"x of {path!r} must be numbers [rows, features], got {features.dtype} {features.shape}")
    if target.dtype.kind not in "biufSU" or target.shape != (len(features),):
        raise InvalidDataset(
            f"y of {path!r} must be {len(features)} numbers or texts, got {target.dtype} {list(target.shape)}"
        )
