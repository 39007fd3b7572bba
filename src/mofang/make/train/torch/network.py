"""A whole network: scaling, layers, and what its numbers mean; built from a blueprint, kept as safetensors.

A blueprint and the weights are all that is needed to have the network again: to export it, to train it further, or to
make a smaller one of it. One file holds both. The weights tell how wide each layer is: of a network that was pruned,
less than the recipe says.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from mofang.base.domain.errors import InvalidDataset, NoNetwork
from mofang.base.domain.registry import ModelVersion
from mofang.base.storage.blobs import Blobs
from mofang.make.prepare.dataset import Schema
from mofang.make.recipe import Cnn, Dense, Head, Network, ResNet, Rnn, Transformer, Vgg
from mofang.make.train.store import RunStore
from mofang.make.train.torch.layers import Shape, body
from mofang.make.train.torch.resize import resize

_KEY = "blueprint"
_Spec = Dense | Cnn | Vgg | ResNet | Rnn | Transformer


class Blueprint(msgspec.Struct, frozen=True):
    """What a network is built from: the recipe's words, the shape of a row, and how many classes it tells apart."""

    spec: _Spec
    features: int
    shape: Shape
    classes: int  # 0: it answers a number
    several: bool = False  # a row has any number of the classes, instead of one
    words: int = 0  # how many token ids there are, if a row is a text; 0: it is numbers


