"""An evaluation job: a registered version on held-out data, through the served graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from mofang.base.domain.errors import DatasetNotFound, ModelNotFound, VersionNotFound
from mofang.base.domain.names import VersionRef
from mofang.base.domain.registry import ModelVersion
from mofang.base.domain.work import Progress
from mofang.base.engines.base import Engine
from mofang.base.engines.catalog import generator_names
from mofang.make.evaluate.gate import Gate, parse_gate
from mofang.make.evaluate.language import evaluate_language
from mofang.make.evaluate.report import Report
from mofang.make.evaluate.retrieval import EMBEDDING, evaluate_embeddings
from mofang.make.evaluate.suite import Closer, Rival, evaluate
from mofang.make.pipeline.outcome import Result, Spec
from mofang.make.prepare.dataset import Dataset, Examples, load_examples
from mofang.make.prepare.feed import feed
from mofang.make.workshop import Workshop


def evaluate_version(spec: Spec, tools: Workshop, progress: Progress) -> Result:
    """Evaluate ``spec["version"]`` on ``spec["dataset"]`` (empty: the one it was made from) with ``spec["gate"]``.

    ``spec["against"]`` names a version of the same model to compare with, ``spec["slices"]`` columns to slice by.
    A gate that fails is a result here, no error.
    """
    gate = parse_gate(spec["gate"])
    version = tools.registry.get(VersionRef.parse(spec["version"]))
    dataset = dataset_of(version, spec["dataset"], tools)
    test = load_examples(tools.blobs, dataset, split="test")
    against = VersionRef.parse(spec["against"]).selector if spec.get("against") else ""
    names = dict.fromkeys([*gate.rivals, *([against] if against else [])])
    name = version.artifact.engine
    with tools.folder() as root:
        folder = tools.registry.folder(version, root)
        if name in generator_names():
            with tools.generator(name, folder) as speaker:
                report = evaluate_language(speaker, test, gate, progress, name)
        elif any(output.name == EMBEDDING for output in version.artifact.signature.outputs):
            with tools.engine(name, folder) as engine:
                report = evaluate_embeddings(engine, load_examples(tools.blobs, dataset), test, gate, progress)
        else:
            with rivals_of(version.model, names, test, tools) as rivals, tools.engine(name, folder) as engine:
                report = _report(engine, test, gate, Closer(test, tuple(spec.get("slices", ())), rivals), progress)
    evaluation = tools.evaluations.record(version.model, version.digest, dataset.digest, report)
    return {"evaluation": evaluation.id, "passed": report.passed}


def _report(engine: Engine, test: Examples, gate: Gate, closer: Closer, progress: Progress) -> Report:
    rows = feed(test, engine.signature)
    return evaluate(engine, rows, test.target, test.schema.labels, gate, progress, closer)


@contextmanager
def rivals_of(model: str, names: Iterable[str], test: Examples, tools: Workshop) -> Iterator[tuple[Rival, ...]]:
    """Load the versions of ``model`` that aliases or numbers ``names`` mean; one that is not there is no rival."""
    with ExitStack() as stack:
        found = []
        for name in names:
            try:
                version = tools.registry.get(VersionRef(model, name))
            except (ModelNotFound, VersionNotFound):
                continue
            folder = tools.registry.folder(version, stack.enter_context(tools.folder()))
            engine = stack.enter_context(tools.engine(version.artifact.engine, folder))
            found.append(Rival(name, str(version), engine, feed(test, engine.signature)))
        yield tuple(found)


def dataset_of(version: ModelVersion, digest: str, tools: Workshop) -> Dataset:
    """Return the data set with ``digest``; empty: the one that the version was made from. Raises DatasetNotFound."""
    if not digest and not version.lineage.dataset:
        raise DatasetNotFound(
            f"{version} was pushed, so that nobody knows what data it is for", hint="name a dataset: `--dataset DIGEST`"
        )
    return tools.datasets.get(digest or version.lineage.dataset)
