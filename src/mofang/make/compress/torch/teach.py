"""Training after a network was made smaller: on labels, or on what a teacher says of the same rows.

Soft targets as Hinton et al. (2015) have them: the teacher's beliefs at a temperature, next to the labels. The settings
of training are those of the recipe, its rates from the beginning, over as many epochs as the step says (Renda et al.,
2020). Weights that are zero stay zero. A job that is killed goes on from the file of the step; what it had trained to
the end is not trained again.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mofang.base.domain.errors import NoVariant
from mofang.base.engines.base import Engine
from mofang.base.engines.catalog import load_engine
from mofang.make.compress.step import Distil, Step, Student, Tune
from mofang.make.compress.subject import Means, Subject
from mofang.make.compress.torch.teachers import Given, Network, Served, Teacher, lessons
from mofang.make.prepare.dataset import Examples
from mofang.make.recipe import Network as Spec
from mofang.make.train.torch.batches import Batches, Prepared
from mofang.make.train.torch.loop import Loss, Measure, Point, fit
from mofang.make.train.torch.network import Net, read_network, write_network
from mofang.make.train.torch.train import build, comparison_of, loss_of, measure, placed, split

_WARM = 0.1  # of the epochs, at most, in which the rate grows
_TRAINED = ".trained"  # files of networks that a job has trained to the end
_FEW = 0.05  # share of zeros among weights, up to which they are by chance


def student(step: Student, subject: Subject, means: Means) -> Subject:
    """Return a network as the step says in place of ``subject``, untrained; raise NoVariant without rows to learn."""
    examples = _examples(means)
    if not _labelled(examples):
        examples = replace(examples, target=np.arange(len(examples.features)) % max(len(examples.schema.labels), 2))
    net = build(step.network, split(step.network, examples)[0]).cpu()
    return Subject(None, subject.engine, net.eval(), "torch")


def tune(step: Tune, subject: Subject, means: Means) -> Subject:
    """Return ``subject`` trained further on labels. Raises NoVariant if there are none."""
    if (made := trained(step, subject, means)) is not None:
        return made
    examples = _examples(means)
    if not _labelled(examples):
        raise NoVariant(
            "the rows have no labels to train on", hint="let it learn from the original instead, by distillation"
        )
    spec = schedule(subject.model.plan.spec, step.epochs)
    known, checked = split(spec, examples)
    part, loss = _part(known, step.epochs), loss_of(spec, examples.target)
    return taught(subject, step, spec, part, lambda net: measure(net, checked, spec.loss), loss, means)


def distil(step: Distil, subject: Subject, means: Means) -> Subject:
    """Return ``subject`` taught by the original, or by the teacher that the step names.

    Without labels it learns from the teacher alone. Raises NoVariant if there are no rows, or no hints to have.
    """
    if (made := trained(step, subject, means)) is not None:
        return made
    examples = _examples(means)
    spec = schedule(subject.model.plan.spec, step.epochs)
    with _teacher(step, means) as teacher:
        soft = step.soft
        if not _labelled(examples):
            examples, soft = _as_told(examples, teacher, means), 1.0
        known, checked = split(spec, examples)
        lesson = lessons(_part(known, step.epochs), teacher, step.epochs, means.seed, means.progress)
        hard = comparison_of(spec, examples.target)
        loss = _Lesson(step, soft, hard)
        return taught(subject, step, spec, lesson, lambda net: measure(net, checked, spec.loss), loss, means)


def softened(found: Tensor, said: Tensor, temperature: float) -> Tensor:
    """Return the divergence of beliefs from logits ``found`` to logits ``said`` [b, k] at a temperature, times T²."""
    asked = functional.log_softmax(said / temperature, dim=1)
    given = functional.log_softmax(found / temperature, dim=1)
    return functional.kl_div(given, asked, reduction="batchmean", log_target=True) * temperature**2


def unlike(found: Tensor, said: Tensor) -> Tensor:
    """Return how differently two tell the same rows apart, [b, f] and [b, g]: Tung and Mori (2019)."""
    ours, theirs = (functional.normalize(part @ part.T, dim=1) for part in (found, said))
    return (ours - theirs).square().sum(dim=1).mean()


class _Lesson:
    """The loss of a student: see :class:`Lessons` for its target."""

    def __init__(self, step: Distil, soft: float, hard: Loss) -> None:
        self._step, self._soft, self._hard = step, soft, hard

    def __call__(self, net: nn.Module, rows: Tensor, target: Tensor) -> Tensor:
        step, plan = self._step, net.plan
        outputs = max(plan.classes, 1)
        said, hints = target[:, 1 : outputs + 1].float(), target[:, outputs + 1 :].float()
        with Given(net) as given:
            found = net(rows)
        if plan.classes:
            soft = softened(found, said, step.temperature)
            truth = target[:, 0].long()
        else:
            soft = functional.mse_loss(found, (said[:, 0] - net.target_mean) / net.target_deviation)
            truth = target[:, 0]
        loss = self._soft * soft
        if self._soft < 1:
            loss = loss + (1 - self._soft) * self._hard(net, found, truth)
        return loss + step.hints * unlike(given.rows, hints) if step.hints else loss


def taught(
    subject: Subject, step: Step, spec: Spec, known: Batches, measured: Measure, loss: Loss, means: Means
) -> Subject:
    """Return ``subject`` trained on what is ``known``, as ``spec`` says."""
    net = placed(copy.deepcopy(subject.model))
    checkpoint = _checkpoint(step, subject.model, means)

    def watch(epochs: float, point: Point) -> None:
        quality = "".join(f", {name} {point[name]:.4f}" for name in ("accuracy", "r2") if name in point)
        message = (
            f"{step}: epoch {min(int(epochs) + 1, spec.epochs)} of {spec.epochs}, loss {point['loss']:.4f}{quality}"
        )
        means.progress.report("compress", min(epochs / spec.epochs, 1.0), message)

    with _zeros_kept(net):
        fit(net, known, spec, loss=loss, measure=measured, watch=watch, checkpoint=checkpoint)
    net = net.to("cpu", memory_format=torch.contiguous_format)
    if checkpoint is not None:
        made = checkpoint.with_suffix(".new")
        made.write_bytes(write_network(net))
        made.replace(checkpoint.with_suffix(_TRAINED))
        checkpoint.unlink(missing_ok=True)
    return Subject(None, subject.engine, net, "torch")


def trained(step: Step, subject: Subject, means: Means) -> Subject | None:
    """Return what a process of the same job that was killed later had made by this step; None if there is nothing."""
    checkpoint = _checkpoint(step, subject.model, means)
    if checkpoint is None or not (made := checkpoint.with_suffix(_TRAINED)).is_file():
        return None
    return Subject(None, subject.engine, read_network(made.read_bytes()), "torch")


def schedule(spec: Spec, epochs: float) -> Spec:
    """Return how to train for so many epochs, with what ``spec`` says of the rest."""
    count = max(1, math.ceil(epochs))
    return msgspec.structs.replace(
        spec, epochs=count, decay="cosine", warmup_epochs=min(spec.warmup_epochs, _WARM * count), early_stopping=0
    )


def _part(known: Prepared, epochs: float) -> Prepared:
    """Return ``known``, or so much of it that a whole number of epochs makes ``epochs``."""
    rows = round(len(known) * epochs / math.ceil(epochs))
    if rows >= len(known):
        return known
    chosen = np.random.default_rng(0).permutation(len(known))[: max(rows, 1)]
    return Prepared(known.examples, known.index[np.sort(chosen)])


def _examples(means: Means) -> Examples:
    if means.outside is not None:
        return means.outside.examples()
    if means.examples is None or not len(means.examples.features):
        raise NoVariant(
            "there are no rows to learn from: the data of this version is not known here",
            hint="push it with the digest of a dataset, or compress it with techniques that do not train",
        )
    return means.examples


def _labelled(examples: Examples) -> bool:
    return len(examples.target) == len(examples.features)


def _as_told(examples: Examples, teacher: Teacher, means: Means) -> Examples:
    """Return ``examples`` with what the teacher thinks as their target."""
    said = teacher(replace(examples, augmentation=type(examples.augmentation)()), means.progress)
    classes = len(examples.schema.labels)
    told = said[:, :classes].argmax(dim=1) if classes else said[:, 0].double()
    return replace(examples, target=told.numpy())


@contextmanager
def _teacher(step: Distil, means: Means) -> Iterator[Teacher]:
    if not step.teacher and isinstance(means.original.model, Net):
        yield Network(placed(copy.deepcopy(means.original.model)).eval(), hints=bool(step.hints))
        return
    with answering(step, means) as engine:
        yield Served(engine)


@contextmanager
def answering(step: Distil, means: Means) -> Iterator[Engine]:
    """Open the teacher that ``step`` names, or the original, of which nothing but answers is to be known."""
    if step.hints:
        raise NoVariant(
            "hints are what goes on inside a network, and of this teacher only answers are known",
            hint="leave the hints out: `hints = 0`",
        )
    if step.teacher:
        if means.teacher is None:
            raise NoVariant(f"the teacher {step.teacher!r} cannot be asked here")
        with means.teacher(step.teacher) as engine:
            yield engine
        return
    assert means.original.folder is not None
    engine = load_engine(means.original.engine, means.original.folder)
    try:
        yield engine
    finally:
        engine.close()


@contextmanager
def _zeros_kept(net: Net) -> Iterator[None]:
    """Let weights that were pruned, one by one, stay at zero: no gradient reaches them."""
    hooks = []
    for value in net.parameters():
        lives = value.detach() != 0
        if value.ndim > 1 and not lives.float().mean() > 1 - _FEW:
            hooks.append(value.register_hook(lambda gradient, lives=lives: gradient * lives))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _checkpoint(step: Step, net: Net, means: Means) -> Path | None:
    if means.checkpoints is None:
        return None
    digest = hashlib.sha256(msgspec.json.encode(step) + write_network(net)).hexdigest()
    return means.checkpoints / f"{digest[:32]}.checkpoint"
