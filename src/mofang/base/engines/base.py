"""The seam of engines: how an artifact computes.

An engine turns named arrays into named arrays and knows nothing of queues, tenants or wires. Replicas, evaluation and
compression call engines; ``catalog.py`` finds them by name. A generative engine is the second sort: it turns prompts
into streams of text, a little of each with every step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from mofang.base.domain.errors import MofangError, WarmUpFailed
from mofang.base.domain.generation import Delta, Order, Profile, Sampling
from mofang.base.domain.tensors import NUMPY, Array, Signature, TensorSpec

Options = Mapping[str, int | str]
_OPEN_SIZES = (1, 8, 32, 224)  # an image model with open height and width may not take one pixel


class Engine(Protocol):
    """One loaded model. Called by one thread at a time."""

    @property
    def signature(self) -> Signature:
        """Names, datatypes and shapes of what goes in and comes out."""
        ...

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs of ``inputs``, which fit the signature; raise EngineFailed, or Invalid for bad values."""
        ...

    def close(self) -> None:
        """Let go of memory and files; nothing is called afterwards."""
        ...


@runtime_checkable
class Interruptible(Protocol):
    """What an engine may offer besides: to give up a computation, since nobody waits for it or it is begun anew."""

    def interrupt(self) -> None:
        """End the :meth:`Engine.infer` that runs in another thread soon, with EngineFailed; nothing if none runs."""
        ...


@runtime_checkable
class Exemplary(Protocol):
    """What an engine may offer besides whose inputs cannot be made up: something to compute at first."""

    def example(self) -> Mapping[str, Array]:
        """Return inputs of one row that are good."""
        ...


class Speaker(Protocol):
    """What computes many streams side by side. Called by one thread only, its owner.

    Streams have numbers, which the owner gives. Between two steps it adds and cancels as many as it likes.
    """

    @property
    def profile(self) -> Profile:
        """Context, slots, chat template, and what can be asked."""
        ...

    def cancel(self, number: int) -> None:
        """Drop a stream before the next step; one that has ended, or never was, is none of its business."""
        ...

    def step(self) -> tuple[list[Delta], dict[int, MofangError]]:
        """Compute a little of every stream: what that added, and which streams failed (they are dropped) and why.

        Returns soon, with nothing if nothing was added. Raises EngineFailed if all is lost.
        """
        ...

    def close(self) -> None:
        """Let go of memory and files; nothing is called afterwards."""
        ...


class GenerativeEngine(Speaker, Protocol):
    """One loaded language model: it goes on from tokens."""

    def encode(self, text: str, *, opening: bool = False) -> Sequence[int]:
        """Return the tokens of ``text``, in which special tokens are read as such; raise PromptTooLong.

        ``opening``: put before it what the model was trained to see first (a chat template does that itself).
        """
        ...

    def add(self, number: int, prompt: Sequence[int], sampling: Sampling) -> None:
        """Begin a stream with the next step. Raises InvalidParameter for what the engine cannot do."""
        ...


@runtime_checkable
class Conversational(Speaker, Protocol):
    """A language model that is somewhere else: it is handed the conversation, and has the last word on its tokens."""

    def guess(self, order: Order) -> int:
        """Return how many tokens the prompt has, about, at least 1."""
        ...

    def converse(self, number: int, order: Order, guessed: int) -> None:
        """Begin a stream with the next step. The last delta says how far off ``guessed`` was (``input_tokens``)."""
        ...


@runtime_checkable
class Scoring(Protocol):
    """What a language model may offer besides: to tell how likely a given text is. Nobody else uses it meanwhile."""

    def encode(self, text: str, *, opening: bool = False) -> Sequence[int]:
        """See :meth:`GenerativeEngine.encode`."""
        ...

    def score(self, texts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return for each of ``texts`` (tokens) the natural logarithm of the probability of every token but the first.

        Each is given those before it, so that a text of n tokens has n - 1. Raises EngineFailed.
        """
        ...


class GenerativeLoader(Protocol):
    """What an entry point of the group ``mofang.generators`` names: usually the engine's class itself."""

    def __call__(self, folder: Path, options: Options) -> GenerativeEngine | Conversational:
        """Load the artifact in ``folder``. Raises EngineLoadFailed."""
        ...


class AdaptingLoader(Protocol):
    """The same of an engine that computes a stream with a LoRA adapter, if it names one (:attr:`Sampling.adapter`)."""

    def __call__(self, folder: Path, options: Options, adapters: Mapping[str, Path]) -> GenerativeEngine:
        """Load the artifact in ``folder``, and adapters by name, each a folder as PEFT writes it."""
        ...


class EngineLoader(Protocol):
    """What an entry point of the group ``mofang.engines`` names: usually the engine's class itself."""

    def __call__(self, folder: Path, options: Options) -> Engine:
        """Load the artifact in ``folder``. Raises EngineLoadFailed."""
        ...


Load = Callable[[str, Path, Options], Engine]
"""Load the artifact in a folder with the engine of that name: ``catalog.load_engine``, or what stands for it."""


def warm_up(engine: Engine, example: Mapping[str, Array] | None = None) -> None:
    """Compute once, and once with two rows if the model can be batched; raise WarmUpFailed if an answer is not sane.

    ``example`` is a checked input; without one, and if the engine has none (:class:`Exemplary`), ones of the smallest
    shape are used: every open dimension is 1, or the smallest of a few larger sizes that the model computes.
    """
    if example is None and isinstance(engine, Exemplary):
        example = engine.example()
    inputs, outputs = _first_answer(engine) if example is None else (example, _infer(engine, example))
    _check_finite(outputs)
    if engine.signature.batchable:
        two_rows = {name: np.concatenate([array[:1], array[:1]]) for name, array in inputs.items()}
        _check_finite(_infer(engine, two_rows))


def example_row(engine: Engine) -> Mapping[str, Array]:
    """Return a made-up input of one row that the engine computes; raise WarmUpFailed if there is none."""
    return _first_answer(engine)[0]


def _first_answer(engine: Engine) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
    """Return the smallest made-up input that the engine computes, and its answer."""
    signature = engine.signature
    is_open = any(size < 0 for spec in signature.inputs for size in _inner(spec, signature))
    failure: WarmUpFailed | None = None
    for size in _OPEN_SIZES if is_open else _OPEN_SIZES[:1]:
        inputs = {spec.name: _ones(spec, signature, size) for spec in signature.inputs}
        try:
            return inputs, _infer(engine, inputs)
        except WarmUpFailed as error:
            failure = failure or error  # the first, with the smallest shape, tells most
    assert failure is not None
    raise failure


def _infer(engine: Engine, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    try:
        return engine.infer(inputs)
    except Exception as error:
        shapes = ", ".join(f"{name}: {list(array.shape)}" for name, array in inputs.items())
        raise WarmUpFailed(f"the model loads but does not compute {shapes}: {error}") from error


def _check_finite(outputs: Mapping[str, Array]) -> None:
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise WarmUpFailed(f"output {name!r} is not finite in the warm-up answer")


def _inner(spec: TensorSpec, signature: Signature) -> tuple[int, ...]:
    return spec.shape[1:] if signature.batchable else spec.shape


def _ones(spec: TensorSpec, signature: Signature, open_size: int) -> Array:
    inner = tuple(open_size if size < 0 else size for size in _inner(spec, signature))
    shape = (1, *inner) if signature.batchable else inner
    if spec.datatype == "BYTES":
        return np.full(shape, b"1", dtype=np.object_)
    return np.ones(shape, NUMPY[spec.datatype])
