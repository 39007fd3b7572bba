"""Networks with parts cut out: fewer numbers everywhere, the least important ones gone, and whole when read again."""

from __future__ import annotations

import copy
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from mofang.base.domain.errors import NoNetwork, NoVariant
from mofang.base.domain.work import Silent
from mofang.base.engines.catalog import load_engine
from mofang.make.compress.catalog import apply, make
from mofang.make.compress.step import Prune
from mofang.make.compress.subject import Means, Subject
from mofang.make.compress.torch.groups import groups
from mofang.make.compress.torch.prune import importance, least, without
from mofang.make.convert.torch import reference
from mofang.make.prepare.dataset import Examples, examples_of
from mofang.make.recipe import Cnn, Dense, Network, ResNet, Rnn, Transformer, Vgg
from mofang.make.train.torch.batches import Prepared
from mofang.make.train.torch.network import Blueprint, Net, initialise, read_network, write_network
from mofang.make.train.torch.train import loss_of, train

pytestmark = pytest.mark.usefixtures("one_thread")
SPECS: list[tuple[Network, str]] = [
    (Dense(hidden=(32, 16)), "body.0.weight"),
    (Cnn(channels=(8, 16), hidden=(16,)), "body.8.0.weight"),
    (Vgg(width=8, hidden=()), "body.0.0.weight"),
    (ResNet(blocks=(1, 2), width=8), "body.blocks.1.shortcut.0.weight"),
    (Rnn(steps=8, width=16), "body.cells.weight_hh_l0"),
    (Rnn(steps=8, width=16, cell="gru", layers=2, bidirectional=True), "body.cells.weight_ih_l1_reverse"),
    (Transformer(steps=8, width=16, layers=2), "body.layers.1.attention.joins.weight"),
]


@pytest.fixture(scope="module")
def digits() -> Examples:
    bunch = load_digits()
    return examples_of(bunch.images.astype(np.float32), bunch.target)


def shape_of(spec: Network) -> tuple[int, ...]:
    image = isinstance(spec, Cnn | Vgg | ResNet)
    return (1, 8, 8) if image else (64,) if isinstance(spec, Dense) else (8, 8)


def network(spec: Network, classes: int = 10) -> Net:
    torch.manual_seed(0)
    net = Net(Blueprint(spec, 64, shape_of(spec), classes))  # type: ignore[arg-type]
    initialise(net, "he")
    return net.eval()


def means(net: Net, examples: Examples | None) -> Means:
    return Means(Subject(None, model=net, framework="torch"), lambda: Path(mkdtemp()), examples=examples)


def size(net: Net) -> int:
    return sum(value.numel() for value in net.parameters())


