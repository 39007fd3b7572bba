"""The training loop beside the same steps written by hand, in turns, so that a busy machine is busy for both."""

from __future__ import annotations

import statistics
import time

import torch
from torch.nn import functional

from mofang.make.prepare.dataset import Schema
from mofang.make.recipe import Cnn, Dense, Network, ResNet
from mofang.make.train.torch.batches import Tensors
from mofang.make.train.torch.loop import fit
from mofang.make.train.torch.network import Net, blueprint, initialise

CASES: tuple[tuple[str, Network, int, int], ...] = (
    ("dense 784-128-10", Dense(epochs=1, batch_size=128), 784, 6_000),
    ("cnn 28 x 28", Cnn(epochs=1, batch_size=128, channels=(8, 16), hidden=(64,)), 784, 1_500),
    ("resnet 28 x 28", ResNet(epochs=1, batch_size=128, blocks=(1, 1), width=8), 784, 600),
)


def network(spec: Network, features: int) -> Net:
    """Make the network anew, the same each time."""
    torch.manual_seed(0)
    net = Net(blueprint(spec, Schema(features, "float32", tuple("0123456789"))))
    initialise(net, "he")
    return net


def by_hand(spec: Network, net: Net, rows: torch.Tensor, target: torch.Tensor) -> None:
    """One epoch, as people write it."""
    optimiser = torch.optim.Adam(net.parameters(), lr=spec.learning_rate)
    net.train()
    for index in torch.randperm(len(rows)).split(spec.batch_size):
        optimiser.zero_grad()
        loss = functional.cross_entropy(net(rows[index]), target[index])
        loss.backward()
        optimiser.step()


def by_the_loop(spec: Network, net: Net, rows: torch.Tensor, target: torch.Tensor) -> None:
    """One epoch by the loop, nothing measured after it."""
    fit(
        net,
        Tensors(rows, target),
        spec,
        loss=lambda net, rows, target: functional.cross_entropy(net(rows), target),
        measure=lambda net: {"loss": 0.0},
    )


def measure(rounds: int) -> None:
    """Print the median of the ratios of neighbouring rounds."""
    for name, spec, features, count in CASES:
        rows, target = torch.randn(count, features), torch.randint(0, 10, (count,))
        ratios = []
        for turn in range(rounds + 1):
            seconds = {}
            for way in (by_hand, by_the_loop) if turn % 2 else (by_the_loop, by_hand):
                net = network(spec, features)
                begun = time.process_time()
                way(spec, net, rows, target)
                seconds[way] = time.process_time() - begun
            if turn:  # the first warms up
                ratios.append(seconds[by_the_loop] / seconds[by_hand])
        low, high = statistics.quantiles(ratios, n=4)[::2]
        print(
            f"{name:<18} the loop takes {statistics.median(ratios):.3f} times as long as by hand"
            f" (middle half {low:.3f} to {high:.3f}, {rounds} rounds)"
        )
