"""[train]: what goes on from a registered model: its weights are kept, and a little is learned besides."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from mofang.base.domain.errors import Invalid
from mofang.base.domain.names import VersionRef
from mofang.make.recipe.algorithms import Epochs, Rate
from mofang.make.recipe.data import Task
from mofang.make.recipe.networks import Dense, Descent, Dropout, Units

Layer = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Lora(Descent, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="lora"):
    """LoRA (Hu et al., 2021) on a language model: it learns to go on from prompts. Needs the extra `transformers`."""

    tasks: ClassVar[tuple[Task, ...]] = ("generation",)
    framework: ClassVar[str] = "transformers"

    base: Annotated[str, Meta(min_length=1, description="the registered language model to go on from, e.g. smol@1")]
    rank: Annotated[int, Meta(ge=1, le=1_024, description="of the two matrices that are learned for each layer")] = 8
    alpha: Annotated[float, Meta(gt=0, le=4_096, description="what they learn counts alpha / rank times")] = 16.0
    targets: Annotated[tuple[Layer, ...], Meta(min_length=1, description="the layers that get such matrices")] = (
        "q_proj",
        "v_proj",
    )
    dropout: Dropout = 0.0
    length: ClassVar[str] = "epochs"
    tokens: Annotated[
        int, Meta(ge=8, le=131_072, description="of prompt and completion that are read, from the start")
    ] = 512
    epochs: Epochs = 3
    batch_size: Annotated[int, Meta(ge=0, le=65_536, description="rows of one step, 0: all of them")] = 8
    optimiser: Annotated[
        Literal["sgd", "momentum", "nesterov", "adam", "adamw"], Meta(description="how a gradient becomes a step")
    ] = "adamw"
    learning_rate: Rate = 2e-4

    def complaint(self, task: str) -> tuple[str, str] | None:
        """See :meth:`Train.complaint`."""
        return no_version(self.base, "base") or Descent.complaint(self, task)


class Head(Dense, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="head"):
    """A classifier on the vectors of a registered encoder of texts or images, which stays as it is. Needs `torch`."""

    encoder: Annotated[str, Meta(min_length=1, description="the registered version that makes vectors, e.g. minilm@1")]
    tokens: Annotated[
        int, Meta(ge=8, le=131_072, description="of a text that are read, from the start, in training and in service")
    ] = 256
    hidden: Annotated[
        tuple[Units, ...], Meta(max_length=64, description="units of each hidden layer; none: logistic regression")
    ] = ()
    library: Annotated[Literal["torch"], Meta(description="what builds and trains it")] = "torch"

    def complaint(self, task: str) -> tuple[str, str] | None:
        """See :meth:`Train.complaint`."""
        return no_version(self.encoder, "encoder") or Dense.complaint(self, task)

    @property
    def network(self) -> Dense:
        """The network on the vectors."""
        return Dense(**{name: getattr(self, name) for name in Dense.__struct_fields__})


def no_version(text: str, key: str) -> tuple[str, str] | None:
    """Say why ``text`` names no version; None if it does."""
    try:
        VersionRef.parse(text)
    except Invalid as error:
        return key, f"must name a version, such as smol@1: {error.message}"
    return None
