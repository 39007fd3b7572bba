"""Which function does which step, imported only when it is taken: frameworks are heavy, and not all are there.

To add a technique, add its step to ``step.py``, and here what does it and what it works on: the ``model`` as it was
trained, or the ``files`` that an engine loads.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import Literal

from mofang.base.domain.errors import ExtraMissing, NoVariant
from mofang.make.compress.propose import Can, epochs
from mofang.make.compress.step import (
    Distil,
    Half,
    Int4,
    Int8,
    Lower,
    Optimise,
    Prune,
    Step,
    Steps,
    Student,
    Thin,
    Tune,
    told,
)
from mofang.make.compress.students import instead_of_trees, students
from mofang.make.compress.subject import Means, Subject, Technique
from mofang.make.convert.catalog import converter

On = Literal["model", "files", "any"]

_TECHNIQUES: Mapping[type[Step], tuple[On, str]] = MappingProxyType(
    {
        Prune: ("model", "torch.prune:prune"),
        Student: ("any", "torch.teach:student"),
        Tune: ("model", "torch.teach:tune"),
        Distil: ("model", "torch.teach:distil"),
        Thin: ("files", "onnx.thin:thin"),
        Int8: ("files", "onnx.int8:quantise"),
        Int4: ("files", "onnx.int4:quantise"),
        Half: ("files", "onnx.half:halve"),
        Optimise: ("files", "onnx.optimise:optimise"),
        Lower: ("files", "gguf.lower:lower"),
    }
)
_IMITATE = "torch.imitate:imitate"  # distils what only the answers are known of


def apply(step: Step, subject: Subject, means: Means) -> Subject:
    """Take one step. Raises NoVariant if it does not apply to ``subject``, ExtraMissing if its framework is missing."""
    if type(step) not in _TECHNIQUES:
        raise NoVariant(f"nothing here can do the step '{step}'")
    on, name = _TECHNIQUES[type(step)]
    if on == "model" and subject.model is None:
        raise NoVariant(
            f"'{step}' changes a model as it was trained, and here is only the file that was made of it",
            hint="it works on versions that were trained here, before steps that change the file",
        )
    if isinstance(step, Distil) and means.outside is not None:
        name = _IMITATE
    return _function(name, step)(step, written(subject, means) if on == "files" else subject, means)


def abilities(means: Means) -> Can:
    """Tell what applies to the original: what it is, and what is known of it."""
    from mofang.make.compress.onnx.graph import load, operators

    assert means.original.folder is not None
    found = operators(load(means.original.folder))
    network = means.original.framework == "torch" and means.examples is not None
    trees = any(name.startswith("TreeEnsemble") for name in found)
    return Can(
        network=network,
        trees=trees,
        graph=True,
        calibration=bool(means.calibration),
        epochs=epochs(len(means.examples.features)) if means.examples is not None else 1.0,
        students=_students(means, trees=trees),
    )


def _students(means: Means, *, trees: bool) -> tuple[Student, ...]:
    if means.examples is None or find_spec("torch") is None:
        return ()
    if means.original.framework == "torch":
        return students(means.original.model.plan.spec)
    return instead_of_trees() if trees else ()


def make(steps: Steps, means: Means) -> Subject:
    """Take ``steps`` from the original on, in their order; return what came of it, written to files."""
    subject = means.original
    for step in steps:
        subject = apply(step, subject, means)
    return written(subject, means)


def written(subject: Subject, means: Means) -> Subject:
    """Return ``subject`` with its files: exported now, if its model was changed since."""
    if subject.folder is not None:
        return subject
    folder = means.scratch()
    if means.outside is not None:
        from mofang.make.compress.torch.imitate import write

        write(subject.model, means.outside, folder)
        return Subject(folder, "onnx", subject.model, subject.framework)
    from mofang.make.prepare.onnx import complete

    assert means.examples is not None, "whoever changes a model has the data it was trained on"
    to_onnx, _ = converter(subject.framework)
    complete(folder, to_onnx(subject.model, folder), means.examples.schema, image=means.image)
    return Subject(folder, "onnx", subject.model, subject.framework)


def _function(name: str, step: Step) -> Technique:
    module, _, function = name.partition(":")
    try:
        found: Technique = getattr(import_module(f"mofang.make.compress.{module}"), function)
    except ModuleNotFoundError as error:
        extra = "generative" if isinstance(step, Lower) else "torch"
        raise ExtraMissing.of(f"'{told([step])}'", error.name, extra) from error
    return found
