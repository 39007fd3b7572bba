"""A push job: look into uploaded files, and register them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from mofang.base.domain.errors import InvalidModel
from mofang.base.domain.names import check_name
from mofang.base.domain.registry import Artifact, FileEntry, Lineage
from mofang.base.domain.tensors import Signature
from mofang.base.domain.work import Progress
from mofang.base.engines.catalog import generator_names
from mofang.make.convert.rows import settled
from mofang.make.pipeline.outcome import Result, Spec, code, told
from mofang.make.workshop import Workshop

_MODEL_FILE = "model.onnx"  # what the onnx engine loads


def push_files(spec: Spec, tools: Workshop, progress: Progress) -> Result:
    """Register uploaded ``spec["files"]`` for ``spec["engine"]`` as a version of ``spec["model"]``.

    Raises InvalidName, InvalidPath, InvalidModel, EngineNotFound or EngineLoadFailed; nothing is registered then.
    """
    model, engine_name = check_name("model", spec["model"]), spec["engine"]
    entries = [FileEntry(**entry) for entry in spec["files"]]
    if engine_name == "onnx":
        entries = _with_model_file(entries)
    with tools.folder() as parent:
        folder = tools.blobs.materialise(entries, parent / "artifact")
        progress.report("convert", 0.5, "looking into the model")
        signature, labels = _look_into(engine_name, folder, tools)
        # Sizes as they are on disk, whatever the upload claimed.
        files = tuple(replace(entry, size_bytes=(folder / entry.path).stat().st_size) for entry in entries)
    artifact = Artifact(engine_name, tuple(sorted(files, key=lambda entry: entry.path)), signature, labels)
    version, created = tools.registry.register(model, artifact, Lineage("push", code=code()))
    progress.report("register", 1.0, f"{version} {'registered' if created else 'was there already'}")
    return {"signature": asdict(signature), **told(version, created)}


def _look_into(engine_name: str, folder: Path, tools: Workshop) -> tuple[Signature, tuple[str, ...]]:
    if engine_name in generator_names():
        from mofang.make.convert import gguf

        return gguf.inspect(folder), ()
    if engine_name == "onnx":
        from mofang.make.convert.onnx import inspect

        inspection = inspect(folder)
        signature, labels = inspection.signature, inspection.labels
        with tools.engine(engine_name, folder) as engine:
            return settled(signature, engine), labels
    with tools.engine(engine_name, folder) as engine:
        return settled(engine.signature, engine), ()


def _with_model_file(entries: Sequence[FileEntry]) -> list[FileEntry]:
    """Give the one graph among the files the name the engine loads; its external data stay beside it."""
    if any(entry.path == _MODEL_FILE for entry in entries):
        return list(entries)
    graphs = [entry for entry in entries if entry.path.endswith(".onnx") and "/" not in entry.path]
    if len(entries) == 1:
        graphs = list(entries)
    if len(graphs) != 1:
        raise InvalidModel(
            f"{len(graphs)} of the {len(entries)} files end in .onnx, one must",
            hint=f"push one model at a time; where it has several files, name the graph {_MODEL_FILE!r}",
        )
    return [replace(entry, path=_MODEL_FILE) if entry is graphs[0] else entry for entry in entries]
