import threading
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from mofang.base.domain.errors import AdapterRefused, DigestMismatch, InvalidName, ModelNotFound, VersionNotFound
from mofang.base.domain.names import VersionRef
from mofang.base.domain.registry import Artifact, FileEntry, Lineage
from mofang.base.domain.tensors import Signature, TensorSpec
from mofang.base.engines.adapters import ENGINE, FILES
from mofang.base.storage.blobs import DiskBlobs
from mofang.base.storage.database import Database
from mofang.make.register.adapters import attach
from mofang.make.register.store import Registry

LINEAGE = Lineage("train", run="run_1", dataset="sha256:dd", recipe="sha256:ee", code="mofang 0.1.0")
SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "INT64", (-1,)),))


@pytest.fixture
def blobs(tmp_path: Path) -> DiskBlobs:
    return DiskBlobs(tmp_path / "blobs")


@pytest.fixture
def registry(database: Database, blobs: DiskBlobs) -> Registry:
    return Registry(database, blobs)


def _artifact(blobs: DiskBlobs, content: bytes) -> Artifact:
    ref = blobs.put([content])
    return Artifact("onnx", (FileEntry("model.onnx", ref.sha256, ref.size_bytes),), SIGNATURE, ("ä", "b"))


def _adapter(blobs: DiskBlobs, content: bytes) -> Artifact:
    """A LoRA adapter as PEFT saves it."""
    saved = [(name, blobs.put([content, name.encode()])) for name in FILES]
    files = tuple(FileEntry(name, ref.sha256, ref.size_bytes) for name, ref in saved)
    return Artifact(ENGINE, files, SIGNATURE)


def test_versions_are_numbered_per_model_and_come_back_whole(registry: Registry, blobs: DiskBlobs) -> None:
    first, created = registry.register("digits", _artifact(blobs, b"1"), LINEAGE, {"accuracy": 0.9})
    second, _ = registry.register("digits", _artifact(blobs, b"2"), Lineage())
    other, _ = registry.register("letters", _artifact(blobs, b"1"), Lineage())
    assert (str(first), str(second), str(other), created) == ("digits@1", "digits@2", "letters@1", True)
    assert first.digest == _artifact(blobs, b"1").digest

    assert registry.get(VersionRef.parse("digits@1")) == first
    assert registry.get(VersionRef.parse("digits")) == second
    assert registry.find(VersionRef.parse("digits@3")) is None
    assert registry.find_digest(first.digest) == registry.find_digest(first.digest[:20]) == [first, other]
    assert registry.find_digest(second.digest) == [second]
    assert registry.find_digest("sha256:" + "0" * 12) == []


def test_a_base_with_an_adapter_has_a_digest_of_its_own_and_names_those_of_both(
    registry: Registry, blobs: DiskBlobs
) -> None:
    base, _ = registry.register("smol", replace(_artifact(blobs, b"1"), engine="llamacpp"), LINEAGE)
    terse, _ = registry.register("terse", _adapter(blobs, b"2"), Lineage())
    served = attach(registry, base, "terse", VersionRef("terse"))
    assert attach(registry, base, "terse", VersionRef("terse")) == served
    (whole,) = registry.find_digest(served.digest)
    assert (str(whole), served.version) == ("smol@1+terse", "terse@1")
    assert (whole.lineage.parent, whole.lineage.adapter) == (base.digest, terse.digest)
    other, _ = registry.register("terse", _adapter(blobs, b"3"), Lineage())
    again = attach(registry, base, "terse", VersionRef("terse"))  # the next version of the adapter
    of_gguf = Artifact(ENGINE, (FileEntry("adapter.gguf", "0" * 64, 4),), SIGNATURE)
    registry.register("raw", of_gguf, Lineage())
    assert attach(registry, base, "raw", VersionRef("raw")).version == "raw@1"
    folder, _ = registry.register("folder", replace(_artifact(blobs, b"4"), engine="transformers"), LINEAGE)
    with pytest.raises(AdapterRefused, match=r"'transformers' reads no adapter of the file 'adapter\.gguf'"):
        attach(registry, folder, "raw", VersionRef("raw"))
    assert len({base.digest, terse.digest, other.digest, served.digest, again.digest}) == 5


def test_the_same_artifact_again_is_the_same_version(registry: Registry, blobs: DiskBlobs) -> None:
    first, _ = registry.register("digits", _artifact(blobs, b"1"), LINEAGE, {"accuracy": 0.9})
    again, created = registry.register("digits", _artifact(blobs, b"1"), Lineage(), {"accuracy": 0.1})
    assert (again, created) == (first, False)
    assert len(registry.list_versions("digits")) == 1


def test_versions_registered_at_once_get_numbers_of_their_own(registry: Registry, blobs: DiskBlobs) -> None:
    artifacts = [_artifact(blobs, b"%d" % i) for i in range(8)]
    numbers: list[int] = []

    def register(artifact: Artifact) -> None:
        numbers.append(registry.register("digits", artifact, Lineage())[0].number)

    threads = [threading.Thread(target=register, args=(artifact,)) for artifact in artifacts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 9))


