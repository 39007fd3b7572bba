from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mofang.base.domain.errors import BlobNotFound, DigestMismatch, InvalidPath
from mofang.base.domain.registry import FileEntry
from mofang.base.storage.blobs import BlobRef, DiskBlobs


@pytest.fixture
def blobs(tmp_path: Path) -> DiskBlobs:
    return DiskBlobs(tmp_path / "blobs")


def _entry(path: str, ref: BlobRef) -> FileEntry:
    return FileEntry(path, ref.sha256, ref.size_bytes)


def _damage(blobs_root: Path, sha256: str) -> None:
    path = blobs_root / sha256[:2] / sha256
    path.chmod(0o644)
    path.write_bytes(b"tampered")


def test_what_is_put_is_read(blobs: DiskBlobs) -> None:
    ref = blobs.put([b"one ", b"", b"two"])
    assert ref == BlobRef(hashlib.sha256(b"one two").hexdigest(), 7)
    assert blobs.read(ref.sha256) == b"one two"
    with blobs.open(ref.sha256) as file:
        assert file.read(3) == b"one"


def test_a_file_and_its_bytes_have_one_address(blobs: DiskBlobs, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"same")
    assert blobs.put_file(tmp_path / "file") == blobs.put([b"same"])


def test_a_source_that_fails_leaves_nothing(blobs: DiskBlobs, tmp_path: Path) -> None:
    def source() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        blobs.put(source())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("address", ["0" * 64, "", "../../etc/passwd", "A" * 64])
def test_an_address_of_nothing(blobs: DiskBlobs, address: str) -> None:
    with pytest.raises(BlobNotFound):
        blobs.read(address)
    with pytest.raises(BlobNotFound):
        blobs.open(address)


def test_damage_is_found_and_healed_by_putting_again(blobs: DiskBlobs, tmp_path: Path) -> None:
    ref = blobs.put([b"weights"])
    _damage(tmp_path / "blobs", ref.sha256)
    with pytest.raises(DigestMismatch):
        blobs.read(ref.sha256)
    with pytest.raises(DigestMismatch):
        blobs.materialise([_entry("model.onnx", ref)], tmp_path / "model")
    assert not (tmp_path / "model").exists()
    blobs.put([b"weights"])
    assert blobs.read(ref.sha256) == b"weights"


def test_a_folder_is_made_of_links_once(blobs: DiskBlobs, tmp_path: Path) -> None:
    entries = [_entry("model.onnx", blobs.put([b"graph"])), _entry("data/weights", blobs.put([b"weights"]))]
    folder = blobs.materialise(entries, tmp_path / "models" / "digits")
    assert (folder / "model.onnx").read_bytes() == b"graph"
    assert (folder / "data" / "weights").read_bytes() == b"weights"
    assert (folder / "model.onnx").stat().st_nlink == 2
    inode = folder.stat().st_ino
    assert blobs.materialise(entries, folder).stat().st_ino == inode
    assert [path.name for path in folder.parent.iterdir()] == ["digits"]


@pytest.mark.parametrize("change", ["edit", "remove", "add", "link"])
def test_a_folder_that_was_changed_is_made_again(blobs: DiskBlobs, tmp_path: Path, change: str) -> None:
    entries = [_entry("model.onnx", blobs.put([b"graph"]))]
    model = blobs.materialise(entries, tmp_path / "digits") / "model.onnx"
    if change != "add":
        model.unlink()
    if change == "edit":
        model.write_bytes(b"hpbrg")
    if change == "link":
        (tmp_path / "elsewhere").write_bytes(b"graph")
        model.symlink_to(tmp_path / "elsewhere")
    if change == "add":
        (model.parent / "more").write_bytes(b"")
    blobs.materialise(entries, tmp_path / "digits")
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["model.onnx"]
    assert model.read_bytes() == b"graph"
    assert not model.is_symlink()


def test_an_object_that_is_missing_makes_no_folder(blobs: DiskBlobs, tmp_path: Path) -> None:
    with pytest.raises(BlobNotFound, match=r"model\.onnx"):
        blobs.materialise([FileEntry("model.onnx", "0" * 64, 1)], tmp_path / "digits")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "paths",
    [["../x"], ["/x"], ["a/../x"], [""], ["."], ["a//b"], ["a/"], ["./a"], ["a\0"], ["a\\b"], ["a", "a"], ["a", "a/b"]],
)
def test_a_path_out_of_the_folder(blobs: DiskBlobs, tmp_path: Path, paths: list[str]) -> None:
    ref = blobs.put([b"x"])
    with pytest.raises(InvalidPath):
        blobs.materialise([_entry(path, ref) for path in paths], tmp_path / "deep" / "folder")
    assert not (tmp_path / "deep").exists()


@given(st.text(max_size=12))
def test_no_path_leaves_the_folder(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    root = tmp_path_factory.mktemp("any")
    blobs = DiskBlobs(root / "blobs")
    ref = blobs.put([b"x"])
    try:
        folder = blobs.materialise([_entry(path, ref)], root / "deep" / "folder")
    except InvalidPath:
        return
    assert (folder / path).resolve().is_relative_to(folder)
    assert (folder / path).read_bytes() == b"x"


def test_unfinished_objects_are_swept_when_they_are_old(blobs: DiskBlobs, tmp_path: Path) -> None:
    blobs.put([b"x"])
    for name, age in (("old", 0), ("new", 4_000_000_000)):
        path = tmp_path / "blobs" / "unfinished" / name
        path.touch()
        os.utime(path, (age, age))
    assert blobs.sweep() == 1
    assert [path.name for path in (tmp_path / "blobs" / "unfinished").iterdir()] == ["new"]


_FULL_DISK = """
import resource, sys
from pathlib import Path
from mofang.base.domain.errors import StorageFull
from mofang.base.storage.blobs import DiskBlobs

blobs = DiskBlobs(Path(sys.argv[1]))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
try:
    blobs.put(b"x" * 1000 for _ in range(1000))
except StorageFull as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
print(blobs.put(b"x" * 1000 for _ in range(1000)).size_bytes)
"""


def test_a_full_disk_leaves_nothing_half_written(run_child: Callable[..., list[str]], tmp_path: Path) -> None:
    message, size = run_child(_FULL_DISK, tmp_path)
    assert message == "an object could not be written: the file size limit is reached"
    assert size == "1000000"
    assert [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()] == [1_000_000]
