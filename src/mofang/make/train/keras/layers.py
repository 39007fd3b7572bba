"""The bodies of networks in Keras: from scaled rows to a share of each class, or to one number.

The same words of a recipe give the same layers as in PyTorch (``train/torch/layers.py``), with channels last, as Keras
has them. Every layer is one of Keras's own, so that a saved network opens anywhere.
"""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")  # read when Keras is imported, in processes that make models alone

import keras
from keras import layers, ops

from mofang.make.recipe import Cnn, Dense, Network, ResNet, Rnn, Transformer, Vgg

LABELS = "labels"
"""Name of the last layer of a network that answers a probability of each of several labels."""
_SMALL_IMAGE = 64  # pixels of a side, up to which an image is read in full size by the first layer
_VGG = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def body(spec: Network, inputs: Any, outputs: int) -> Any:
    """Return what the layers of ``spec`` make of ``inputs``: [n, *shape] to [n, outputs], before any softmax."""
    draw = "he_normal" if spec.initialisation == "he" else "glorot_uniform"
    match spec:
        case Dense():
            return _dense(inputs, (*spec.hidden, outputs), spec.dropout, draw)
        case Cnn():
            return _cnn(spec, inputs, outputs, draw)
        case Vgg():
            return _vgg(spec, inputs, outputs, draw)
        case ResNet():
            return _resnet(spec, inputs, outputs, draw)
        case Rnn():
            return _rnn(spec, inputs, outputs)
        case Transformer():
            return _transformer(spec, inputs, outputs)
    raise TypeError(f"no layers of Keras for {spec!r}")


def _dense(found: Any, sizes: tuple[int, ...], dropout: float, draw: str) -> Any:
    for size in sizes[:-1]:
        found = layers.Dropout(dropout)(layers.Dense(size, "relu", kernel_initializer=draw)(found))
    return layers.Dense(sizes[-1], kernel_initializer=draw)(found)


def _convolution(found: Any, width: int, draw: str, size: int = 3, stride: int = 1) -> Any:
    found = layers.Conv2D(width, size, stride, "same", use_bias=False, kernel_initializer=draw)(found)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(found)


def _halved(found: Any) -> Any:
    return layers.MaxPooling2D(2)(found) if min(found.shape[1:3]) >= 2 else found


def _cnn(spec: Cnn, found: Any, outputs: int, draw: str) -> Any:
    for width in spec.channels:
        for _ in range(spec.convolutions):
            found = layers.ReLU()(_convolution(found, width, draw))
        found = _halved(found)
    found = layers.Dropout(spec.dropout)(layers.Flatten()(found))
    return _dense(found, (*spec.hidden, outputs), spec.dropout, draw)


def _vgg(spec: Vgg, found: Any, outputs: int, draw: str) -> Any:
    for stage, count in enumerate(_VGG[spec.depth]):
        for _ in range(count):
            found = layers.ReLU()(_convolution(found, spec.width * 2 ** min(stage, 3), draw))
        found = _halved(found)
    return _dense(layers.Flatten()(found), (*spec.hidden, outputs), spec.dropout, draw)


def _resnet(spec: ResNet, found: Any, outputs: int, draw: str) -> Any:
    small = max(found.shape[1:3]) <= _SMALL_IMAGE
    found = layers.ReLU()(_convolution(found, spec.width, draw, *((3, 1) if small else (7, 2))))
    if not small:
        found = layers.MaxPooling2D(3, 2, "same")(found)
    for stage, count in enumerate(spec.blocks):
        width = spec.width * 2**stage
        for block in range(count):
            stride = 2 if stage and not block else 1
            inner = layers.ReLU()(_convolution(found, width, draw, stride=stride))
            inner = _convolution(inner, width, draw)
            same = stride == 1 and found.shape[-1] == width
            found = layers.ReLU()(layers.Add()([inner, found if same else _convolution(found, width, draw, 1, stride)]))
    found = layers.Dropout(spec.dropout)(layers.GlobalAveragePooling2D()(found))
    return layers.Dense(outputs, kernel_initializer=draw)(found)


def _rnn(spec: Rnn, found: Any, outputs: int) -> Any:
    kind = layers.LSTM if spec.cell == "lstm" else layers.GRU
    for number in range(spec.layers):
        cell = kind(spec.width, return_sequences=number + 1 < spec.layers)
        found = (layers.Bidirectional(cell) if spec.bidirectional else cell)(found)
        found = layers.Dropout(spec.dropout)(found)
    return layers.Dense(outputs)(found)


def _transformer(spec: Transformer, found: Any, outputs: int) -> Any:
    steps = found.shape[1]
    placed = layers.EinsumDense("nsc,cw->nsw", (steps, spec.width), bias_axes="sw")  # its bias tells the places apart
    found = layers.Dropout(spec.dropout)(placed(found))
    for _ in range(spec.layers):
        normal = _normal(found)
        attention = layers.MultiHeadAttention(spec.heads, spec.width // spec.heads)
        seen, _ = attention(normal, normal, return_attention_scores=True)  # computed so, it has an ONNX form
        found = found + layers.Dropout(spec.dropout)(seen)
        inner = layers.Dense(4 * spec.width, "gelu")(_normal(found))
        found = found + layers.Dropout(spec.dropout)(layers.Dense(spec.width)(inner))
    return layers.Dense(outputs)(layers.GlobalAveragePooling1D()(_normal(found)))


def _normal(found: Any) -> Any:
    """Normalise each step. Keras's own layer looks at shapes while it is exported, and has no ONNX form."""
    apart = found - ops.mean(found, axis=-1, keepdims=True)
    scaled = apart / ops.sqrt(ops.mean(ops.square(apart), axis=-1, keepdims=True) + 1e-5)
    learned = layers.EinsumDense("nsw,w->nsw", tuple(found.shape[1:]), bias_axes="w", kernel_initializer="ones")
    return learned(scaled)


__all__ = ["body", "keras"]
