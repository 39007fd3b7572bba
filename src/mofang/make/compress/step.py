"""How a variant is made: steps in their order, each one technique with its settings.

The steps of a variant are its whole recipe: they are kept with it, told to people in one line, and taken again they
make the same variant. What a step does is found through ``catalog.py``; nothing in here computes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mofang.make.recipe import Cnn, Dense, Network, ResNet, Rnn, Transformer, Vgg

_LONGEST_NAME = 40

Share = Annotated[float, Meta(gt=0, lt=1)]
Epochs = Annotated[float, Meta(gt=0, le=1_000)]
Calibration = Literal["minmax", "entropy", "percentile"]
Width = Literal["q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
"""Types of ggml: blocks of 32 integers of so many bits, with a scale, and with a least value (``_1``) or without."""


class _Step(msgspec.Struct, frozen=True, tag_field="technique", forbid_unknown_fields=True):
    """One technique with its settings; ``str`` tells it in a few words."""


class Prune(_Step, frozen=True, tag="prune"):
    """Take the least important ``share`` away: whole channels and heads, or single weights, which become zero."""

    share: Share
    what: Literal["channels", "weights"] = "channels"

    def __str__(self) -> str:
        return f"prune {self.share:.0%}" + ("" if self.what == "channels" else " of weights")


class Student(_Step, frozen=True, tag="student"):
    """Begin again with another, smaller network that knows nothing yet: ``network`` is what `[train]` says of it.

    What it learns from, by a later step, may be of any sort: also a forest, or a file that was pushed.
    """

    network: Dense | Cnn | Vgg | ResNet | Rnn | Transformer

    def __str__(self) -> str:
        shape = [f"{name} {_plain(value)}" for name, value in _layers(self.network)]
        return f"student {' '.join([self.network.algorithm, *shape])}"


class Tune(_Step, frozen=True, tag="tune"):
    """Train the network further on the labels of the training data."""

    epochs: Epochs

    def __str__(self) -> str:
        return f"tune {_epochs(self.epochs)}"


class Distil(_Step, frozen=True, tag="distil"):
    """Train the network to answer as the original does (Hinton et al., 2015).

    ``soft`` is the share of the loss that compares with the teacher, at ``temperature``; the rest compares with labels.
    With ``hints``, the weight of one more term, rows are also to be alike where the teacher finds them alike, in what
    the last layer is given (Tung and Mori, 2019). ``teacher`` is another than the original: ``model@version``,
    or ``upstream:SERVER/MODEL``.
    """

    epochs: Epochs
    temperature: Annotated[float, Meta(gt=0, le=100)] = 4.0
    soft: Annotated[float, Meta(ge=0, le=1)] = 0.7
    hints: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    teacher: Annotated[str, Meta(max_length=512)] = ""

    def __str__(self) -> str:
        hints = " with hints" if self.hints else ""
        teacher = f" from {self.teacher}" if self.teacher else ""
        return f"distil {_epochs(self.epochs)}{hints}{teacher}"


class Thin(_Step, frozen=True, tag="thin"):
    """Leave out the ``share`` of the trees of an ensemble that contribute least, then of ``leaves`` of those left."""

    share: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    leaves: Annotated[float, Meta(ge=0, lt=1)] = 0.0

    def __str__(self) -> str:
        leaves = f"{self.leaves:.0%} of leaves" if self.leaves else ""
        return " and ".join(filter(None, [f"thin {self.share:.0%}" if self.share or not leaves else "thin", leaves]))


class Int8(_Step, frozen=True, tag="int8"):
    """Compute products of integers of 8 bits.

    ``static``: activations too, with ranges learned from calibration rows; ``dynamic``: they are looked up every time.
    ``in_float`` layers, those that lose most, are left as they are. ``equalised``: channels are made equally large
    before, and what rounding shifts is put right.
    """

    how: Literal["static", "dynamic"] = "static"
    calibration: Calibration = "minmax"
    in_float: Annotated[int, Meta(ge=0, le=1_000)] = 0
    equalised: bool = False

    def __str__(self) -> str:
        ranges = f" {self.calibration}" if self.how == "static" else ""
        kept = f", {self.in_float} layer{'s' if self.in_float > 1 else ''} in float" if self.in_float else ""
        return f"int8 {self.how}{ranges}{' equalised' if self.equalised else ''}{kept}"


class Int4(_Step, frozen=True, tag="int4"):
    """Keep weights of matrix products in 4 bits, with a scale for each ``block`` of them."""

    block: Literal[16, 32, 64, 128, 256] = 32

    def __str__(self) -> str:
        return f"int4 weights block {self.block}"


class Half(_Step, frozen=True, tag="fp16"):
    """Keep weights in 16 bits of floating point."""

    def __str__(self) -> str:
        return "fp16"


class Optimise(_Step, frozen=True, tag="optimise"):
    """Fold constants and fuse operators, once and for all instead of at every load."""

    def __str__(self) -> str:
        return "optimise"


class Lower(_Step, frozen=True, tag="gguf"):
    """Keep the ``weights`` of a language model in fewer bits; its embedding and output in those of ``ends``, if any."""

    weights: Width
    ends: Width | Literal[""] = ""

    def __str__(self) -> str:
        return f"gguf {self.weights}" + (f", embedding and output {self.ends}" if self.ends else "")


Step = Prune | Student | Tune | Distil | Thin | Int8 | Int4 | Half | Optimise | Lower
Steps = tuple[Step, ...]


def told(steps: Sequence[Step]) -> str:
    """Tell ``steps`` in one line: ``prune 50% → distil 4 epochs → int8 static entropy``."""
    return " → ".join(map(str, steps)) or "as it is"


def named(steps: Sequence[Step]) -> str:
    """Return ``steps`` as a name: ``prune-50-distil-4-epochs-int8-static-entropy``; cut, with a digest, if too long."""
    name = re.sub(r"[^a-z0-9.]+", "-", told(steps).lower()).strip("-.")
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 9].strip('-.')}-{fingerprint(steps)[:8]}"


def packed(steps: Sequence[Step]) -> str:
    """Return ``steps`` as JSON, the same for the same steps: what is stored and hashed."""
    return msgspec.json.encode(tuple(steps), order="sorted").decode()


def unpacked(text: str) -> Steps:
    """Return the steps that :func:`packed` wrote; raise msgspec.ValidationError for anything else."""
    return msgspec.json.decode(text, type=Steps)


def fingerprint(steps: Sequence[Step]) -> str:
    """Return SHA-256 (hex) of ``steps``, a name for what they make of one version."""
    return hashlib.sha256(packed(steps).encode()).hexdigest()


def _layers(network: Network) -> list[tuple[str, object]]:
    """Return the settings of the layers of ``network``, as opposed to those of its training."""
    return [(name, getattr(network, name)) for name in network.__struct_fields__
            if name not in Network.__struct_fields__ and name != "dropout"]  # fmt: skip


def _plain(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _epochs(count: float) -> str:
    return f"{count:g} epoch{'' if count == 1 else 's'}"