def test_an_alias_moves(registry: Registry, blobs: DiskBlobs) -> None:
    for content in (b"1", b"2"):
        registry.register("digits", _artifact(blobs, content), Lineage())
    assert registry.set_alias("digits", "champion", 1).aliases == ("champion",)
    registry.set_alias("digits", "newest", 2)
    assert registry.set_alias("digits", "champion", 2).aliases == ("champion", "newest")
    assert registry.get(VersionRef.parse("digits@champion")).number == 2
    assert registry.get(VersionRef.parse("digits@1")).aliases == ()
    assert [model.aliases for model in registry.list_models()] == [{"champion": 2, "newest": 2}]


def test_an_alias_must_be_a_word_for_a_version_there_is(registry: Registry, blobs: DiskBlobs) -> None:
    registry.register("digits", _artifact(blobs, b"1"), Lineage())
    with pytest.raises(InvalidName, match="'7' of model 'digits' looks like a version number"):
        registry.set_alias("digits", "7", 1)
    for bad in ("Champion", "../x", "", "a b"):
        with pytest.raises(InvalidName):
            registry.set_alias("digits", bad, 1)
    for number in (0, -1, 2, 10**30):
        with pytest.raises((VersionNotFound, InvalidName)):
            registry.set_alias("digits", "champion", number)
    assert registry.list_models()[0].aliases == {}


def test_what_is_not_there_is_told_apart(registry: Registry, blobs: DiskBlobs) -> None:
    registry.register("digits", _artifact(blobs, b"1"), Lineage())
    with pytest.raises(ModelNotFound, match="'letters'"):
        registry.get(VersionRef.parse("letters@1"))
    with pytest.raises(ModelNotFound, match="'letters'"):
        registry.list_versions("letters")
    for selector in ("2", "champion", "99999999999999999999999999"):
        with pytest.raises(VersionNotFound, match=selector):
            registry.get(VersionRef("digits", selector))
    with pytest.raises(InvalidName):
        registry.register("../digits", _artifact(blobs, b"1"), Lineage())


def test_lists_go_on_where_they_ended(registry: Registry, blobs: DiskBlobs) -> None:
    for content in (b"1", b"2", b"3"):
        registry.register("b", _artifact(blobs, content), Lineage())
    registry.register("a", _artifact(blobs, b"1"), Lineage())
    assert [version.number for version in registry.list_versions("b", limit=2)] == [3, 2]
    assert [version.number for version in registry.list_versions("b", before=2)] == [1]
    assert [(model.name, model.versions, model.newest) for model in registry.list_models()] == [
        ("a", 1, 1),
        ("b", 3, 3),
    ]
    assert [model.name for model in registry.list_models(after="a", limit=1)] == ["b"]


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE versions SET manifest = replace(manifest, 'run_1', 'run_2')",
        "UPDATE versions SET manifest = replace(manifest, 'FP32', 'FP64')",
        "UPDATE versions SET digest = 'sha256:00'",
        "UPDATE versions SET number = 1, seal = 'x'",
    ],
)
def test_a_row_that_was_edited_is_found(registry: Registry, blobs: DiskBlobs, database: Database, edit: str) -> None:
    registry.register("digits", _artifact(blobs, b"1"), LINEAGE)
    with database.write() as connection:
        connection.execute(text(edit))
    with pytest.raises(DigestMismatch, match="version 1 of model 'digits'"):
        registry.get(VersionRef.parse("digits@1"))


def test_nothing_is_registered_if_the_transaction_around_it_fails(
    registry: Registry, blobs: DiskBlobs, database: Database
) -> None:
    def register_and_fail() -> None:
        with database.write():
            registry.register("digits", _artifact(blobs, b"1"), Lineage())
            raise ValueError("the audit record could not be written")

    with pytest.raises(ValueError, match="audit"):
        register_and_fail()
    assert registry.list_models() == []


def test_the_folder_holds_the_files_under_the_digest(registry: Registry, blobs: DiskBlobs, tmp_path: Path) -> None:
    version, _ = registry.register("digits", _artifact(blobs, b"content"), Lineage())
    folder = registry.folder(version, tmp_path / "artifacts")
    assert folder == tmp_path / "artifacts" / version.digest.removeprefix("sha256:")
    assert (folder / "model.onnx").read_bytes() == b"content"
    assert registry.folder(version, tmp_path / "artifacts") == folder

    lost = replace(version, artifact=replace(version.artifact, files=(FileEntry("m", "0" * 64, 1),)))
    with pytest.raises(Exception, match="0000") as caught:
        registry.folder(lost, tmp_path / "elsewhere")
    assert type(caught.value).__name__ == "BlobNotFound"
