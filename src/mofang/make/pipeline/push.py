"""A push job: recognise uploaded files, have them converted if they are no ONNX, look into the result, register it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType

import msgspec

from mofang.base.domain.errors import InvalidModel, ModelNotFound, MofangError, PickleRefused
from mofang.base.domain.names import VersionRef, check_name
from mofang.base.domain.registry import Artifact, Choice, Conversion, FileEntry, Lineage
from mofang.base.domain.tensors import Signature
from mofang.base.domain.work import Progress
from mofang.base.engines import adapters
from mofang.base.engines.base import Engine
from mofang.base.engines.catalog import generator_names
from mofang.base.engines.gguf import read_gguf
from mofang.make.convert import causal, gguf, upstream
from mofang.make.convert.bench import Made, Task, Wishes, make_apart
from mofang.make.convert.formats import FORMATS
from mofang.make.convert.parity import PROBABILITIES
from mofang.make.convert.recognise import Recognised, recognise
from mofang.make.convert.rows import sample, settled
from mofang.make.pipeline.outcome import Result, Spec, code, told
from mofang.make.workshop import Workshop

_MODEL_FILE = "model.onnx"  # what the onnx engine loads
_FOLDER_ENGINE = "transformers"  # of folders of Hugging Face that hold a causal language model
_LOOKS = MappingProxyType(
    {
        "upstream": upstream.inspect,
        "transformers": causal.inspect,
        "vllm": causal.inspect,
        adapters.ENGINE: causal.inspect_adapter,
    }
)
_MOST_CODE_BYTES = 1 << 20
_LEAST_MEMORY_BYTES, _MEMORY_PER_BYTE = 4 << 30, 8  # of a bench: frameworks alone take one or two GiB of mappings


def push_files(spec: Spec, tools: Workshop, progress: Progress) -> Result:
    """Register uploaded ``spec["files"]`` as a version of ``spec["model"]``.

    With ``spec["parent"]``, a number, that version is registered again with another signature. With ``spec["engine"]``
    they are an artifact of that engine as they are; without, their format is recognised. Of
    ``spec["wishes"]`` see :class:`Wishes`. Raises InvalidName, InvalidPath, UnknownFormat, InvalidModel, PickleRefused,
    ToolchainMissing, ConversionFailed, ParityFailed, EngineNotFound or EngineLoadFailed; nothing is registered then.
    """
    model, engine = check_name("model", spec["model"]), spec.get("engine", "")
    wishes = replace(msgspec.convert(spec.get("wishes", {}), Wishes), code="")  # that comes as a file
    edited = tools.registry.get(VersionRef(model, str(spec["parent"]))) if spec.get("parent") else None
    entries = [FileEntry(**entry) for entry in spec["files"]] if edited is None else [*edited.artifact.files]
    engine = engine if edited is None else edited.artifact.engine
    with tools.folder() as parent:
        pushed = tools.blobs.materialise(entries, parent / "pushed")
        if engine in _LOOKS or engine in generator_names():
            artifact, lineage = _language_model(engine, entries, pushed), Lineage("push", code=code())
        elif engine and engine != "onnx":
            artifact, lineage = _as_it_is(engine, entries, pushed, tools), Lineage("push", code=code())
        else:
            progress.report("convert", 0.0, "looking into what was pushed")
            found = recognise(pushed)
            _check_engine(engine, found)
            artifact, lineage = _recognised(model, found, wishes, entries, parent, tools, progress)
    if edited is not None:
        lineage = replace(edited.lineage, source="edit", parent=edited.digest, code=code())
    if wishes.changes_ends and artifact.engine != "onnx":
        raise InvalidModel(
            f"names, datatypes and shapes that engine {artifact.engine!r} takes and gives cannot be changed",
            hint="only those of ONNX can",
        )
    artifact = _labelled(artifact, wishes.labels or (edited.artifact.labels if edited else ()))
    artifact = _explained(artifact, wishes, edited.artifact.meanings if edited else {})
    metrics = edited.metrics if edited else None
    version, created = tools.registry.register(model, artifact, lineage, metrics)
    progress.report("register", 1.0, f"{version} {'registered' if created else 'was there already'}")
    conversion, choice = version.lineage.conversion, version.lineage.choice
    return {
        "signature": asdict(artifact.signature),
        "engine": artifact.engine,
        "labels": artifact.labels,
        "meanings": artifact.meanings,
        "conversion": None if conversion is None else asdict(conversion),
        "choice": None if choice is None else asdict(choice),
        **told(version, created),
    }


def _as_it_is(engine_name: str, entries: list[FileEntry], folder: Path, tools: Workshop) -> Artifact:
    with tools.engine(engine_name, folder) as engine:
        signature = settled(engine.signature, engine)
    return Artifact(engine_name, _as_on_disk(entries, folder), signature)


def _labelled(artifact: Artifact, labels: tuple[str, ...]) -> Artifact:
    """Return ``artifact`` with ``labels``, if there are any and there is one for each class."""
    if not labels:
        return artifact
    classes = [spec.shape[-1] for spec in artifact.signature.outputs if spec.name == PROBABILITIES and spec.shape]
    if classes and (classes[0] not in (-1, len(labels)) or len(set(labels)) < len(labels)):
        raise InvalidModel(
            f"{len(labels)} labels were given, {len(set(labels))} of them different, for {classes[0]} classes",
            hint="give one label for each class, in the order of the probabilities",
        )
    return replace(artifact, labels=labels)


def _explained(artifact: Artifact, wishes: Wishes, before: Mapping[str, str]) -> Artifact:
    """Return ``artifact`` with what its inputs and outputs mean; an empty text takes a meaning away."""
    known = [spec.name for spec in (*artifact.signature.inputs, *artifact.signature.outputs)]
    for name in wishes.meanings:
        if name not in known:
            raise InvalidModel(
                f"a meaning was given for {name!r}, which is neither an input nor an output",
                hint=f"there are: {', '.join(known)}",
            )
    kept = {wishes.rename.get(name, name): text for name, text in before.items()}
    meanings = {name: text for name, text in {**kept, **wishes.meanings}.items() if text}
    return replace(artifact, meanings=meanings) if meanings else artifact


def _language_model(engine_name: str, entries: list[FileEntry], folder: Path) -> Artifact:
    signature = _LOOKS.get(engine_name, gguf.inspect)(folder)
    return Artifact(engine_name, _as_on_disk(entries, folder), signature)


def _check_engine(engine: str, found: Recognised) -> None:
    if engine == "onnx" and found.format != "onnx":
        raise InvalidModel(
            f"{found.path.name!r} is not an ONNX model: it is {found.title}", hint="leave `--engine` out to convert it"
        )


def _recognised(
    model: str,
    found: Recognised,
    wishes: Wishes,
    entries: list[FileEntry],
    parent: Path,
    tools: Workshop,
    progress: Progress,
) -> tuple[Artifact, Lineage]:
    progress.report("convert", 0.1, f"it is {found.title}{' inside MLflow' if found.inside else ''}")
    if found.format == "onnx":
        return _onnx(found, entries, wishes, parent, tools), Lineage("push", code=code())
    if found.format == "gguf":
        return _gguf(model, found, entries, parent, tools, progress)
    if found.format == "lora":
        return _folder(adapters.ENGINE, found, entries, parent, tools), Lineage("push", code=code())
    if found.format == "huggingface" and causal.is_causal(found.path):
        return _folder(_FOLDER_ENGINE, found, entries, parent, tools), Lineage("push", code=code())
    if found.format == "pickle" and not wishes.allow_pickle:
        raise PickleRefused(f"{found.path.name!r} is a pickle: opening it runs whatever program its maker put into it")
    built_by = _code_of(wishes, parent)
    if built_by is not None:
        wishes = replace(wishes, code=_text(built_by))
    chain = FORMATS[found.format].toolchain
    python = tools.toolchains.python(chain) if chain else Path(sys.executable)
    size = sum(entry.size_bytes for entry in entries)
    memory = _LEAST_MEMORY_BYTES + _MEMORY_PER_BYTE * size
    target = parent / "bench" / "artifact"
    target.parent.mkdir()
    made = make_apart(Task(found.format, found.path, target, wishes, memory), progress, python)
    artifact = _look_into(made, target, wishes, tools)
    beside = [entry for entry in entries if built_by == parent / "pushed" / entry.path]
    kept = _as_on_disk([*_of(found, entries, parent), *beside], parent / "pushed")
    conversion = Conversion(f"{found.inside} {found.format}".strip(), kept, made.proof, made.why_native)
    return artifact, Lineage("push", code=code(*made.packages), conversion=conversion)


def _gguf(
    model: str, found: Recognised, entries: list[FileEntry], parent: Path, tools: Workshop, progress: Progress
) -> tuple[Artifact, Lineage]:
    """Return the artifact of a GGUF file, which is a model or an adapter, with the engine that computes it."""
    laid = adapters.is_adapter(read_gguf(found.path))
    name = adapters.GGUF_FILE if laid else "model.gguf"
    named = [replace(entry, path=name) for entry in _of(found, entries, parent)]
    folder = tools.blobs.materialise(named, parent / "artifact")
    artifact = _language_model(adapters.ENGINE if laid else "", named, folder)
    if laid:
        return artifact, Lineage("push", code=code())
    choice = _chosen_before(tools, model, artifact)
    if choice is None:
        progress.report("convert", 0.5, "measuring which engine computes it faster here")
        choice = gguf.choose_engine(folder)
    progress.report("convert", 0.9, f"{choice.engine} computes it: {choice.why}")
    return replace(artifact, engine=choice.engine), Lineage("push", code=code(), choice=choice)


def _chosen_before(tools: Workshop, model: str, artifact: Artifact) -> Choice | None:
    """Return what was measured of the same files, so that the same push gives the same version."""
    try:
        versions = tools.registry.list_versions(model)
    except ModelNotFound:
        return None
    made = (each.lineage.choice for each in versions if each.artifact.files == artifact.files)
    return next((choice for choice in made if choice is not None and choice.speeds), None)


def _code_of(wishes: Wishes, parent: Path) -> Path | None:
    """Return the pushed Python file that ``wishes`` name as the network's; raise InvalidModel if it is not there."""
    name, colon, _ = wishes.architecture.partition(":")
    if not colon or not name.endswith(".py"):
        return None
    files = [path for path in sorted((parent / "pushed").rglob("*.py")) if path.is_file() and not path.is_symlink()]
    found = [path for path in files if path.name == name or path == parent / "pushed" / name]
    if len(found) != 1:
        raise InvalidModel(
            f"{len(found)} files {name!r} were pushed along",
            hint=f"push one with the weights: `mofang push NAME FILE {name}`",
        )
    return found[0]


