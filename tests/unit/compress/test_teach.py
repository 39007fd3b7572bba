"""Networks trained after they were made smaller: they come nearer to labels, or to a teacher of any sort."""

from __future__ import annotations

from contextlib import AbstractContextManager, closing
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits

from mofang.base.domain.errors import JobCancelled, NoVariant
from mofang.base.domain.work import Silent
from mofang.base.engines.base import Engine
from mofang.base.engines.catalog import load_engine
from mofang.make.compress.catalog import apply, make
from mofang.make.compress.step import Distil, Prune, Steps, Student, Tune, told
from mofang.make.compress.subject import Means, Subject
from mofang.make.compress.torch.teach import softened, unlike
from mofang.make.convert.catalog import converter
from mofang.make.convert.torch import reference
from mofang.make.prepare.dataset import Examples, examples_of
from mofang.make.recipe import Augment, Cnn, Dense, RandomForest, Train
from mofang.make.train.catalog import trainer
from mofang.make.train.torch.network import Net, write_network

pytestmark = pytest.mark.usefixtures("one_thread")
FAST = {"learning_rate": 0.01, "batch_size": 32}


@pytest.fixture(scope="module")
def digits() -> Examples:
    bunch = load_digits()
    return examples_of(bunch.images.astype(np.float32), bunch.target)


def original(spec: Train, examples: Examples, *, files: bool = True) -> Subject:
    model = trainer(spec)(spec, examples, Silent()).pipeline
    folder = Path(mkdtemp()) if files else None
    if folder is not None:
        converter(spec.framework)[0](model, folder)
    return Subject(folder, "onnx", model, spec.framework)


@pytest.fixture(scope="module")
def teacher(digits: Examples) -> Subject:
    torch.set_num_threads(1)
    return original(Cnn(epochs=4, channels=(8, 16), hidden=(), **FAST), digits)


def means(subject: Subject, examples: Examples | None) -> Means:
    return Means(subject, lambda: Path(mkdtemp()), examples=examples)


def beliefs(net: Net, examples: Examples) -> torch.Tensor:
    with torch.no_grad():
        return torch.softmax(net.eval()(torch.from_numpy(examples.rows())), dim=1)


def apart(net: Net, other: Net, examples: Examples) -> float:
    return float((beliefs(net, examples) - beliefs(other, examples)).abs().sum(dim=1).mean())


def accuracy(net: Net, examples: Examples) -> float:
    return float((beliefs(net, examples).argmax(dim=1).numpy() == examples.target).mean())


def taken(steps: Steps, tools: Means) -> Net:
    subject = tools.original
    for step in steps:
        subject = apply(step, subject, tools)
    net: Net = subject.model
    return net


@pytest.mark.parametrize("augmentation", [Augment(), Augment(crop=1)], ids=["as they are", "augmented"])
def test_a_pruned_network_comes_back_to_its_teacher(digits: Examples, teacher: Subject, augmentation: Augment) -> None:
    tools = means(teacher, replace(digits, augmentation=augmentation))
    pruned = taken((Prune(0.5),), tools)
    taught = taken((Prune(0.5), Distil(3)), tools)
    assert apart(taught, teacher.model, digits) < 0.5 * apart(pruned, teacher.model, digits)
    assert accuracy(taught, digits) > accuracy(pruned, digits) + 0.3
    assert [value.shape for value in taught.parameters()] == [value.shape for value in pruned.parameters()]


def test_tuning_learns_the_labels(digits: Examples, teacher: Subject) -> None:
    tools = means(teacher, digits)
    assert accuracy(taken((Prune(0.5), Tune(2)), tools), digits) > 0.85
    assert write_network(taken((Prune(0.5), Tune(1)), tools)) == write_network(taken((Prune(0.5), Tune(1)), tools))


def test_a_student_of_another_kind_learns_from_a_network(digits: Examples, teacher: Subject) -> None:
    steps = (Student(Dense(hidden=(24,), **FAST)), Distil(8))
    made = make(steps, means(teacher, digits))
    assert told(steps) == "student dense hidden 24 → distil 8 epochs"
    assert made.folder is not None
    rows = digits.rows()
    answers = [
        load_engine("onnx", folder).infer({"features": rows})["label"] for folder in (made.folder, teacher.folder)
    ]
    assert (answers[0] == answers[1]).mean() > 0.9
    untaught = taken(steps[:1], means(teacher, digits))
    assert apart(made.model, teacher.model, digits) < 0.5 * apart(untaught, teacher.model, digits)


def test_a_small_network_learns_from_a_forest_of_which_only_answers_are_known(digits: Examples) -> None:
    forest = original(RandomForest(trees=60), digits)
    tools = means(replace(forest, model=None, framework=""), digits)
    made = make((Student(Dense(hidden=(32,), **FAST)), Distil(8, soft=1.0)), tools)
    assert made.folder is not None
    files = [sum(path.stat().st_size for path in folder.iterdir()) for folder in (made.folder, forest.folder)]
    assert files[0] < files[1] / 10
    rows = digits.rows()
    answers = [
        load_engine("onnx", folder).infer({"features": rows})["label"] for folder in (made.folder, forest.folder)
    ]
    assert (answers[0] == answers[1]).mean() > 0.9


def test_a_teacher_may_be_another_version(digits: Examples, teacher: Subject) -> None:
    """Its answers are believed, also where the labels say otherwise: it was taught that every digit is one more."""
    shifted = original(Dense(epochs=6, **FAST), replace(digits, target=(digits.target + 1) % 10))

    def opened(name: str) -> AbstractContextManager[Engine]:
        assert name == "other@3"
        assert shifted.folder is not None
        return closing(load_engine("onnx", shifted.folder))

    tools = replace(means(teacher, digits), teacher=opened)
    taught = taken((Student(Dense(hidden=(24,), **FAST)), Distil(6, soft=1.0, teacher="other@3")), tools)
    assert accuracy(taught, replace(digits, target=(digits.target + 1) % 10)) > 0.9
    with pytest.raises(NoVariant, match="cannot be asked"):
        taken((Distil(1, teacher="other@3"),), means(teacher, digits))


