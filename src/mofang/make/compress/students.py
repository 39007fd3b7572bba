"""Which smaller networks may take the place of one: a pure function of what `[train]` said of it.

Networks for images become one or two plain convolutions for each stage, trained as the original was; others, half as
wide or half as deep. An ensemble of trees becomes two dense layers, and so does a file of which only answers are known;
one that takes images becomes a few convolutions. One row is answered in the time of so many layers,
and not of so many weights: students have few layers, and as many weights as size allows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mofang.make.compress.step import Student
from mofang.make.recipe import Cnn, Dense, Network, ResNet, Rnn, Transformer, Vgg

_VGG_STAGES = 4  # that widen
_FIRST, _WIDEST = 16, 128  # channels in place of an unknown network of images
_LAST_SIDE = 8  # pixels, about, that the last of its stages is given
_CHANNELS = 8  # widths are multiples of it: what vectors of a processor take without a rest
_LEARNS: Mapping[str, Any] = MappingProxyType(
    {"batch_size": 64, "optimiser": "adam", "learning_rate": 0.002, "decay": "cosine"}
)


def students(spec: Network) -> tuple[Student, ...]:
    """Return what to try in place of a network of ``spec``; nothing if it is small already."""
    how = {name: getattr(spec, name) for name in Network.__struct_fields__}
    match spec:
        case ResNet():
            return (Student(Cnn(channels=_narrow(spec), convolutions=min(*spec.blocks, 2), hidden=(), **how)),)
        case Vgg():
            return (Student(Cnn(channels=_stages(spec.width, _VGG_STAGES), hidden=(), **how)),)
        case Cnn() if spec.hidden:
            return (Student(Cnn(channels=spec.channels, hidden=(), **how)),)
        case Dense() if len(spec.hidden) > 1:
            return (Student(Dense(hidden=spec.hidden[:1], **how)),)
        case Rnn() if spec.width > 1:
            return (Student(Rnn(cell="gru", width=spec.width // 2, steps=spec.steps, **how)),)
        case Transformer() if spec.layers > 1:
            layers = spec.layers // 2
            return (Student(Transformer(width=spec.width, heads=spec.heads, layers=layers, steps=spec.steps, **how)),)
    return ()


def instead_of_trees() -> tuple[Student, ...]:
    """Return what to try in place of an ensemble of trees."""
    return (_dense(128, 64),)


def instead_of_numbers() -> tuple[Student, ...]:
    """Return what to try in place of a network that takes numbers, and of which only answers are known."""
    return (_dense(128, 64), _dense(32))


def instead_of_images(height: int, width: int) -> tuple[Student, ...]:
    """Return what to try in place of one that takes images of so many pixels."""
    stages = max(1, round(math.log2(min(height, width) / _LAST_SIDE)) + 1)
    channels = tuple(min(_FIRST * 2**stage, _WIDEST) for stage in range(stages))
    return (Student(Cnn(channels=channels, hidden=(), **_LEARNS)),)


def _dense(*hidden: int) -> Student:
    return Student(Dense(hidden=hidden, **_LEARNS))


def _narrow(spec: ResNet) -> tuple[int, ...]:
    """Return the widths of the stages: two thirds of the original's, where that is not below what one product takes.

    The last stage has most of the weights; it is narrower than the original's by three eighths at least.
    """
    width = min(spec.width, max(spec.width * 2 // 3 // _CHANNELS * _CHANNELS, 2 * _CHANNELS))
    *stages, last = _stages(width, len(spec.blocks))
    most = _stages(spec.width, len(spec.blocks))[-1] * 5 // 8
    return (*stages, min(last, most // _CHANNELS * _CHANNELS or most))


def _stages(width: int, count: int) -> tuple[int, ...]:
    return tuple(width * 2**stage for stage in range(count))
