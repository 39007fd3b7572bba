"""The bodies of networks: from scaled rows to one number for each class, or to one number.

Built by ``network.py`` from the keys of a recipe. Written here, since no package of architectures can be installed
beside every build of PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from mofang.make.recipe import Cnn, Dense, Network, ResNet, Rnn, Transformer, Vgg

Shape = tuple[int, ...]
"""Of one row: (features,), (channels, height, width) or (steps, channels)."""

_SMALL_IMAGE = 64  # pixels of a side, up to which an image is read in full size by the first layer
_NOT_SEEN = -1e4  # added before a softmax: nothing is left of it, and a text without words is no division by zero
_VGG = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def body(spec: Network, shape: Shape, outputs: int, words: int = 0) -> nn.Module:
    """Return the layers that ``spec`` names, for rows of ``shape``: [n, *shape] to [n, outputs].

    With ``words``, a row is a text: ids of so many words, 0 where there is none.
    """
    match spec:
        case Dense():
            return dense((*shape, *spec.hidden, outputs), spec.dropout)
        case Cnn():
            return cnn(spec, shape, outputs)
        case Vgg():
            return vgg(spec, shape, outputs)
        case ResNet():
            return ResidualNetwork(spec, shape, outputs)
        case Rnn():
            return Recurrent(spec, shape, outputs, words)
        case Transformer():
            return Encoder(spec, shape, outputs, words)
    raise TypeError(f"no layers for {spec!r}")


def dense(sizes: Iterable[int], dropout: float) -> nn.Sequential:
    """Return linear layers from size to size, with a ReLU between any two."""
    layers: list[nn.Module] = []
    for given, asked in pairwise(sizes):
        layers += [nn.Linear(given, asked), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers[:-2])


def convolution(given: int, asked: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """Return a convolution that keeps the size (divided by ``stride``), normalised over the batch."""
    return nn.Sequential(nn.Conv2d(given, asked, size, stride, padding=size // 2, bias=False), nn.BatchNorm2d(asked))


# --- convolutional ------------------------------------------------------------------------------------------------


def cnn(spec: Cnn, shape: Shape, outputs: int) -> nn.Sequential:
    """Return convolutions, which halve the image after each or each few, then dense layers."""
    channels, side = shape[0], shape[1:]
    layers: list[nn.Module] = []
    for width in spec.channels:
        for given in (channels, *(width,) * (spec.convolutions - 1)):
            layers += [convolution(given, width), nn.ReLU()]
        channels, side = _halved(layers, width, side)
    sizes = (channels * side[0] * side[1], *spec.hidden, outputs)
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(spec.dropout), dense(sizes, spec.dropout))


def vgg(spec: Vgg, shape: Shape, outputs: int) -> nn.Sequential:
    """Return the five stages of VGG; a stage halves the image as long as it has two pixels to a side."""
    channels, side = shape[0], shape[1:]
    layers: list[nn.Module] = []
    for stage, count in enumerate(_VGG[spec.depth]):
        width = spec.width * 2 ** min(stage, 3)
        for _ in range(count):
            layers += [convolution(channels, width), nn.ReLU()]
            channels = width
        channels, side = _halved(layers, width, side)
    sizes = (channels * side[0] * side[1], *spec.hidden, outputs)
    return nn.Sequential(*layers, nn.Flatten(), dense(sizes, spec.dropout))


def _halved(layers: list[nn.Module], width: int, side: Shape) -> tuple[int, Shape]:
    if min(side) < 2:
        return width, side
    layers.append(nn.MaxPool2d(2))
    return width, (side[0] // 2, side[1] // 2)


class Residual(nn.Module):
    """Two convolutions, added to what they were given: [n, c, h, w] to [n, width, h / stride, w / stride]."""

    def __init__(self, given: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(given, width, stride=stride)
        self.second = convolution(width, width)
        same = given == width and stride == 1
        self.shortcut = nn.Identity() if same else convolution(given, width, size=1, stride=stride)

    def forward(self, images: Tensor) -> Tensor:
        """Add what two convolutions find to the images themselves."""
        found = self.second(functional.relu(self.first(images)))
        return functional.relu(found + self.shortcut(images))


class ResidualNetwork(nn.Module):
    """Stages of residual blocks; every stage but the first halves the image and doubles the channels."""

    def __init__(self, spec: ResNet, shape: Shape, outputs: int) -> None:
        super().__init__()
        small = max(shape[1:]) <= _SMALL_IMAGE
        self.stem = convolution(shape[0], spec.width, *((3, 1) if small else (7, 2)))
        self.pool = nn.Identity() if small else nn.MaxPool2d(3, 2, padding=1)
        blocks: list[nn.Module] = []
        given = spec.width
        for stage, count in enumerate(spec.blocks):
            width = spec.width * 2**stage
            for block in range(count):
                blocks.append(Residual(given, width, stride=2 if stage and not block else 1))
                given = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(spec.dropout), nn.Linear(given, outputs)
        )

    def forward(self, images: Tensor) -> Tensor:
        """[n, channels, height, width] to [n, outputs]."""
        return self.head(self.blocks(self.pool(functional.relu(self.stem(images)))))


# --- sequences ----------------------------------------------------------------------------------------------------


class Words(nn.Module):
    """Ids of words [n, steps, 1] to what stands for each [n, steps, width], learned; 0, no word, is all zeros."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(words, width)

    def forward(self, ids: Tensor) -> Tensor:
        """Look the words up."""
        return self.table(ids.squeeze(-1).long()) * (ids > 0)


