"""What a search proposes to learn from a model: smaller networks, trained as long as it takes."""

from __future__ import annotations

from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
import torch

from mofang.base.domain.work import Silent
from mofang.make.compress.catalog import abilities
from mofang.make.compress.pick import Wish
from mofang.make.compress.propose import Can, Tried, propose
from mofang.make.compress.step import Distil, Int8, Steps, Student, Thin
from mofang.make.compress.students import instead_of_trees, students
from mofang.make.compress.subject import Means, Subject
from mofang.make.convert.catalog import converter
from mofang.make.prepare.dataset import Examples, examples_of
from mofang.make.recipe import Cnn, Dense, Network, RandomForest, ResNet, Rnn, Transformer, Vgg
from mofang.make.train.catalog import trainer
from mofang.make.train.torch.network import Net, blueprint, count_parameters


@pytest.mark.parametrize(
    "spec",
    [ResNet(), Vgg(), Cnn(), Dense(hidden=(64, 64)), Rnn(steps=8), Transformer(steps=8)],
    ids=lambda spec: spec.algorithm,
)
def test_students_are_smaller_and_trained_alike(spec: Network) -> None:
    schema = examples_of(np.zeros((4, 16, 16), np.float32), np.array([0, 1, 2, 3])).schema
    spec = type(spec)(**{**{name: getattr(spec, name) for name in spec.__struct_fields__}, "learning_rate": 0.03})
    found = students(spec)
    assert found
    for student in found:
        assert count_parameters(student.network, schema) < count_parameters(spec, schema)
        assert student.network.learning_rate == 0.03


@pytest.mark.parametrize(
    ("width", "channels"), [(16, [16, 16, 32, 32, 40, 40]), (24, [16, 16, 32, 32, 56, 56]), (4, [4, 4, 8, 8, 8, 8])]
)
def test_a_residual_network_is_taught_to_a_few_plain_layers(width: int, channels: list[int]) -> None:
    schema = examples_of(np.zeros((10, 28, 28), np.float32), np.arange(10)).schema
    teacher = ResNet(blocks=(2, 2, 2), width=width)
    (student,) = students(teacher)
    layers = [each for each in Net(blueprint(student.network, schema)).modules() if isinstance(each, torch.nn.Conv2d)]
    assert [each.out_channels for each in layers] == channels
    assert count_parameters(student.network, schema) * 3.7 < count_parameters(teacher, schema)


def test_what_is_small_already_has_no_students() -> None:
    assert students(Dense(hidden=(8,))) == students(Cnn(hidden=())) == students(Transformer(layers=1)) == ()


def all_proposals(can: Can) -> list[Steps]:
    """Return all proposals, where none can be made."""
    tried: list[Tried] = []
    while (steps := propose(can, tried, Wish())) is not None:
        tried.append(Tried(steps, None, "no"))
    return [each.steps for each in tried]


def test_a_student_is_taught_and_quantised() -> None:
    found = all_proposals(Can(students=instead_of_trees(), trees=True, calibration=True, epochs=4))
    (student,) = instead_of_trees()
    taught = (student, Distil(32, soft=0.9))
    assert found.index(taught) + 1 == found.index((*taught, Int8("static")))
    assert found.index((Thin(0.5),)) < found.index(taught)
    assert not any(isinstance(step, Student) for steps in all_proposals(Can()) for step in steps)


def means(spec: RandomForest | Dense, examples: Examples) -> Means:
    torch.set_num_threads(1)
    folder = Path(mkdtemp())
    model = trainer(spec)(spec, examples, Silent()).pipeline
    converter(spec.framework)[0](model, folder)
    return Means(Subject(folder, model=model, framework=spec.framework), lambda: Path(mkdtemp()), examples=examples)


def test_few_rows_are_seen_more_often() -> None:
    random = np.random.default_rng(0)
    rows, target = random.random((20_000, 4), np.float32), random.integers(0, 3, 20_000)
    spec = Dense(hidden=(4,), epochs=1, batch_size=32)
    many, few = (abilities(means(spec, examples_of(rows[:count], target[:count]))) for count in (20_000, 640))
    assert (many.network, many.trees) == (True, False)
    assert many.epochs < few.epochs
    forest = abilities(means(RandomForest(trees=3), examples_of(rows[:640], target[:640])))
    assert (forest.network, forest.trees) == (False, True)
    assert forest.students == instead_of_trees()
