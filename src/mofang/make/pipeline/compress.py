"""A compression job: a smaller, faster variant of a version, measured against it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from mofang.base.domain.errors import NoVariant
from mofang.base.domain.names import VersionRef
from mofang.base.domain.registry import Artifact, Lineage
from mofang.base.domain.work import Progress
from mofang.make.compress.catalog import make
from mofang.make.compress.compare import Contestant, compare, refusal
from mofang.make.compress.step import Int8, named, told
from mofang.make.compress.store import Variant
from mofang.make.compress.subject import Means, Subject
from mofang.make.pipeline.evaluate import dataset_of
from mofang.make.pipeline.outcome import Result, Spec, code
from mofang.make.prepare.dataset import load_examples
from mofang.make.prepare.feed import feed
from mofang.make.workshop import Workshop


def compress_version(spec: Spec, tools: Workshop, progress: Progress) -> Result:
    """Make an INT8 variant of ``spec["version"]``; register it if it loses at most ``spec["max_drop"]`` accuracy.

    The variant and its measurements are kept either way; NoVariant tells why it was refused. No alias moves.
    """
    version = tools.registry.get(VersionRef.parse(spec["version"]))
    if version.artifact.engine != "onnx":
        raise NoVariant(
            f"{version} is computed by engine {version.artifact.engine!r}", hint="only ONNX models can be compressed"
        )
    dataset = dataset_of(version, "", tools)
    if dataset.task != "classification":
        raise NoVariant(f"{version} does {dataset.task}", hint="only classifiers can be compressed and compared so far")
    test = load_examples(tools.blobs, dataset, split="test")
    steps = (Int8("dynamic"),)
    with tools.folder() as root:
        source = tools.registry.folder(version, root)
        progress.report("compress", 0.0, told(steps))
        target = make(steps, Means(Subject(source), lambda: Path(mkdtemp(dir=root)), progress=progress)).folder
        assert target is not None
        with tools.engine("onnx", target) as engine, tools.engine("onnx", source) as parent:
            artifact = Artifact("onnx", tools.keep(target), engine.signature, version.artifact.labels)
            comparison = compare(
                Contestant(engine, artifact.size_bytes),
                Contestant(parent, version.artifact.size_bytes),
                (feed(test, parent.signature), test.target.astype(np.int64), dataset.schema.labels),
                tools.timing_seconds,
                progress,
            )
    refused = refusal(comparison, spec["max_drop"])
    number = 0
    if not refused:
        lineage = Lineage(
            "compress", dataset=dataset.digest, recipe=version.lineage.recipe, code=code("onnx"), parent=version.digest
        )
        metrics = {"accuracy": comparison.accuracy}
        number = tools.registry.register(version.model, artifact, lineage, metrics)[0].number
    variant = tools.variants.record(
        Variant(
            version.model, version.digest, named(steps), artifact.digest, dataset.digest, comparison, refused, number
        )
    )
    if refused:
        raise NoVariant(
            f"the INT8 variant of {version} was refused: {refused}",
            hint="allow more with `--max-drop`, or keep it as it is",
        )
    progress.report("register", 1.0, f"{version.model}@{number} registered")
    return {"variant": {**asdict(variant), "drop": comparison.drop, "accepted": True}}