def blueprint(spec: Network, schema: Schema, *, several: bool = False) -> Blueprint:
    """Lay out a network for data of ``schema``; raise InvalidDataset if its rows do not have the network's shape."""
    spec = spec.network if isinstance(spec, Head) else spec
    assert isinstance(spec, _Spec)
    features = schema.features
    shape: Shape
    if isinstance(spec, Cnn | Vgg | ResNet):
        height, width = schema.shape[:2] or (math.isqrt(features),) * 2
        shape = ((*schema.shape, 1)[2], height, width) if schema.shape else (1, height, width)
    elif isinstance(spec, Rnn | Transformer) and schema.sequence:
        return Blueprint(spec, features, (features, 1), len(schema.labels), several, schema.sequence[1])
    elif isinstance(spec, Rnn | Transformer):
        steps = spec.steps or features
        shape = (steps, features // steps)
    else:
        shape = (features,)
    if math.prod(shape) != features:
        is_image = len(shape) == 3
        raise InvalidDataset(
            f"rows of {features} numbers are no {'square images' if is_image else f'{shape[0]} steps of equal size'}",
            hint="choose a network for tables: algorithm = 'dense'" if is_image else "set [train] steps to a divisor",
        )
    return Blueprint(spec, features, shape, len(schema.labels), several)


def count_parameters(spec: Network, schema: Schema) -> int:
    """Return how many weights a network for data of ``schema`` learns, without giving it memory."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in Net(blueprint(spec, schema)).parameters())


class Scale(nn.Module):
    """(x - mean) / deviation of the training rows, with the mean in place of missing values (NaN)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        each = (shape[0], 1, 1) if len(shape) == 3 else shape[-1:]
        self.register_buffer("mean", torch.zeros(each))
        self.register_buffer("deviation", torch.ones(each))

    def learn(self, rows: Tensor) -> None:
        """Take mean and deviation of ``rows`` [n, *shape]: of each channel of an image, else of each feature."""
        axes = [0, 2, 3] if rows.ndim == 4 else [0, 1] if rows.ndim == 3 else [0]
        known = rows.isfinite()
        count = known.sum(axes).clamp(min=1)
        mean = torch.where(known, rows, 0).double().sum(axes) / count
        apart = torch.where(known, rows.double() - mean.reshape(self.mean.shape), 0)
        deviation = (apart.square().sum(axes) / count).sqrt()
        self.mean.copy_(mean.reshape(self.mean.shape))
        self.deviation.copy_(torch.where(deviation > 0, deviation, 1).reshape(self.mean.shape))

    def forward(self, rows: Tensor) -> Tensor:
        """[n, *shape] to the same shape."""
        return self._scaled(rows, self.mean, self.deviation)

    def flat(self, rows: Tensor, shape: Shape) -> Tensor:
        """[n, features] to images [n, *shape], whose channels lie last in a row.

        Scaled before rows get their shape: engines that keep the channels of images last are many times slower at it.
        """
        channels = shape[0]
        if channels == 1:
            return self._scaled(rows, self.mean.flatten(), self.deviation.flatten()).reshape(-1, *shape)
        planes = rows.reshape(-1, math.prod(shape[1:]), channels).transpose(1, 2)
        return self._scaled(planes, self.mean.flatten(1), self.deviation.flatten(1)).reshape(-1, *shape)

    @staticmethod
    def _scaled(rows: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        return (torch.where(rows.isnan(), mean, rows) - mean) / deviation


class Net(nn.Module):
    """Rows [n, features] to one logit for each class [n, classes], or to a scaled number [n]."""

    def __init__(self, plan: Blueprint) -> None:
        super().__init__()
        self.plan = plan
        self.scale = nn.Identity() if plan.words else Scale(plan.shape)
        self.body = body(plan.spec, plan.shape, plan.classes or 1, plan.words)
        self.register_buffer("target_mean", torch.zeros(()))
        self.register_buffer("target_deviation", torch.ones(()))

    def forward(self, rows: Tensor) -> Tensor:
        """Compute logits, or scaled numbers, as the loss takes them."""
        shape = self.plan.shape
        found = self.body(self.scale.flat(rows, shape) if len(shape) == 3 else self.scale(self._shaped(rows)))
        return found if self.plan.classes else found.squeeze(-1)

    def learn_scale(self, rows: Tensor, target: Tensor) -> None:
        """Take the scale of rows [n, features], and of a target of numbers, from what is trained on."""
        if not self.plan.words:
            self.scale.learn(self._shaped(rows))
        if not self.plan.classes:
            self.target_mean.copy_(target.double().mean())
            self.target_deviation.copy_(target.double().std(correction=0))

    def _shaped(self, rows: Tensor) -> Tensor:
        """Give rows [n, features] their shape; of images the channels lie last in a row, and come first here."""
        if len(self.plan.shape) != 3:
            return rows.reshape(-1, *self.plan.shape)
        channels, height, width = self.plan.shape
        return rows.reshape(-1, height, width, channels).permute(0, 3, 1, 2)


class Answers(nn.Module):
    """What is served: rows [n, features] to label [n] and probabilities [n, classes], or to value [n].

    Of several labels it is labels [n, classes] of 0 and 1, and the probability of each.
    """

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Answer in the words of a signature."""
        found = self.net(features)
        if self.net.plan.several:
            return (found > 0).long(), torch.sigmoid(found)
        if self.net.plan.classes:
            return found.argmax(dim=1), torch.softmax(found, dim=1)
        return (found * self.net.target_deviation + self.net.target_mean,)


def initialise(net: Net, how: str) -> None:
    """Draw the first weights: He et al. (2015) or Glorot and Bengio (2010); biases are zero."""
    draw = nn.init.kaiming_normal_ if how == "he" else nn.init.xavier_uniform_
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            draw(module.weight, **({"nonlinearity": "relu"} if how == "he" else {}))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LSTM | nn.GRU):
            for name, weight in module.named_parameters():
                nn.init.zeros_(weight) if "bias" in name else nn.init.xavier_uniform_(weight)


def write_network(net: Net) -> bytes:
    """Return the blueprint and the weights as one safetensors file. The same network gives the same bytes."""
    weights = {name: value.contiguous() for name, value in net.state_dict().items()}
    return save(weights, {_KEY: msgspec.json.encode(net.plan).decode()})


def read_network(data: bytes) -> Net:
    """Return the network that :func:`write_network` wrote, in evaluation mode; raise NoNetwork for other bytes."""
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        plan = msgspec.json.decode(header["__metadata__"][_KEY], type=Blueprint)
        net = shaped(plan, load(data))
    except (ValueError, KeyError, RuntimeError, SafetensorError, msgspec.MsgspecError) as error:
        raise NoNetwork(f"the file holds no network of ours: {str(error).splitlines()[0]}") from error
    return net


def shaped(plan: Blueprint, weights: Mapping[str, Tensor]) -> Net:
    """Return a network of ``weights``, in evaluation mode, with layers as narrow as they are.

    Raises KeyError or RuntimeError if they are not the weights of a network of this blueprint.
    """
    net = Net(plan)
    if any(value.shape != weights[name].shape for name, value in net.state_dict().items()):
        resize(net, weights)
        with torch.no_grad():
            net.eval()(torch.zeros(2, plan.features))  # layers that do not fit together
    net.load_state_dict(weights)
    net.eval()
    return net


def load_network(version: ModelVersion, runs: RunStore, blobs: Blobs) -> Net:
    """Return the network ``version`` was exported from; raise NoNetwork if it was made in another way."""
    run = runs.get(version.lineage.run) if version.lineage.run else None
    if run is None or not run.network:
        raise NoNetwork(f"{version} was not exported from a network that was trained here")
    return read_network(blobs.read(run.network))
