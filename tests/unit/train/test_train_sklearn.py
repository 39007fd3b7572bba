"""Training on real digits."""

import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from mofang.base.domain.errors import InvalidDataset, JobCancelled, TrainingFailed
from mofang.base.domain.work import Silent
from mofang.make.prepare.dataset import examples_of
from mofang.make.recipe import DecisionTree, LogisticRegression, Mlp, RandomForest, Train
from mofang.make.train.sklearn import train

Rows = tuple[NDArray[np.float32], NDArray[np.int64]]
SPECS = [
    (LogisticRegression(epochs=5), 5, 0.85),
    (Mlp(epochs=6, hidden=(32,), batch_size=32, learning_rate=0.003), 6, 0.9),
    (DecisionTree(max_depth=12), 1, 0.75),
    (RandomForest(trees=25), 10, 0.9),
]


class Watched:
    """A Progress that keeps what it is told, and can cancel."""

    def __init__(self, cancel_after: int = 1_000) -> None:
        self.points: list[tuple[float, str, dict[str, float | int | str]]] = []
        self._cancel_after = cancel_after

    def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
        if len(self.points) == self._cancel_after:
            raise JobCancelled("cancelled")
        self.points.append((fraction, message, data))


@pytest.fixture(scope="module")
def digits() -> Rows:
    bunch = load_digits()
    return bunch.data.astype(np.float32), bunch.target.astype(np.int64)


@pytest.mark.trains("logistic_regression", "mlp", "decision_tree", "random_forest")
@pytest.mark.parametrize(("spec", "epochs", "accuracy"), SPECS, ids=lambda value: getattr(value, "algorithm", ""))
def test_every_algorithm_learns_and_tells_its_curve(digits: Rows, spec: Train, epochs: int, accuracy: float) -> None:
    features, classes = digits
    progress = Watched()
    model = train(spec, examples_of(features[:1400], classes[:1400]), progress)
    assert model.pipeline.score(features[1400:], classes[1400:]) >= accuracy
    assert [point["epoch"] for point in model.curve] == list(range(1, epochs + 1))
    assert set(model.curve[0]) == {"epoch", "loss", "accuracy", "seconds", "rows_per_second"}
    assert model.curve[-1]["loss"] <= model.curve[0]["loss"]
    assert [data for _, _, data in progress.points] == list(model.curve)
    assert progress.points[-1][0] == 1.0
    assert progress.points[-1][1].startswith(f"epoch {epochs} of {epochs}: loss ")


def test_models_answer_rows_with_missing_values(digits: Rows) -> None:
    model = train(LogisticRegression(epochs=1), examples_of(*digits), Silent())
    assert np.isfinite(model.pipeline.predict_proba(np.full((1, 64), np.nan, dtype=np.float32))).all()


def test_training_stops_within_an_epoch_of_being_cancelled(digits: Rows) -> None:
    progress = Watched(cancel_after=2)
    with pytest.raises(JobCancelled):
        train(LogisticRegression(epochs=1000), examples_of(*digits), progress)
    assert len(progress.points) == 2


def test_weights_that_run_away_are_told(digits: Rows) -> None:
    with pytest.raises(TrainingFailed, match="training failed in epoch 1") as caught:
        train(Mlp(learning_rate=10, hidden=(512,) * 16, batch_size=500), examples_of(*digits), Silent())
    assert "learning_rate" in caught.value.hint


def test_one_class_is_not_enough(digits: Rows) -> None:
    with pytest.raises(InvalidDataset, match="two classes"):
        train(DecisionTree(), examples_of(digits[0], np.zeros(len(digits[0]), dtype=np.int64)), Silent())


PROGRAM = """
import hashlib, pathlib, sys
import numpy as np
from sklearn.datasets import load_digits
from mofang.base.domain.work import Silent
from mofang.make.convert.sklearn import save, to_onnx
from mofang.make.prepare.dataset import examples_of
from mofang.make.recipe import Mlp, RandomForest
from mofang.make.train.sklearn import train
digits = load_digits()
for spec in (Mlp(epochs=2, hidden=(16,), seed=3), RandomForest(trees=5, seed=3)):
    model = train(spec, examples_of(digits.data.astype(np.float32), digits.target), Silent())
    folder = pathlib.Path(sys.argv[1])
    to_onnx(model.pipeline, folder)
    save(model.pipeline, folder)
    for name in ("model.onnx", "model.skops"):
        print(spec.algorithm, name, hashlib.sha256((folder / name).read_bytes()).hexdigest())
"""


def test_the_same_seed_makes_the_same_bytes_in_every_process(tmp_path_factory: pytest.TempPathFactory) -> None:
    # Another hash seed and another number of threads are what used to change the bytes.
    outputs = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path_factory.mktemp("model"))],
            env={"PYTHONHASHSEED": seed, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, threads in (("1", "1"), ("2", "2"))
    ]
    assert outputs[0] == outputs[1]
    assert len(set(outputs[0].split())) == 8


def test_another_seed_makes_another_model(digits: Rows) -> None:
    first, other = (train(Mlp(epochs=1, seed=seed), examples_of(*digits), Silent()).pipeline for seed in (1, 2))
    assert (first.predict_proba(digits[0][:9]) != other.predict_proba(digits[0][:9])).any()
