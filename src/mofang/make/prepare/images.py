"""Folders and zip archives of PNG and JPEG files: one folder for each class, perhaps inside folders train and test.

A file that cannot be decoded is left out, counted, and named. Archives are read in place, never unpacked to the disk.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import DatasetUnavailable, ExtraMissing, InvalidDataset, TensorData
from mofang.make.prepare.table import Table

MAX_BYTES = 16 << 30
MAX_FILE_BYTES = 64 << 20
_SUFFIXES = (".png", ".jpg", ".jpeg")
_CORRUPT = "images that cannot be decoded"


@dataclass(frozen=True, slots=True)
class _Image:
    path: str
    label: str
    is_test: bool
    size_bytes: int


def read(where: str, size: Sequence[int], colour: str) -> Table:
    """Read the folder or .zip ``where`` as pixels [n, height, width(, 3)], uint8; ``size`` is (height, width) or empty.

    Folders name the classes. Raises DatasetUnavailable if it is not there, InvalidDataset if it cannot be used, and
    ExtraMissing without Pillow.
    """
    with _opened(Path(where)) as (paths, load):
        images = sorted(_images(paths), key=lambda image: (image.is_test, image.path))
        if not images:
            raise InvalidDataset(
                f"{where!r} has no image in a folder of a class",
                hint="put PNG or JPEG files into one folder for each class: cat/1.png, dog/7.jpg",
            )
        return _read(Path(where).stem, images, load, tuple(size), colour)


def _read(name: str, images: list[_Image], load: Callable[[str], bytes], size: tuple[int, ...], colour: str) -> Table:
    try:
        from mofang.base.engines.pillow import pixels
    except ModuleNotFoundError as error:
        raise ExtraMissing.of("reading images", "pillow", "images") from error
    height, width = size or _common_size(images, load)
    channels = 3 if colour == "rgb" else 0
    features = np.empty((len(images), height, width, *([channels] if channels else [])), np.uint8)
    kept: list[_Image] = []
    notes: list[str] = []
    for image in images:
        try:
            features[len(kept)] = pixels(load(image.path), (height, width), channels, image.path)
        except TensorData as error:
            notes.append(error.message)
        else:
            kept.append(image)
    labels = tuple(sorted({image.label for image in kept}))
    return Table(
        name=name,
        features=features[: len(kept)],
        target=_indices(kept, labels),
        test_rows=sum(image.is_test for image in kept),
        labels=labels,
        removed={_CORRUPT: len(notes)} if notes else {},
        notes=tuple(notes),
        encoded=True,
    )


def _indices(images: list[_Image], labels: tuple[str, ...]) -> NDArray[np.int64]:
    index = {label: position for position, label in enumerate(labels)}
    return np.array([index[image.label] for image in images], np.int64)


def _common_size(images: list[_Image], load: Callable[[str], bytes]) -> tuple[int, int]:
    """Return the one size all images have; raise InvalidDataset if they differ."""
    from mofang.base.engines.pillow import measure

    found: dict[tuple[int, int], str] = {}
    for image in images:
        try:
            found.setdefault(measure(load(image.path), image.path), image.path)
        except TensorData:
            continue  # left out, and told, when it is decoded
        if len(found) > 1:
            sizes = " and ".join(f"{h} x {w} ({path})" for (h, w), path in found.items())
            raise InvalidDataset(f"images differ in size: {sizes}", hint="say to which: [prepare] size = [64, 64]")
    if not found:
        raise InvalidDataset("no image can be decoded")
    return next(iter(found))


def _images(paths: Iterator[tuple[str, int]]) -> Iterator[_Image]:
    """Yield what lies in the folder of a class, and below ``test`` or ``train`` if the top has both."""
    found = []
    for path, size_bytes in paths:
        parts = PurePosixPath(path).parts
        hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
        if len(parts) > 1 and not hidden and parts[-1].lower().endswith(_SUFFIXES):
            found.append((path, parts, size_bytes))
    depth = _shared_depth([parts for _, parts, _ in found])
    split = {"train", "test"} <= {parts[depth] for _, parts, _ in found if len(parts) > depth + 2}
    for path, parts, size_bytes in found:
        inner = parts[depth:]
        if size_bytes > MAX_FILE_BYTES:
            raise InvalidDataset(f"{path!r} has {size_bytes:,} bytes; {MAX_FILE_BYTES:,} are the limit for an image")
        if split and inner[0] in ("train", "test") and len(inner) > 2:
            yield _Image(path, inner[1], inner[0] == "test", size_bytes)
        elif not split and len(inner) > 1:
            yield _Image(path, inner[0], False, size_bytes)


def _shared_depth(paths: list[tuple[str, ...]]) -> int:
    """Return how many folders at the top hold all the others, as archives often have one of the archive's name."""
    depth = 0
    while paths and all(len(parts) > depth + 2 for parts in paths) and len({parts[depth] for parts in paths}) == 1:
        depth += 1
    return depth


@contextmanager
def _opened(root: Path) -> Iterator[tuple[Iterator[tuple[str, int]], Callable[[str], bytes]]]:
    """Give the paths and sizes of all files, and what reads one."""
    try:
        if root.is_dir():
            files = (
                path for path in root.rglob("*") if path.is_file() and path.resolve().is_relative_to(root.resolve())
            )
            sizes = ((path.relative_to(root).as_posix(), path.stat().st_size) for path in files)
            yield sizes, lambda path: (root / path).read_bytes()
            return
        with zipfile.ZipFile(root) as archive:
            members = [(info.filename, info.file_size) for info in archive.infolist() if not info.is_dir()]
            if sum(size for _, size in members) > MAX_BYTES:
                raise InvalidDataset(f"{str(root)!r} unpacks to more than {MAX_BYTES} bytes")
            yield iter(members), archive.read
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InvalidDataset(f"{str(root)!r} is no folder and cannot be read as .zip: {error}") from error
    except OSError as error:
        raise DatasetUnavailable(f"{str(root)!r} cannot be read: {error.strerror or error}") from error