def mean_of_words(told: Tensor, ids: Tensor) -> Tensor:
    """Return the mean [n, width] of what is told [n, steps, width] where there is a word."""
    there = (ids > 0).to(told)
    return (told * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)


class Recurrent(nn.Module):
    """LSTM or GRU over the steps; what is remembered at the end decides, of texts what is on average."""

    def __init__(self, spec: Rnn, shape: Shape, outputs: int, words: int) -> None:
        super().__init__()
        self.enter = Words(words, spec.width) if words else nn.Identity()
        self.is_text = bool(words)
        kind = nn.LSTM if spec.cell == "lstm" else nn.GRU
        between = spec.dropout if spec.layers > 1 else 0.0
        self.cells = kind(
            spec.width if words else shape[1],
            spec.width,
            spec.layers,
            batch_first=True,
            bidirectional=spec.bidirectional,
            dropout=between,
        )
        self.both = spec.bidirectional
        self.head = nn.Sequential(
            nn.Dropout(spec.dropout), nn.Linear(spec.width * (2 if spec.bidirectional else 1), outputs)
        )

    def forward(self, steps: Tensor) -> Tensor:
        """[n, steps, channels] to [n, outputs]."""
        told, _ = self.cells(self.enter(steps))
        if self.is_text:
            return self.head(mean_of_words(told, steps))
        last = told[:, -1]
        if self.both:  # the backward direction has read everything when it is at the first step
            width = self.cells.hidden_size
            last = torch.cat([last[:, :width], told[:, 0, width:]], dim=1)
        return self.head(last)


class Attention(nn.Module):
    """Multi-head self-attention: every step looks at all steps."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.asks, self.offers, self.tells = (nn.Linear(width, width) for _ in range(3))
        self.joins = nn.Linear(width, width)

    def forward(self, steps: Tensor, unseen: Tensor | None = None) -> Tensor:
        """[n, steps, width] to the same shape; ``unseen`` [n, 1, 1, steps] is added to what is seen of each step."""
        asks, offers, tells = (
            part(steps).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.asks, self.offers, self.tells)
        )
        seen = functional.scaled_dot_product_attention(asks, offers, tells, attn_mask=unseen)
        return self.joins(seen.transpose(1, 2).flatten(-2))


class EncoderLayer(nn.Module):
    """Attention and two linear layers, each normalised before and added to what it was given."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.normal = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.dropout = nn.Dropout(dropout)
        self.forward_layers = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, steps: Tensor, unseen: Tensor | None = None) -> Tensor:
        """[n, steps, width] to the same shape."""
        steps = steps + self.dropout(self.attention(self.normal(steps), unseen))
        return steps + self.forward_layers(steps)


class Encoder(nn.Module):
    """A Transformer encoder; the mean of what all steps say decides, of texts that of all words."""

    def __init__(self, spec: Transformer, shape: Shape, outputs: int, words: int) -> None:
        super().__init__()
        self.is_text = bool(words)
        self.enter = Words(words, spec.width) if words else nn.Linear(shape[1], spec.width)
        self.places = nn.Parameter(torch.randn(shape[0], spec.width) * 0.02)
        self.layers = nn.ModuleList(EncoderLayer(spec.width, spec.heads, spec.dropout) for _ in range(spec.layers))
        self.head = nn.Sequential(nn.LayerNorm(spec.width), nn.Linear(spec.width, outputs))

    def forward(self, steps: Tensor) -> Tensor:
        """[n, steps, channels] to [n, outputs]."""
        unseen = (steps.squeeze(-1) <= 0)[:, None, None, :] * _NOT_SEEN if self.is_text else None
        told = self.enter(steps) + self.places
        for layer in self.layers:
            told = layer(told, unseen)
        return self.head(mean_of_words(told, steps) if self.is_text else told.mean(dim=1))
