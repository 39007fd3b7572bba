"""The training loop: any network, any loss; it can be followed, cancelled, and killed without losing its way.

``train.py`` calls :func:`fit` for recipes, compression for networks that learn from others. Every step draws its random
numbers from the seed and its own number, so that a run that goes on from a checkpoint is the run that was interrupted:
it ends with the same weights, bit for bit, on the same machine.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mofang.base.domain.errors import TrainingFailed
from mofang.make.recipe import Cnn, Descent, ResNet, Vgg
from mofang.make.train.rates import Rates, epochs_since_best, falls
from mofang.make.train.torch.batches import Batches
from mofang.make.train.torch.checkpoint import Checkpoint
from mofang.make.train.torch.optimise import optimiser

Point = dict[str, float]
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(network, rows of a batch, their target) to the number to make small. It calls the network itself."""
Measure = Callable[[nn.Module], Point]
"""The network, in evaluation mode, to what a curve tells after an epoch; of "loss", less is better."""
Watch = Callable[[float, Point], None]
"""(epochs done, what is known): called after every epoch, and now and then in between. What it raises ends training."""

_TELL_SECONDS = 2.0


def fit(
    net: nn.Module,
    batches: Batches,
    spec: Descent,
    *,
    loss: Loss,
    measure: Measure,
    watch: Watch = lambda epochs, point: None,
    checkpoint: Path | None = None,
) -> list[Point]:
    """Train ``net`` in place, as ``spec`` says (its layers do not matter here); return the curve, a point an epoch.

    With ``checkpoint``, a file that need not exist, training goes on where an earlier call with the same arguments was
    killed. With early stopping the weights of the best epoch are the result. Raises TrainingFailed if the loss runs
    away.
    """
    loop = _Loop(net, batches, spec, loss, measure, watch)
    if checkpoint is not None:
        loop.go_on(Checkpoint(checkpoint, f"{spec!r} {batches.fingerprint()}"))
    loop.run()
    return loop.curve


