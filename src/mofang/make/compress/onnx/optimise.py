"""Optimise: what the engine would do to a graph at every load, done once: constants folded, operators fused."""

from __future__ import annotations

import onnxruntime as ort

from mofang.base.domain.errors import NoVariant
from mofang.make.compress.onnx.graph import MODEL, after, load, operators, session
from mofang.make.compress.step import Optimise
from mofang.make.compress.subject import Means, Subject


def optimise(step: Optimise, subject: Subject, means: Means) -> Subject:
    """Return ``subject`` optimised as far as it holds on every machine. Raises NoVariant if nothing changes by it."""
    del step  # it has no settings
    assert subject.folder is not None
    folder = means.scratch()
    session(subject.folder / MODEL, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED, folder / MODEL)
    before, made = operators(load(subject.folder)), load(folder)
    if operators(made) == before:
        raise NoVariant("there is nothing to fold or to fuse in its graph")
    return after(subject, made, means)