def test_labels_may_be_missing_where_there_is_a_teacher(digits: Examples, teacher: Subject) -> None:
    unlabelled = replace(digits, target=np.empty(0, np.int64))
    taught = taken((Student(Dense(hidden=(24,), **FAST)), Distil(6)), means(teacher, unlabelled))
    assert accuracy(taught, digits) > 0.85
    with pytest.raises(NoVariant, match="no labels"):
        taken((Student(Dense(hidden=(24,), **FAST)), Tune(1)), means(teacher, unlabelled))


def test_without_rows_there_is_nothing_to_learn_from(teacher: Subject) -> None:
    for step in (Tune(1), Distil(1), Student(Dense())):
        with pytest.raises(NoVariant, match="no rows to learn from"):
            taken((step,), means(teacher, None))


def test_a_student_of_numbers() -> None:
    bunch = load_diabetes()
    examples = examples_of(bunch.data.astype(np.float32), bunch.target.astype(np.float64))
    teacher = original(Dense(epochs=15, hidden=(32,), **FAST), examples, files=False)
    student = taken((Student(Dense(hidden=(16,), **FAST)), Distil(15, soft=0.9)), means(teacher, examples))
    values = [reference(net, examples.rows())["value"] for net in (student, teacher.model)]
    assert np.corrcoef(values)[0, 1] > 0.9
    assert np.abs(values[0] - values[1]).mean() < 0.5 * np.abs(values[1] - bunch.target).mean()


def test_hints_are_followed_and_only_networks_give_them(digits: Examples, teacher: Subject) -> None:
    tools = means(teacher, digits)
    bare = Student(Cnn(channels=(4, 8), hidden=(), **FAST))

    def last(net: Net) -> torch.Tensor:
        given: list[torch.Tensor] = []
        *_, layer = (module for module in net.modules() if isinstance(module, torch.nn.Linear))
        hook = layer.register_forward_pre_hook(lambda _, rows: given.append(rows[0]))
        beliefs(net, digits)
        hook.remove()
        return given[0]

    plain, hinted = (taken((bare, Distil(2, hints=hints)), tools) for hints in (0.0, 300.0))
    target = last(teacher.model)
    assert unlike(last(hinted), target) < 0.8 * unlike(last(plain), target)
    with pytest.raises(NoVariant, match="hints"):
        taken((bare, Distil(1, hints=1.0)), means(replace(teacher, model=None, framework=""), digits))


def test_zeros_stay_zero_while_the_rest_learns(digits: Examples, teacher: Subject) -> None:
    tools = means(teacher, digits)
    zeroed = taken((Prune(0.8, "weights"),), tools)
    tuned = taken((Prune(0.8, "weights"), Tune(2)), tools)
    for before, after in zip(zeroed.parameters(), tuned.parameters(), strict=True):
        if before.ndim > 1:
            assert torch.equal(before == 0, after == 0)
    assert accuracy(tuned, digits) > accuracy(zeroed, digits) + 0.1


def test_a_part_of_an_epoch_sees_a_part_of_the_rows(digits: Examples, teacher: Subject) -> None:
    seen = []

    class Listening:
        def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
            seen.append(message)

    taken((Distil(0.5),), replace(means(teacher, digits), progress=Listening()))
    assert seen[-1].startswith("distil 0.5 epochs: epoch 1 of 1, loss")
    assert "accuracy" in seen[-1]


def test_killed_training_goes_on_where_it_was(
    digits: Examples, teacher: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mofang.make.train.torch.checkpoint.Checkpoint.is_due", lambda self: True)
    whole = taken((Distil(3),), means(teacher, digits))

    class Cancelling:
        def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
            if ": epoch" in message and fraction > 0.6:
                raise JobCancelled("cancelled")

    kept = replace(means(teacher, digits), checkpoints=tmp_path)
    with pytest.raises(JobCancelled):
        taken((Distil(3),), replace(kept, progress=Cancelling()))
    assert len([*tmp_path.iterdir()]) == 1
    fractions: list[float] = []

    class Listening:
        def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
            fractions.extend([fraction] * (": epoch" in message))

    resumed = taken((Distil(3),), replace(kept, progress=Listening()))
    assert min(fractions) > 0.6
    assert write_network(resumed) == write_network(whole)


def test_what_a_killed_job_had_trained_is_not_trained_again(digits: Examples, teacher: Subject, tmp_path: Path) -> None:
    kept = replace(means(teacher, digits), checkpoints=tmp_path)
    first = taken((Distil(1),), kept)

    class Refusing:
        def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
            raise AssertionError(f"trained again: {message}")

    again = taken((Distil(1),), replace(kept, progress=Refusing()))
    assert write_network(again) == write_network(first)
    assert write_network(taken((Distil(1, soft=0.2),), kept)) != write_network(first)  # another step is another network


def test_soft_targets_are_those_of_hinton() -> None:
    said, found = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[0.5, 0.5, 0.0]])
    for temperature in (1.0, 4.0):
        told_by, thought = (torch.softmax(part / temperature, dim=1) for part in (said, found))
        expected = float((told_by * (told_by / thought).log()).sum()) * temperature**2
        assert float(softened(found, said, temperature)) == pytest.approx(expected, rel=1e-5)
    assert float(softened(said, said, 4.0)) == pytest.approx(0, abs=1e-6)