@pytest.mark.parametrize(("spec", "narrower"), SPECS, ids=lambda value: getattr(value, "algorithm", ""))
def test_half_of_every_network_goes_and_the_rest_is_served(
    digits: Examples, spec: Network, narrower: str, tmp_path: Path
) -> None:
    net = network(spec)
    tools = means(net, digits)
    made = make((Prune(0.5),), tools)
    smaller = made.model
    assert size(smaller) < 0.6 * size(net)
    before, after = net.state_dict()[narrower].shape, smaller.state_dict()[narrower].shape
    assert any(now == was // 2 for was, now in zip(before, after, strict=True))
    assert made.folder is not None
    rows = digits.rows()[:9]
    served = load_engine("onnx", made.folder).infer({"features": rows})["probabilities"]
    assert np.allclose(served, reference(smaller, rows)["probabilities"], atol=1e-5)
    again = read_network(write_network(smaller))
    assert write_network(again) == write_network(smaller)
    assert np.array_equal(reference(again, rows)["probabilities"], reference(smaller, rows)["probabilities"])
    assert size(net) == size(network(spec))  # the original is as it was


@pytest.mark.parametrize("spec", [spec for spec, _ in SPECS], ids=lambda spec: spec.algorithm)
def test_what_nothing_listens_to_goes_first(digits: Examples, spec: Network) -> None:
    """A unit whose weights are all zero can go without a trace; importance finds exactly those."""
    net = network(spec)
    found = groups(net)
    random = np.random.default_rng(1)
    dead = [np.sort(random.permutation(group.units)[: group.units // 2]) for group in found]
    with torch.no_grad():
        state = net.state_dict()
        for group, those in zip(found, dead, strict=True):
            for cut in group.cuts:
                if not cut.tensor.endswith("running_var"):
                    state[cut.tensor].index_fill_(cut.axis, torch.from_numpy(cut.places[those].ravel()), 0)
    batches = Prepared(digits, np.arange(400))
    scores = importance(net, found, batches, loss_of(spec, digits.target))
    for score, those in zip(scores, dead, strict=True):
        assert score[those].max() == 0
        assert set(least(score, 0.5)) <= set(np.flatnonzero(score == 0))
    rows = torch.from_numpy(digits.rows()[:20])
    smaller = without(net, found, dead)
    assert size(smaller) < size(net)
    assert torch.allclose(smaller(rows), net(rows), atol=1e-5)


def test_importance_beats_chance(digits: Examples) -> None:
    net = train(Dense(epochs=4, hidden=(64,), learning_rate=0.01, batch_size=32), digits, Silent()).pipeline
    found = groups(net)
    scores = importance(
        net, found, Prepared(digits, np.arange(len(digits.target))), loss_of(net.plan.spec, digits.target)
    )

    def accuracy(order: list[np.ndarray]) -> float:
        said = reference(without(net, found, [least(each, 0.7) for each in order]), digits.rows())["label"]
        return float((said == digits.target).mean())

    random = np.random.default_rng(0)
    by_chance = np.mean([accuracy([random.random(group.units) for group in found]) for _ in range(5)])
    assert accuracy([*scores]) > by_chance + 0.05
    assert accuracy([-each for each in scores]) < by_chance  # the most important first


def test_wide_layers_keep_multiples_of_what_a_processor_takes_at_once() -> None:
    counts = {share: 64 - len(least(np.arange(64.0), share)) for share in (0.1, 0.3, 0.5, 0.9, 0.99)}
    assert counts == {0.1: 56, 0.3: 44, 0.5: 32, 0.9: 8, 0.99: 4}
    assert len(least(np.arange(4.0), 0.99)) == 3  # one is left
    assert least(np.array([3.0, 1, 2]), 0.4).tolist() == [1]


def test_pruned_networks_are_pruned_again(digits: Examples) -> None:
    tools = means(network(ResNet(blocks=(1, 1), width=16)), digits)
    once = apply(Prune(0.5), tools.original, tools)
    twice = apply(Prune(0.5), once, tools)
    assert once.model.state_dict()["body.stem.0.weight"].shape[0] == 8
    assert twice.model.state_dict()["body.stem.0.weight"].shape[0] == 4


def test_single_weights_become_zero_and_the_shapes_stay(digits: Examples) -> None:
    net = network(Dense(hidden=(32,)))
    zeroed = apply(Prune(0.75, "weights"), means(net, digits).original, means(net, digits)).model
    for (name, before), after in zip(net.named_parameters(), zeroed.parameters(), strict=True):
        assert before.shape == after.shape
        if before.ndim > 1:
            zeros = after == 0
            assert float(zeros.float().mean()) == pytest.approx(0.75, abs=0.01)
            assert before[zeros].abs().max() <= before[~zeros].abs().min()
            assert torch.equal(before[~zeros], after[~zeros]), name


def test_nothing_to_prune_is_told(digits: Examples) -> None:
    net = network(Dense(hidden=()))
    with pytest.raises(NoVariant, match="no hidden channels"):
        apply(Prune(0.5), means(net, digits).original, means(net, digits))
    narrow = network(Dense(hidden=(1,)))
    with pytest.raises(NoVariant, match="wide enough"):
        apply(Prune(0.5), means(narrow, digits).original, means(narrow, digits))


def test_a_file_whose_layers_do_not_fit_together_is_refused(digits: Examples) -> None:
    net = copy.deepcopy(network(Dense(hidden=(8,))))
    net.body[0].weight = torch.nn.Parameter(torch.zeros(5, 64))
    net.body[0].bias = torch.nn.Parameter(torch.zeros(5))
    with pytest.raises(NoNetwork):
        read_network(write_network(net))
