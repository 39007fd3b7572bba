"""Networks: trained, exported and proved on real digits; the same seed makes the same bytes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes, load_digits

from mofang.base.domain.errors import InvalidDataset, JobCancelled, NoNetwork, TrainingFailed
from mofang.base.domain.work import Silent
from mofang.base.engines.catalog import load_engine
from mofang.make.convert.catalog import converter
from mofang.make.convert.parity import ParityProof, prove
from mofang.make.prepare.dataset import examples_of
from mofang.make.recipe import Augment, Cnn, Dense, Network, ResNet, Rnn, Transformer, Vgg
from mofang.make.train.catalog import trainer
from mofang.make.train.model import TrainedModel
from mofang.make.train.torch.loop import precision
from mofang.make.train.torch.network import Net, read_network

pytestmark = pytest.mark.usefixtures("one_thread")
Rows = tuple[NDArray[np.float32], NDArray[np.int64]]
QUICK = {"learning_rate": 0.01, "batch_size": 32}
SPECS: list[tuple[Network, float]] = [
    (Dense(epochs=4, dropout=0.1, **QUICK), 0.9),
    (Cnn(epochs=2, channels=(8, 16), hidden=(32,), **QUICK), 0.85),
    (Vgg(epochs=3, width=8, hidden=(), decay="cosine", **QUICK), 0.8),
    (ResNet(epochs=2, blocks=(1, 1), width=8, decay="cosine", **QUICK), 0.85),
    (Rnn(epochs=3, steps=8, width=32, **QUICK), 0.8),
    (Rnn(epochs=2, steps=8, width=24, cell="gru", layers=2, bidirectional=True, **QUICK), 0.8),
    (Transformer(epochs=3, steps=8, width=16, layers=1, **QUICK), 0.8),
]


class Cancelled:
    """A Progress that is cancelled at its second report."""

    def __init__(self) -> None:
        self.reports = 0

    def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
        """Count, and stop."""
        self.reports += 1
        if self.reports == 2:
            raise JobCancelled("cancelled")


@pytest.fixture(scope="module")
def digits() -> Rows:
    bunch = load_digits()
    return bunch.data.astype(np.float32), bunch.target.astype(np.int64)


def train(spec: Network, features: NDArray[np.float32], target: NDArray[np.generic]) -> TrainedModel:
    """Train without anybody watching."""
    return trainer(spec)(spec, examples_of(features, target), Silent())


def proved(net: Net, features: NDArray[np.float32], folder: Path) -> tuple[bytes, ParityProof]:
    """Export ``net`` and hold the engine that serves it against it; return the graph and the proof."""
    to_onnx, reference = converter("torch")
    signature = to_onnx(net, folder)
    engine = load_engine("onnx", folder)
    assert engine.signature == signature
    proof = prove(partial(reference, net), engine.infer, features, Silent(), batch_sizes=(1, 64))
    return (folder / "model.onnx").read_bytes(), proof


@pytest.mark.trains("dense", "cnn", "vgg", "resnet", "rnn", "transformer")
@pytest.mark.parametrize(("spec", "accuracy"), SPECS, ids=lambda value: getattr(value, "algorithm", ""))
def test_every_network_learns_and_is_served_as_it_was_trained(
    digits: Rows, spec: Network, accuracy: float, tmp_path: Path
) -> None:
    features, classes = digits
    model = train(spec, features[:1500], classes[:1500])
    graph, proof = proved(model.pipeline, features[1500:], tmp_path)
    assert (proof.passed, proof.missing) == (True, "equal")
    assert proof.max_difference < 1e-5
    engine = load_engine("onnx", tmp_path)
    assert (engine.infer({"features": features[1500:]})["label"] == classes[1500:]).mean() >= accuracy - 0.1
    assert model.curve[-1]["accuracy"] >= accuracy
    assert [point["epoch"] for point in model.curve] == list(range(1, spec.epochs + 1))
    assert {"loss", "train_loss", "learning_rate", "seconds", "rows_per_second"} < set(model.curve[0])
    assert str(tmp_path).encode() not in graph
    assert b"site-packages" not in graph  # the exporter's stack traces stay here


def test_the_same_seed_makes_the_same_bytes_and_another_makes_others(digits: Rows, tmp_path: Path) -> None:
    spec = Cnn(epochs=1, channels=(4,), hidden=(16,), dropout=0.3, seed=3)
    rows = digits[0][:400], digits[1][:400]
    first, again = (train(spec, *rows) for _ in range(2))
    assert first.network == again.network
    graphs = [proved(model.pipeline, rows[0], tmp_path / name)[0] for name, model in (("a", first), ("b", again))]
    assert graphs[0] == graphs[1]
    assert train(Cnn(epochs=1, channels=(4,), hidden=(16,), dropout=0.3, seed=4), *rows).network != first.network


def test_a_kept_network_is_the_network(digits: Rows, tmp_path: Path) -> None:
    model = train(ResNet(epochs=1, blocks=(1,), width=4), digits[0][:300], digits[1][:300])
    back = read_network(model.network)
    assert back.plan == model.pipeline.plan
    graphs = [proved(net, digits[0][:9], tmp_path / name)[0] for name, net in (("a", model.pipeline), ("b", back))]
    assert graphs[0] == graphs[1]


@pytest.mark.parametrize("data", [b"", b"\x08\0\0\0\0\0\0\0{}      ", b"\xff" * 64])
def test_a_file_without_a_network_is_refused(data: bytes) -> None:
    with pytest.raises(NoNetwork):
        read_network(data)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_numbers_are_learned_by_every_loss(loss: str, tmp_path: Path) -> None:
    bunch = load_diabetes()
    features, target = bunch.data.astype(np.float32), bunch.target.astype(np.float64)
    model = train(Dense(epochs=12, hidden=(32,), loss=loss, **QUICK), features, target)  # type: ignore[arg-type]
    assert model.curve[-1]["r2"] > 0.35
    if loss == "mse":  # in units of the target, as everywhere else
        assert model.curve[-1]["loss"] == pytest.approx((1 - model.curve[-1]["r2"]) * target.var(), rel=0.3)
    assert proved(model.pipeline, features, tmp_path)[1].compared == "values"


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "nesterov", "adam", "adamw"])
def test_every_optimiser_and_both_initialisations_learn(digits: Rows, optimiser: str) -> None:
    rate = 0.01 if "adam" in optimiser else 0.1
    init = "xavier" if optimiser == "momentum" else "he"
    spec = Dense(epochs=3, batch_size=32, optimiser=optimiser, learning_rate=rate, initialisation=init)  # type: ignore[arg-type]
    assert train(spec, digits[0][:1000], digits[1][:1000]).curve[-1]["accuracy"] > 0.85


def test_full_batches_take_one_step_an_epoch(digits: Rows) -> None:
    model = train(Dense(epochs=5, batch_size=0, learning_rate=0.05), digits[0][:500], digits[1][:500])
    assert model.curve[-1]["loss"] < model.curve[0]["loss"] / 2


def test_early_stopping_keeps_the_best_epoch(digits: Rows) -> None:
    features, classes = digits[0][:300], digits[1][:300]
    spec = Dense(epochs=200, early_stopping=3, learning_rate=0.05, batch_size=16, hidden=(256,))
    model = train(spec, features, classes)
    losses = [point["loss"] for point in model.curve]
    assert len(losses) == losses.index(min(losses)) + 4 < 200
    best = train(Dense(**{name: getattr(spec, name) for name in Dense.__struct_fields__} | {  # type: ignore[arg-type]
        "epochs": losses.index(min(losses)) + 1, "early_stopping": 0}), features, classes)  # fmt: skip
    assert all(map(torch.equal, best.pipeline.state_dict().values(), model.pipeline.state_dict().values()))


def test_rare_classes_count_as_much_as_others_if_asked(digits: Rows) -> None:
    features, classes = digits
    rare = (classes == 8).nonzero()[0][30:]
    rows = np.setdiff1d(np.arange(len(classes)), rare)
    target = (classes[rows] == 8).astype(np.int64)
    recalls = []
    for weights in ("none", "balanced"):
        spec = Dense(hidden=(), epochs=6, class_weights=weights)  # type: ignore[arg-type]
        net = train(spec, features[rows], target).pipeline
        with torch.no_grad():
            recalls.append(float((net(torch.from_numpy(features[rare])).argmax(dim=1) == 1).float().mean()))
    assert recalls[1] > recalls[0] + 0.2


def test_half_precision_learns_too(digits: Rows) -> None:
    model = train(Dense(epochs=3, precision="bfloat16", **QUICK), digits[0][:800], digits[1][:800])
    assert model.curve[-1]["accuracy"] > 0.85
    assert all(value.dtype != torch.bfloat16 for value in model.pipeline.state_dict().values())


@pytest.mark.parametrize(
    ("spec", "amx", "dtype"),
    [(ResNet(), False, torch.bfloat16), (Dense(), False, torch.float32), (Dense(), True, torch.bfloat16),
     (ResNet(precision="float32"), True, torch.float32)],
    ids=["convolutions with AVX-512", "products with AVX-512", "products with AMX", "as told"],
)  # fmt: skip
def test_half_precision_is_taken_where_it_is_faster(
    spec: Network, amx: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    with precision(spec, torch.device("cpu")):
        assert (torch.zeros(2, 2) @ torch.zeros(2, 2)).dtype == dtype


def test_a_killed_training_goes_on_to_the_same_weights(digits: Rows, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    class KillAt:
        def __init__(self, epoch: int) -> None:
            self.epoch = epoch

        def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
            if data.get("epoch") == self.epoch:
                raise Killed

    spec = Cnn(
        epochs=10, channels=(8,), hidden=(16,), dropout=0.3, optimiser="nesterov", learning_rate=0.02,
        decay="cosine", warmup_epochs=1, early_stopping=9,
    )  # fmt: skip
    file = tmp_path / "checkpoint"
    rows = np.tile(digits[0], (4, 1)), np.tile(digits[1], 4)  # long enough for a checkpoint
    for epoch in (6, 9):
        with pytest.raises(Killed):
            trainer(spec, file)(spec, examples_of(*rows), KillAt(epoch))
        assert file.exists()
    began = torch.load(file, weights_only=True)["state"]["step"]
    assert began > 0
    resumed = trainer(spec, file)(spec, examples_of(*rows), Silent())
    assert resumed.network == train(spec, *rows).network


def test_a_checkpoint_of_other_data_or_another_recipe_is_not_taken_up(digits: Rows, tmp_path: Path) -> None:
    from mofang.make.train.torch.checkpoint import Checkpoint

    file = tmp_path / "checkpoint"
    assert Checkpoint(file, "a").load() is None
    Checkpoint(file, "a").save({"step": 3})
    assert Checkpoint(file, "a").load() == {"step": 3}
    assert Checkpoint(file, "b").load() is None
    file.write_bytes(file.read_bytes()[:100])
    assert Checkpoint(file, "a").load() is None


def test_training_stops_when_it_is_cancelled(digits: Rows) -> None:
    progress = Cancelled()
    spec = Dense(epochs=1000)
    with pytest.raises(JobCancelled):
        trainer(spec)(spec, examples_of(*digits), progress)
    assert progress.reports == 2


def test_weights_that_run_away_are_told(digits: Rows) -> None:
    with pytest.raises(TrainingFailed, match="not finite") as caught:
        train(Dense(optimiser="sgd", learning_rate=10, hidden=(64,) * 8, loss="auto"), digits[0], digits[1])
    assert "learning_rate" in caught.value.hint


def test_rows_that_are_no_image_are_told(digits: Rows) -> None:
    with pytest.raises(InvalidDataset, match="rows of 63 numbers are no square images"):
        train(Cnn(), digits[0][:, 1:], digits[1])
    with pytest.raises(InvalidDataset, match="rows of 64 numbers are no 5 steps of equal size") as caught:
        train(Rnn(steps=5), *digits)
    assert "steps" in caught.value.hint
    with pytest.raises(InvalidDataset, match="two classes"):
        train(Dense(), digits[0], np.zeros_like(digits[1]))


def test_images_in_colour_are_learned_changed_and_served(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    classes = random.integers(0, 2, 400)
    images = random.integers(0, 256, (400, 8, 12, 3)).astype(np.uint8)
    images[classes == 1, :, :, 2] //= 2  # less blue
    plain = examples_of(images, classes)
    changed = replace(plain, augmentation=Augment(flip=0.5, crop=1))
    spec = Cnn(epochs=3, channels=(8,), hidden=(), **QUICK)
    model, other = (trainer(spec)(spec, examples, Silent()) for examples in (plain, changed))
    assert min(model.curve[-1]["accuracy"], other.curve[-1]["accuracy"]) > 0.9
    assert model.network != other.network
    assert model.pipeline.plan.shape == (3, 8, 12)
    assert proved(model.pipeline, plain.rows(), tmp_path)[1].passed