def _text(path: Path) -> str:
    if path.stat().st_size > _MOST_CODE_BYTES:
        raise InvalidModel(f"{path.name!r} has over {_MOST_CODE_BYTES:,} bytes, which is no network")
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidModel(f"{path.name!r} is no UTF-8 text") from error


def _folder(engine: str, found: Recognised, entries: list[FileEntry], parent: Path, tools: Workshop) -> Artifact:
    """Return the artifact of a folder of Hugging Face as it is, but for files that no engine reads."""
    root = found.path.relative_to(parent / "pushed")
    inside = [replace(entry, path=PurePosixPath(entry.path).relative_to(root).as_posix())
              for entry in _of(found, entries, parent)]  # fmt: skip
    kept = causal.taken(inside, engine)
    return _language_model(engine, kept, tools.blobs.materialise(kept, parent / "artifact"))


def _of(found: Recognised, entries: list[FileEntry], parent: Path) -> list[FileEntry]:
    """Return those of ``entries`` that are the file, or in the folder, that was recognised."""
    return [entry for entry in entries if (parent / "pushed" / entry.path).is_relative_to(found.path)]


def _onnx(found: Recognised, entries: list[FileEntry], wishes: Wishes, parent: Path, tools: Workshop) -> Artifact:
    """Give the graph the name the engine loads; its external data stay beside it."""
    pushed = parent / "pushed"
    moved = []
    for entry in entries:
        path = pushed / entry.path
        if path == found.path:
            moved.append(replace(entry, path=_MODEL_FILE))
        elif path.is_relative_to(found.path.parent):
            moved.append(replace(entry, path=path.relative_to(found.path.parent).as_posix()))
    folder = tools.blobs.materialise(moved, parent / "artifact")
    signature, labels = _inspect(folder, wishes, tools)
    files = tools.keep(folder) if wishes.changes_ends else _as_on_disk(moved, folder)
    return Artifact("onnx", files, signature, labels)


