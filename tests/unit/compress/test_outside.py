"""Students of networks of which only answers are known: what they learn, and that clients cannot tell them apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mofang.base.domain.errors import NoVariant
from mofang.base.domain.tensors import Array, Signature, TensorSpec
from mofang.base.engines.base import Engine
from mofang.base.engines.catalog import load_engine
from mofang.make.compress.catalog import make
from mofang.make.compress.outside import FEWEST_ROWS, look, pupils
from mofang.make.compress.step import Distil, Student
from mofang.make.compress.students import instead_of_images
from mofang.make.compress.subject import Means, Subject
from mofang.make.recipe import Dense

pytestmark = pytest.mark.usefixtures("one_thread")
FAST = {"learning_rate": 0.01, "batch_size": 32, "optimiser": "adam"}
NOBODY_KNOWS = np.empty(0, np.int64)


class Box:
    """An engine that answers ``compute`` of its one input, ``x``, as ``relu``: a name that exporters use, too."""

    def __init__(self, given: tuple[int, ...], told: tuple[int, ...], compute: Callable[[Any], Any]) -> None:
        self.signature = Signature((TensorSpec("x", "FP32", (-1, *given)),), (TensorSpec("relu", "FP32", (-1, *told)),))
        self._compute = compute

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"relu": self._compute(inputs["x"]).astype(np.float32)}

    def close(self) -> None:
        """Nothing is open."""


def rows(*shape: int, count: int = 400, seed: int = 0) -> NDArray[np.float32]:
    """Draw numbers, or images of 8 x 8 pixels whose quarters are plain."""
    drawn = np.random.default_rng(seed).normal(size=(count, *(2 if size == 8 else size for size in shape)))
    for axis, size in enumerate(shape, 1):
        drawn = drawn.repeat(4, axis) if size == 8 else drawn
    return drawn.astype(np.float32)


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def corner(images: NDArray[Any]) -> NDArray[Any]:
    """Tell images [n, 3 colours, 8, 8] apart by where they are bright, [n, 3]: one colour in one quarter each."""
    return 2 * np.stack([images[:, 0, :4, :4], images[:, 1, 4:, :4], images[:, 2, :4, 4:]], 1).mean((2, 3))


BOXES = {
    "probabilities": Box((5,), (3,), lambda x: softmax(3 * x[:, :3] - x[:, 2:])),
    "vectors": Box((5,), (2,), lambda x: 100 + 50 * x[:, :2]),
    "a number": Box((5,), (1,), lambda x: 7 * x[:, :1] - 40),
    "a number without an axis": Box((5,), (), lambda x: x[:, 0] - x[:, 1]),
    "channels first": Box((3, 8, 8), (3,), lambda x: softmax(corner(x))),
    "channels last": Box((8, 8, 3), (3,), lambda x: softmax(corner(np.moveaxis(x, -1, 1)))),
    "grey images": Box((1, 8, 8), (3,), lambda x: softmax(corner(np.repeat(x, 3, 1)))),
}


def taught_by(box: Box, step: Distil, student: Student, target: NDArray[np.int64] = NOBODY_KNOWS) -> Engine:
    """Return a student of ``box``, loaded, that never saw more of it than answers."""
    shape = box.signature.inputs[0].shape[1:]
    outside = look(box.signature, rows(*shape), target, box)

    def opened(name: str) -> AbstractContextManager[Engine]:
        return nullcontext(box)

    means = Means(Subject(Path(mkdtemp())), lambda: Path(mkdtemp()), outside=outside, teacher=opened)
    made = make((student, step), means)
    assert made.folder is not None
    return load_engine("onnx", made.folder)


@pytest.mark.parametrize("name", BOXES)
def test_a_student_answers_nearly_what_it_was_taught_under_the_same_names(name: str) -> None:
    box = BOXES[name]
    shape = box.signature.inputs[0].shape[1:]
    student = Student(Dense(hidden=(32,), **FAST)) if len(shape) == 1 else instead_of_images(8, 8)[0]
    engine = taught_by(box, Distil(30, teacher="box"), student)
    assert engine.signature == box.signature
    asked = {"x": rows(*shape, seed=1)}
    ours, theirs = (each.infer(asked)["relu"] for each in (engine, box))
    assert np.square(ours - theirs).mean() < 0.2 * theirs.var(axis=0).mean()
    if name in ("probabilities", "channels first", "channels last"):
        assert ours.sum(axis=1) == pytest.approx(1, abs=1e-5)
        assert (ours.argmax(1) == theirs.argmax(1)).mean() > 0.75


def test_labels_count_where_they_are_known() -> None:
    box = BOXES["probabilities"]
    truth = (box.infer({"x": rows(5)})["relu"].argmax(1) + 1) % 3
    engine = taught_by(box, Distil(20, soft=0.0, teacher="box"), Student(Dense(hidden=(32,), **FAST)), truth)
    assert (engine.infer({"x": rows(5)})["relu"].argmax(1) == truth).mean() > 0.9


def test_a_teacher_that_answers_something_else_is_refused() -> None:
    outside = look(BOXES["vectors"].signature, rows(5), NOBODY_KNOWS, BOXES["vectors"])
    for name in ("probabilities", "grey images"):
        with pytest.raises(NoVariant, match="the original x: "):
            outside.ask(BOXES[name])
    with pytest.raises(NoVariant, match="no finite numbers"):
        outside.ask(Box((5,), (2,), lambda x: np.full((len(x), 2), np.nan)))


X, Y = TensorSpec("x", "FP32", (-1, 5)), TensorSpec("y", "FP32", (-1, 3))


@pytest.mark.parametrize(
    ("given", "told", "said"),
    [
        ((X, X), (Y,), "more inputs or outputs"),
        ((X,), (Y, Y), "more inputs or outputs"),
        ((TensorSpec("x", "INT64", (-1, 5)),), (Y,), "is not FP32 of 2 or 4 axes"),
        ((TensorSpec("x", "FP32", (-1, 5, 5)),), (Y,), "is not FP32 of 2 or 4 axes"),
        ((X,), (TensorSpec("y", "FP32", (-1, 3, 3)),), "is not FP32 of 1 or 2 axes"),
        ((TensorSpec("x", "FP32", (-1, -1)),), (Y,), "has not an open first axis alone"),
        ((TensorSpec("x", "FP32", (1, 5)),), (Y,), "has not an open first axis alone"),
        ((TensorSpec("x", "FP32", (-1, 9, 16, 9)),), (Y,), "no axis of 1 to 4 channels"),
    ],
)
def test_whoever_takes_or_answers_more_teaches_nobody(
    given: tuple[TensorSpec, ...], told: tuple[TensorSpec, ...], said: str
) -> None:
    with pytest.raises(NoVariant, match=said):
        look(Signature(given, told), rows(5), NOBODY_KNOWS, BOXES["vectors"])


def test_students_need_rows_and_are_smaller() -> None:
    box = BOXES["vectors"]
    with pytest.raises(NoVariant, match="so give 512"):
        look(box.signature, rows(5, count=FEWEST_ROWS - 1), NOBODY_KNOWS, box)
    seen = look(box.signature, rows(5), NOBODY_KNOWS, box)
    assert len(pupils(seen, 1_000_000)) == 2
    assert [each.network.hidden for each in pupils(seen, 10_000)] == [(32,)]
    with pytest.raises(NoVariant, match="less than half of the 100 bytes"):
        pupils(seen, 100)


def test_students_of_images_end_where_little_is_left_of_them() -> None:
    assert [instead_of_images(side, side)[0].network.channels for side in (8, 28, 224)] == [
        (16,), (16, 32, 64), (16, 32, 64, 128, 128, 128),
    ]  # fmt: skip
