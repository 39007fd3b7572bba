"""[train]: neural networks, which share one way of training and differ in their layers.

The keys of :class:`Descent` and :class:`Network` say how any of them is trained; each kind adds the keys of its layers.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from mofang.make.recipe.algorithms import Epochs, Rate, Train
from mofang.make.recipe.data import Task

Units = Annotated[int, Meta(ge=1, le=8_192)]
Dropout = Annotated[
    float, Meta(ge=0, lt=1, description="share of values set to zero in training, so that none is vital")
]
Width = Annotated[
    int, Meta(ge=1, le=2_048, description="channels of the first stage; each further stage has twice as many")
]
Layers = Annotated[int, Meta(ge=1, le=64, description="layers, one after the other")]
Steps = Annotated[
    int, Meta(ge=0, le=65_536, description="steps that a row is cut into, in order; 0: each feature is a step")
]


class Descent(Train, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What everything that learns by gradient descent, batch by batch, understands."""

    framework: ClassVar[str] = "torch"
    length: ClassVar[str] = "epochs"

    epochs: Epochs = 10
    batch_size: Annotated[int, Meta(ge=0, le=1_000_000, description="rows of one step, 0: all of them")] = 128
    optimiser: Annotated[
        Literal["sgd", "momentum", "nesterov", "adam", "adamw"], Meta(description="how a gradient becomes a step")
    ] = "adam"
    learning_rate: Rate = 0.001
    momentum: Annotated[float, Meta(ge=0, lt=1, description="of the steps before; for momentum and nesterov")] = 0.9
    weight_decay: Annotated[float, Meta(ge=0, le=10, description="pull of the weights towards zero")] = 0.0
    decay: Annotated[
        Literal["none", "step", "cosine", "plateau"], Meta(description="how the learning rate falls during training")
    ] = "none"
    decay_epochs: Annotated[
        int, Meta(ge=1, le=100_000, description="step: epochs between falls; plateau: epochs without a better loss")
    ] = 10
    decay_factor: Annotated[float, Meta(gt=0, lt=1, description="step and plateau: what is left after a fall")] = 0.1
    warmup_epochs: Annotated[
        float, Meta(ge=0, le=1_000, description="epochs in which the learning rate grows from zero")
    ] = 0.0
    clip: Annotated[float, Meta(ge=0, le=1e6, description="longest gradient, longer ones are cut; 0: any")] = 0.0
    early_stopping: Annotated[
        int,
        Meta(
            ge=0, le=10_000, description="stop after so many epochs without a better loss, and keep the best; 0: never"
        ),
    ] = 0
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Meta(description="of products; auto: bfloat16 where the device is faster with it"),
    ] = "auto"

    def complaint(self, task: str) -> tuple[str, str] | None:
        """See :meth:`Train.complaint`."""
        if self.warmup_epochs >= self.epochs:
            return "warmup_epochs", f"must be below epochs ({self.epochs}), got {self.warmup_epochs:g}"
        return None


class Network(Descent, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every network understands. Needs the extra `torch`."""

    tasks: ClassVar[tuple[Task, ...]] = ("classification", "regression", "multilabel")

    library: Annotated[
        Literal["torch", "keras"], Meta(description="what builds and trains it; keras needs the extra `keras`")
    ] = "torch"
    loss: Annotated[
        Literal["auto", "cross_entropy", "mse", "mae", "huber"],
        Meta(description="what is made small; auto: cross_entropy for classes and labels, mse for numbers"),
    ] = "auto"
    label_smoothing: Annotated[
        float, Meta(ge=0, le=0.5, description="cross_entropy: belief kept for the other classes")
    ] = 0.0
    class_weights: Annotated[
        Literal["none", "balanced"], Meta(description="balanced: each class counts alike, however rare it is")
    ] = "none"
    initialisation: Annotated[Literal["he", "xavier"], Meta(description="how the first weights are drawn")] = "he"

    @property
    def made_by(self) -> str:
        """See :attr:`Train.made_by`."""
        return self.library

    def complaint(self, task: str) -> tuple[str, str] | None:
        """See :meth:`Train.complaint`."""
        if task == "regression" and self.loss == "cross_entropy":
            return "loss", "'cross_entropy' is for classes; for numbers there are 'mse', 'mae' or 'huber'"
        if task in ("classification", "multilabel") and self.loss not in ("auto", "cross_entropy"):
            return "loss", f"{self.loss!r} is for numbers; for classes there is 'cross_entropy'"
        return Descent.complaint(self, task)


class Dense(Network, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="dense"):
    """A multi-layer perceptron in PyTorch, for tables. Needs the extra `torch`."""

    hidden: Annotated[tuple[Units, ...], Meta(max_length=64, description="units of each hidden layer")] = (128,)
    dropout: Dropout = 0.0


class Cnn(Network, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="cnn"):
    """A convolutional network: convolutions, each with pooling, then dense layers. Needs the extra `torch`."""

    channels: Annotated[
        tuple[Units, ...], Meta(min_length=1, max_length=16, description="channels of each convolution")
    ] = (32, 64)
    convolutions: Annotated[
        int, Meta(ge=1, le=8, description="convolutions of each of the channels, before the image is halved")
    ] = 1
    hidden: Annotated[tuple[Units, ...], Meta(max_length=16, description="units of the dense layers after them")] = (
        128,
    )
    dropout: Dropout = 0.0


class Vgg(Network, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="vgg"):
    """VGG (Simonyan and Zisserman, 2015) with batch normalisation: five stages of 3x3 convolutions. Needs `torch`."""

    depth: Annotated[Literal[11, 13, 16, 19], Meta(description="layers with weights, as in VGG-16")] = 11
    width: Width = 64
    hidden: Annotated[tuple[Units, ...], Meta(max_length=16, description="units of the dense layers")] = (512,)
    dropout: Dropout = 0.5


class ResNet(Network, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="resnet"):
    """A residual network (He et al., 2016): stages of blocks that add to what they are given. Needs `torch`."""

    blocks: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=64)], ...],
        Meta(
            min_length=1,
            max_length=6,
            description="blocks of each stage; [2, 2, 2, 2] is ResNet-18, [3, 3, 3] ResNet-20",
        ),
    ] = (2, 2, 2, 2)
    width: Width = 64
    dropout: Dropout = 0.0


class Rnn(Network, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="rnn"):
    """A recurrent network, LSTM or GRU, for sequences. Needs the extra `torch`."""

    cell: Annotated[Literal["lstm", "gru"], Meta(description="what remembers from step to step")] = "lstm"
    width: Annotated[int, Meta(ge=1, le=8_192, description="numbers that a cell remembers")] = 64
    layers: Layers = 1
    bidirectional: Annotated[bool, Meta(description="read the sequence in both directions")] = False
    steps: Steps = 0
    dropout: Dropout = 0.0


class Transformer(Network, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="transformer"):
    """A Transformer encoder (Vaswani et al., 2017; normalised before each part), for sequences. Needs `torch`."""

    width: Annotated[int, Meta(ge=1, le=8_192, description="numbers that stand for a step; a multiple of heads")] = 64
    heads: Annotated[int, Meta(ge=1, le=128, description="places each layer looks at, at the same time")] = 4
    layers: Layers = 2
    steps: Steps = 0
    dropout: Dropout = 0.1

    def complaint(self, task: str) -> tuple[str, str] | None:
        """See :meth:`Train.complaint`."""
        if self.width % self.heads:
            return "width", f"must be a multiple of heads ({self.heads}), got {self.width}"
        return Network.complaint(self, task)