def _look_into(made: Made, folder: Path, wishes: Wishes, tools: Workshop) -> Artifact:
    """Look into what the bench left as into anything that was pushed, and keep it."""
    if any(path.is_symlink() for path in folder.rglob("*")):
        raise InvalidModel("the conversion left a link where files should be", hint="push the model as ONNX")
    if made.engine == "onnx":
        signature, labels = _inspect(folder, wishes, tools)
        return Artifact("onnx", tools.keep(folder), signature, made.labels or labels)
    with tools.engine(made.engine, folder) as engine:
        signature = settled(engine.signature, engine)
    return Artifact(made.engine, tools.keep(folder), signature, made.labels)


def _inspect(folder: Path, wishes: Wishes, tools: Workshop) -> tuple[Signature, tuple[str, ...]]:
    from mofang.make.convert.ends.onnx import change_ends
    from mofang.make.convert.onnx import inspect

    if wishes.changes_ends:
        inspect(folder)  # before anything of it is written again
        change_ends(folder, wishes.rename, wishes.datatypes, wishes.shapes)
    inspection = inspect(folder)
    with tools.engine("onnx", folder) as engine:
        if wishes.shapes:
            _check_computes(engine)
        return settled(engine.signature, engine), inspection.labels  # the engine's: it may take files for pixels


def _check_computes(engine: Engine) -> None:
    """Raise InvalidModel if a graph does not compute at the sizes it was narrowed to."""
    try:
        engine.infer(sample(engine.signature))
    except MofangError as error:
        raise InvalidModel(
            f"the model does not compute at this shape: {error.message}",
            hint="choose sizes it can compute; where others of its inputs are open, they may have to be fixed as well",
        ) from error


def _as_on_disk(entries: list[FileEntry], folder: Path) -> tuple[FileEntry, ...]:
    """Return the entries by path, with sizes as they are, whatever the upload claimed."""
    true = [replace(entry, size_bytes=(folder / entry.path).stat().st_size) for entry in entries]
    return tuple(sorted(true, key=lambda entry: entry.path))
