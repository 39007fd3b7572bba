"""IDX folders and NumPy archives."""

import gzip
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mofang.base.domain.errors import InvalidDataset
from mofang.base.storage.blobs import DiskBlobs
from mofang.make.prepare.dataset import Dataset, load_split
from mofang.make.prepare.idx import read

Prepared = Callable[..., Dataset]
TRAIN, TEST = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2), np.full((3, 2, 2), 9, dtype=np.uint8)


def _idx(array: np.ndarray[Any, Any]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def _write(folder: Path, packed: bool = True) -> Path:
    folder.mkdir()
    contents = {
        "train-images-idx3-ubyte": TRAIN,
        "train-labels-idx1-ubyte": np.array([0, 1, 2] * 2, dtype=np.uint8),
        "t10k-images-idx3-ubyte": TEST,
        "t10k-labels-idx1-ubyte": np.array([0, 1, 2], dtype=np.uint8),
    }
    for name, array in contents.items():
        path = folder / (name + ".gz" if packed else name)
        path.write_bytes(gzip.compress(_idx(array)) if packed else _idx(array))
    return folder


@pytest.mark.parametrize("packed", [True, False])
def test_idx_folders_keep_their_own_split(prepared: Prepared, blobs: DiskBlobs, tmp_path: Path, packed: bool) -> None:
    folder = _write(tmp_path / "shapes", packed)
    (folder / "labels.txt").write_text("disc\nbox\nstar\n")
    dataset = prepared(f"idx:{folder}")
    assert (dataset.name, dataset.schema.labels) == ("shapes", ("disc", "box", "star"))
    assert (load_split(blobs, dataset, "train")[0] == TRAIN.reshape(6, 4)).all()
    assert (load_split(blobs, dataset, "test")[0] == TEST.reshape(3, 4)).all()


def test_fashion_mnist_is_known_by_its_folder(tmp_path: Path) -> None:
    assert read(str(_write(tmp_path / "fashion-mnist"))).labels[:2] == ("T-shirt/top", "Trouser")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(_idx(TRAIN), mtime=0)[:-20], "is damaged"),
        (gzip.compress(b"\0\0\x08\x03" + b"\xff" * 8 + bytes(4), mtime=0), "is empty"),
        (b"not gzip at all", "is damaged"),
        (gzip.compress(b"hello world", mtime=0), "is no IDX file"),
        (gzip.compress(_idx(TRAIN)[:9], mtime=0), "ends inside its header"),
        (gzip.compress(_idx(TRAIN)[:-1], mtime=0), "promises 24 bytes of data and holds only 23"),
        (gzip.compress(_idx(TRAIN) + b"x", mtime=0), "promises 24 bytes of data and holds more"),
        (gzip.compress(_idx(TRAIN[:5]), mtime=0), "5 images for 6 labels"),
        (gzip.compress(bytes([0, 0, 8, 3]) + b"\xff" * 12, mtime=0), "are the limit"),
    ],
)
def test_damaged_idx_files_are_told(tmp_path: Path, content: bytes, message: str) -> None:
    folder = _write(tmp_path / "a")
    (folder / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(InvalidDataset, match=message):
        read(str(folder))


def test_a_class_that_is_only_tested_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    folder = _write(tmp_path / "a")
    lacking = np.array([0, 1] * 3, dtype=np.uint8)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(_idx(lacking)))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(_idx(np.array([2, 2, 0], dtype=np.uint8))))
    with pytest.raises(InvalidDataset, match="class '2' has no training row"):
        prepared(f"idx:{folder}")


def test_archives_are_flattened_and_split(prepared: Prepared, tmp_path: Path) -> None:
    path = tmp_path / "cubes.npz"
    np.savez(path, x=np.random.default_rng(0).normal(size=(40, 2, 3)), y=np.array(["left", "right"] * 20))
    dataset = prepared(f"npz:{path}")
    assert (dataset.name, dataset.schema.features, dataset.schema.labels) == ("cubes", 6, ("left", "right"))
    assert dataset.splits["test"].rows == 8


def test_archives_may_have_a_split_of_their_own(prepared: Prepared, tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    np.savez_compressed(path, x_train=TRAIN, y_train=[0, 1] * 3, x_test=TEST, y_test=[0, 1, 1])
    dataset = prepared(f"npz:{path}")
    assert (dataset.splits["train"].rows, dataset.splits["test"].rows, dataset.schema.dtype) == (6, 3, "uint8")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": TRAIN}, "has no array 'y'; it has"),
        ({"x": TRAIN, "y": np.zeros(5, int)}, "must be 6 numbers or texts"),
        ({"x": TRAIN, "y": np.zeros(6, complex)}, "must be 6 numbers or texts, got complex128"),
        ({"x": np.array([["a"]] * 6), "y": np.zeros(6, int)}, "must be numbers"),
        ({"x": np.array([[{}]] * 6), "y": np.zeros(6, int)}, "cannot be read as .npz"),
    ],
)
def test_archives_that_do_not_fit_are_told(
    prepared: Prepared, tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InvalidDataset, match=message):
        prepared(f"npz:{tmp_path / 'a.npz'}")


@pytest.mark.parametrize("scheme", ["npy", "npz"])
@pytest.mark.parametrize("header", [b"{'descr': '<f8', (", b"{'descr': '<f8', 'shape': (", b"\x00", b"(" * 900])
def test_headers_of_numpy_that_cannot_be_read_are_told(
    prepared: Prepared, tmp_path: Path, scheme: str, header: bytes
) -> None:
    content, path = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header, tmp_path / f"a.{scheme}"
    if scheme == "npy":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("x.npy", "y.npy"):
                archive.writestr(name, content)
    with pytest.raises(InvalidDataset, match=f"cannot be read as .{scheme}"):
        prepared(f"{scheme}:{path}" if scheme == "npz" else f"file:{path}")


def test_a_member_that_is_no_array_is_told(prepared: Prepared, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name in ("x.npy", "y.npy"):
            archive.writestr(name, b"no array")
    with pytest.raises(InvalidDataset, match="must be numbers"):
        prepared(f"npz:{tmp_path / 'a.npz'}")
