"""The registry: push files, look at models and versions, move aliases."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mofang.base.domain.errors import DigestMismatch, InvalidModel
from mofang.base.domain.names import check_name
from mofang.base.domain.registry import FileEntry, ModelVersion
from mofang.base.domain.work import Job
from mofang.surface.sdk.jobs import Jobs, Submitted
from mofang.surface.sdk.pages import walk
from mofang.surface.sdk.transport import API, Transport, decode, segment

CHUNK_BYTES = 1 << 20
OnProgress = Callable[[int, int], None]
"""Called with the bytes sent so far and the bytes of all files."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model: how many versions it has, the newest one's number, and where its aliases point."""

    name: str
    created_at: int
    versions: int
    newest: int
    aliases: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Upload:
    """What the server stored."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the one who pushes says of a model, where its files do not.

    ``allow_pickle``: open a pickle, which runs what its maker put into it, once and locked in. ``architecture``: which
    network bare weights are for. ``input_shape``: of one input, without the batch, where the file does not say.
    ``labels``: of the classes, in order. ``rename``: inputs and outputs, from one name to another. ``meanings``: what
    inputs and outputs are, and in what unit, by name. ``datatypes``: that inputs and outputs are to have, by name, e.g.
    ``FP64``. ``shapes``: of inputs, by name, with every dimension, -1: any size.
    """

    allow_pickle: bool = False
    architecture: str = ""
    input_shape: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)
    datatypes: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


class Register:
    """``client.register``."""

    def __init__(self, wire: Transport, jobs: Jobs) -> None:
        self._wire = wire
        self._jobs = jobs

    def push(
        self,
        name: str,
        files: Path | str | Sequence[Path | str] | Mapping[str, Path],
        *,
        engine: str = "",
        wishes: Wishes | None = None,
        on_progress: OnProgress | None = None,
    ) -> Job:
        """Upload files and have them registered as a version of model ``name``; return the job.

        ``files`` is a file, several, a folder, or a mapping of paths inside the artifact to files here. Their format is
        recognised by what is in them, and they are converted to ONNX if they are none; with ``engine`` they are loaded
        by that engine as they are. The job's result is
        ``{"model", "version", "digest", "created", "signature", "engine", "labels", "meanings", "conversion"}``.
        """
        check_name("model", name)  # before gigabytes travel
        named = _name_files(files)
        total, sent = sum(path.stat().st_size for path in named.values()), 0
        entries = []
        for inside, path in named.items():
            upload = self.upload(path, _shifted(on_progress, sent, total))
            sent += upload.size_bytes
            entries.append(FileEntry(inside, upload.sha256, upload.size_bytes))
        return self.create_version(name, entries, engine=engine, wishes=wishes)

    def upload(self, path: Path, on_progress: OnProgress | None = None) -> Upload:
        """Stream one file to the server's store; raise DigestMismatch if it did not arrive as it was sent."""
        digest, total = hashlib.sha256(), path.stat().st_size

        def chunks() -> Iterator[bytes]:
            sent = 0
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    digest.update(chunk)
                    yield chunk
                    sent += len(chunk)
                    if on_progress:
                        on_progress(sent, total)

        headers = {"content-type": "application/octet-stream", "content-length": str(total)}
        upload = decode(self._wire.send("POST", f"{API}/uploads", content=chunks(), headers=headers), Upload)
        if upload.sha256 != digest.hexdigest():
            raise DigestMismatch(f"{path} did not arrive as it was sent", hint="push it again")
        return upload

    def create_version(
        self, name: str, files: Sequence[FileEntry], *, engine: str = "", wishes: Wishes | None = None
    ) -> Job:
        """Register files that are uploaded already; return the job that checks them."""
        return self._create(name, {"files": [asdict(entry) for entry in files], "engine": engine}, wishes)

    def edit(
        self,
        reference: str,
        *,
        labels: Sequence[str] = (),
        rename: Mapping[str, str] | None = None,
        meanings: Mapping[str, str] | None = None,
        datatypes: Mapping[str, str] | None = None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> Job:
        """Register a version again with another signature, see :class:`Wishes`; return the job.

        The version itself stays as it is: the edited one is the next, and names it as its parent.
        """
        version = self.get_version(reference)
        body = {"files": [asdict(entry) for entry in version.artifact.files], "parent": version.number}
        wishes = Wishes(
            labels=tuple(labels),
            rename=rename or {},
            meanings=meanings or {},
            datatypes=datatypes or {},
            shapes=shapes or {},
        )
        return self._create(version.model, body, wishes)

    def _create(self, name: str, body: dict[str, object], wishes: Wishes | None) -> Job:
        path = f"/models/{segment(name)}/versions"
        body["wishes"] = asdict(wishes or Wishes())
        return self._jobs.get(self._wire.call("POST", path, Submitted, body).job)

    def list_models(self, *, limit: int | None = None) -> list[Model]:
        """Return all models by name."""
        return [*walk(self._wire, "/models", Model, limit=limit)]

    def get_model(self, name: str) -> Model:
        """Return a model by its name."""
        return self._wire.get(f"/models/{segment(name)}", Model)

    def list_versions(self, model: str, *, limit: int | None = None) -> list[ModelVersion]:
        """Return the newest versions of a model first."""
        return [*walk(self._wire, f"/models/{segment(model)}/versions", ModelVersion, limit=limit)]

    def get_version(self, reference: str) -> ModelVersion:
        """Return ``MODEL@NUMBER``, ``MODEL@ALIAS``, or the newest version of ``MODEL``."""
        model, _, selector = reference.partition("@")
        path = f"/models/{segment(model)}/versions/{segment(selector or 'newest')}"
        return self._wire.get(path, ModelVersion)

    def find_versions(self, digest: str) -> list[ModelVersion]:
        """Return every version and variant whose digest is ``digest``, or begins so; ``sha256:`` may be left out."""
        whole = digest if digest.startswith("sha256:") else f"sha256:{digest}"
        return [*walk(self._wire, "/versions", ModelVersion, {"digest": whole})]

    def promote(self, model: str, number: int, alias: str = "champion", *, force: bool = False) -> ModelVersion:
        """Let ``alias`` point to version ``number``; return that version.

        Raises GateFailed if its newest evaluation did not pass its gate, unless ``force`` is given.
        """
        path = f"/models/{segment(model)}/aliases/{segment(alias)}"
        return self._wire.call("PUT", path, ModelVersion, {"version": number, "force": force})


def _shifted(on_progress: OnProgress | None, before: int, total: int) -> OnProgress | None:
    """Report a file's progress as the progress of all files."""
    return None if on_progress is None else lambda sent, _: on_progress(before + sent, total)


def _name_files(files: Path | str | Sequence[Path | str] | Mapping[str, Path]) -> dict[str, Path]:
    """Map the path of every file inside the artifact to where it is here."""
    if isinstance(files, Mapping):
        return dict(files)
    given = [Path(files)] if isinstance(files, (Path, str)) else [Path(file) for file in files]
    named: dict[str, Path] = {}
    for path in given:
        if path.is_dir():
            named |= {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}
        elif path.is_file():
            named[path.name] = path
        else:
            raise InvalidModel(f"{str(path)!r} is no file", hint="name a file of a model, or a folder with one in it")
    return named
