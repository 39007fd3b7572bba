"""An export job: a version in some framework's form, with its card and the code that asks it, proven alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from mofang.base.domain.errors import DatasetNotFound, RunNotFound
from mofang.base.domain.names import VersionRef
from mofang.base.domain.registry import ModelVersion
from mofang.base.domain.work import Progress
from mofang.make.evaluate.card import model_card
from mofang.make.export.catalog import writer
from mofang.make.export.folder import add_card, add_code, add_example, archive, first_rows
from mofang.make.export.source import Source, Written
from mofang.make.export.verify import Verdict, trials_of, verify
from mofang.make.pipeline.outcome import Result, Spec
from mofang.make.prepare.dataset import Examples, load_examples
from mofang.make.recipe import parse_recipe
from mofang.make.workshop import Workshop

_EXAMPLE_ROWS = 2
_SAME_BYTES = "Its bytes are those of the version, by their digests."


def export_version(spec: Spec, tools: Workshop, progress: Progress) -> Result:
    """Write ``spec["version"]`` in the form ``spec["to"]`` and keep the folder as an archive.

    ``spec["licence"]`` is put on the card. Raises NoExport, ExtraMissing, ExportFailed or ParityFailed.
    """
    version = tools.registry.get(VersionRef.parse(spec["version"]))
    write = writer(spec["to"])
    with _source(version, tools) as source, tools.folder() as parent:
        folder = parent / "export"
        folder.mkdir()
        progress.report("export", 0.1, f"writing {version} as {spec['to']}")
        written = write(source, folder)
        add_code(written, folder)
        progress.report("export", 0.4, "running it beside the served model" if written.runs else "comparing digests")
        verdict = _proven(source, written, folder, tools, progress)
        add_card(
            _card(version, spec["licence"], tools), spec["to"], written, source, verdict.said, spec["licence"], folder
        )
        files = [
            {"path": path.relative_to(folder).as_posix(), "size_bytes": path.stat().st_size}
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]
        archive(folder, parent / "export.zip")
        blob = tools.blobs.put_file(parent / "export.zip")
    progress.report("export", 1.0, f"{version} as {spec['to']}: {len(files)} files")
    return {
        "version": str(version),
        "digest": version.digest,
        "to": spec["to"],
        "files": files,
        "parity": asdict(verdict),
        "archive": blob.sha256,
        "size_bytes": blob.size_bytes,
    }


def _proven(source: Source, written: Written, folder: Path, tools: Workshop, progress: Progress) -> Verdict:
    if not written.runs:
        return Verdict(written.proof or _SAME_BYTES)
    trials = trials_of(source, written)
    with tools.engine(source.engine, source.folder) as engine:
        some = {
            side: first_rows(engine.signature, found, _EXAMPLE_ROWS)
            for side, found in (("given", trials[0].inputs), ("asked", trials[0].asked or trials[0].inputs))
        }
        add_example(some["given"], engine.infer(some["asked"]), folder)
        return verify(folder, written, trials, engine, progress)


@contextmanager
def _source(version: ModelVersion, tools: Workshop) -> Iterator[Source]:
    """Lay out everything that is known of a version."""
    network, framework, test = _made_here(version, tools)
    with tools.folder() as root:
        folder = tools.registry.folder(version, root)
        conversion, pushed = version.lineage.conversion, None
        if conversion and conversion.files:
            pushed = tools.blobs.materialise(conversion.files, root / "pushed")
        yield Source(version, folder, pushed, network, framework, test, tools.toolchains)


def _made_here(version: ModelVersion, tools: Workshop) -> tuple[bytes, str, Examples | None]:
    """Return the network of the version's training, its framework, and held-out rows; nothing of what was pushed."""
    lineage = version.lineage
    if lineage.source != "train":  # a variant or an edited version is another model than its training left
        return b"", "", None
    try:
        run, dataset = tools.runs.get(lineage.run), tools.datasets.get(lineage.dataset)
    except (RunNotFound, DatasetNotFound):
        return b"", "", None
    network = tools.blobs.read(run.network) if run.network else b""
    framework = parse_recipe(run.recipe, run.recipe_name).train.made_by if network else ""
    return network, framework, load_examples(tools.blobs, dataset, split="test")


def _card(version: ModelVersion, licence: str, tools: Workshop) -> str:
    newest = next(iter(tools.evaluations.list(version.digest, limit=1)), None)
    return model_card(version, newest.dataset if newest else "", newest.report if newest else None, licence)