class _Loop:
    """One run: the state that a checkpoint keeps, and what moves it."""

    def __init__(
        self,
        net: nn.Module,
        batches: Batches,
        spec: Descent,
        loss: Loss,
        measure: Measure,
        watch: Watch,
    ) -> None:
        self._net, self._batches, self._spec = net, batches, spec
        self._loss, self._measure, self._watch = loss, measure, watch
        self._device = next(net.parameters()).device
        self._steps = math.ceil(len(batches) / (spec.batch_size or len(batches)))  # of an epoch
        self._rates = Rates(spec, self._steps)
        self._optimiser = optimiser(spec, net)
        self._checkpoint: Checkpoint | None = None
        self._best: dict[str, Tensor] = {}
        self._step = 0  # of the whole run
        self._running = torch.zeros((), device=self._device)  # sum of this epoch's losses
        self._began = self._told_at = time.perf_counter()
        self.curve: list[Point] = []

    def go_on(self, checkpoint: Checkpoint) -> None:
        """Keep the state in ``checkpoint`` from now on, and take up what it holds."""
        self._checkpoint = checkpoint
        state = checkpoint.load()
        if state is None:
            return
        self._net.load_state_dict(state["net"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._running.copy_(state["running"])
        self._best, self._step, self.curve = state["best"], state["step"], state["curve"]
        self._began -= state["seconds"]

    def run(self) -> None:
        """Train epoch by epoch: to the last, or until it gets no better."""
        while len(self.curve) < self._spec.epochs and not self._is_over():
            self._epoch()
        if self._best:
            self._net.load_state_dict(self._best)
        self._net.eval()

    def _is_over(self) -> bool:
        patience = self._spec.early_stopping
        return bool(patience and self.curve) and epochs_since_best(self._losses()) >= patience

    def _losses(self) -> list[float]:
        return [point["loss"] for point in self.curve]

    def _epoch(self) -> None:
        epoch = len(self.curve)
        shuffle = torch.Generator().manual_seed(_seed(self._spec.seed, epoch, "order"))
        order = torch.randperm(len(self._batches), generator=shuffle).tensor_split(self._steps)
        lost = falls(self._losses(), self._spec.decay_epochs) if self._spec.decay == "plateau" else 0
        self._net.train()
        for number in range(self._step - epoch * self._steps, self._steps):
            self._train_on(order[number], self._rates.rate(self._step, lost))
            self._step += 1
            if number + 1 < self._steps and time.perf_counter() - self._told_at > _TELL_SECONDS:
                self._tell(self._step / self._steps, {"loss": self._mean_loss(number + 1)})
            if self._checkpoint and self._checkpoint.is_due():
                self._checkpoint.save(self._state())
        self._end_epoch()

    def _train_on(self, index: Tensor, rate: float) -> None:
        seed = _seed(self._spec.seed, self._step, "step")
        self._reseed(seed)
        rows, target = (part.to(self._device) for part in self._batches.take(index, seed))
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad()
        with precision(self._spec, self._device):
            loss = self._loss(self._net, rows, target)
        loss.backward()
        if self._spec.clip:
            nn.utils.clip_grad_norm_(self._net.parameters(), self._spec.clip)
        self._optimiser.step()
        self._running += loss.detach()

    def _reseed(self, seed: int) -> None:
        torch.default_generator.manual_seed(
            seed
        )  # torch.manual_seed keeps a stack trace for each call, where no GPU is
        if self._device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _mean_loss(self, steps: int) -> float:
        loss = float(self._running) / steps
        if not math.isfinite(loss):
            raise TrainingFailed(f"the loss is not finite any more in epoch {len(self.curve) + 1}")
        return loss

    def _end_epoch(self) -> None:
        train_loss = self._mean_loss(self._steps)
        self._running.zero_()
        self._net.eval()
        with torch.no_grad(), precision(self._spec, self._device):
            measured = self._measure(self._net)
        if not math.isfinite(measured["loss"]):
            raise TrainingFailed(f"the loss of the validation rows is not finite after epoch {len(self.curve) + 1}")
        rate = self._optimiser.param_groups[0]["lr"]
        point = {"epoch": len(self.curve) + 1.0, **measured, "train_loss": train_loss, "learning_rate": rate}
        self.curve.append({**point, **self._pace()})
        if self._spec.early_stopping and not epochs_since_best(self._losses()):
            self._best = {name: value.clone() for name, value in self._net.state_dict().items()}
        self._tell(len(self.curve), self.curve[-1])

    def _tell(self, epochs: float, point: Point) -> None:
        self._watch(epochs, {**point, **self._pace()})
        self._told_at = time.perf_counter()

    def _pace(self) -> Point:
        seconds = time.perf_counter() - self._began
        rows = self._step * len(self._batches) / self._steps
        return {"seconds": seconds, "rows_per_second": rows / seconds}

    def _state(self) -> dict[str, Any]:
        return {
            "net": self._net.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "running": self._running,
            "best": self._best,
            "step": self._step,
            "curve": self.curve,
            "seconds": time.perf_counter() - self._began,
        }


def precision(spec: Descent, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which products are computed as ``spec`` says; sums and weights stay float32."""
    if spec.precision == "bfloat16" or (spec.precision == "auto" and _gains(spec, device)):
        context: AbstractContextManager[Any] = torch.autocast(device.type, torch.bfloat16)
        return context
    return nullcontext()


def _gains(spec: Descent, device: torch.device) -> bool:
    """Whether products in bfloat16 take less time: with AVX-512 it is those of convolutions, 1.4 to 2 times less."""
    if device.type == "cuda" or torch.cpu._is_amx_tile_supported():
        return True
    return isinstance(spec, Cnn | Vgg | ResNet) and torch.cpu._is_avx512_bf16_supported()


def _seed(seed: int, number: int, purpose: str) -> int:
    """Return a seed that is another for each number and purpose."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {number} {purpose}".encode(), digest_size=7).digest())
