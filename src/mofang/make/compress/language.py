"""Whoever tells what a variant of a language model is worth: how likely it finds texts that its parent was given too.

Of an engine that tells no probabilities of given texts it is how often both choose the
same next token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mofang.base.domain.errors import EngineFailed, NoVariant
from mofang.base.domain.generation import Sampling
from mofang.base.domain.work import Progress
from mofang.base.engines.base import Conversational, GenerativeEngine, Scoring
from mofang.base.engines.catalog import load_generator
from mofang.make.compress.quality import Quality, Wanted, by_choices, by_likelihood
from mofang.make.evaluate.language import Encoding, Likelihood, Text, likelihood

_MOST_TEXTS = 100
_MOST_TOKENS = 256  # of a text
_PLACES = 4  # of a text, at which the next token is asked for
_AT_ONCE = 8

Reads = Callable[[Encoding], Sequence[Text]]
"""Reads texts with the tokenizer of an engine."""


class Read:
    """The :class:`Examiner` of language models, whose parent has read the same texts."""

    def __init__(self, engine: str, folder: Path, read: Reads, wanted: Wanted, progress: Progress) -> None:
        """Have the parent in ``folder`` read. Raises NoVariant if there is nothing to compare."""
        self._engine = engine
        with speaking(engine, folder) as parent:
            if wanted == "cosine":
                raise NoVariant("a language model answers no vectors", hint="leave out `--metric cosine`")
            self._texts = _some(read(parent))
            self._likely = isinstance(parent, Scoring) and wanted == "auto"
            self._parent = self._ask(parent, progress)

    @property
    def texts(self) -> list[Sequence[int]]:
        """What was read, in tokens."""
        return [text.tokens for text in self._texts]

    def judge(self, folder: Path, progress: Progress) -> Quality:
        """See :class:`Examiner`."""
        with speaking(self._engine, folder) as variant:
            found = self._ask(variant, progress)
        if isinstance(found, Likelihood):
            assert isinstance(self._parent, Likelihood)
            return by_likelihood(found, self._parent)
        assert not isinstance(self._parent, Likelihood)
        return by_choices(found, self._parent)

    def _ask(self, engine: GenerativeEngine, progress: Progress) -> Likelihood | list[str]:
        if self._likely:
            assert isinstance(engine, Scoring)
            return likelihood(engine, self._texts, progress)
        return _choices(engine, self._texts, progress)


@contextmanager
def speaking(engine: str, folder: Path) -> Iterator[GenerativeEngine]:
    """Load a language model, and let it go at the end."""
    made = load_generator(engine, folder)
    try:
        if isinstance(made, Conversational):
            raise NoVariant(f"engine {engine!r} asks a model that is somewhere else: there is no file to compress")
        yield made
    finally:
        made.close()


def _some(texts: Sequence[Text]) -> list[Text]:
    """Return texts that are long enough to foresee anything, and no longer than needed."""
    found = [Text(text.tokens[:_MOST_TOKENS], text.given, text.size_bytes) for text in texts]
    found = [text for text in found if len(text.tokens) > text.given]
    if not found:
        raise NoVariant("the texts have no two tokens: there is nothing to foresee", hint="give longer texts")
    return found[:: -(-len(found) // _MOST_TEXTS)]


def _choices(engine: GenerativeEngine, texts: Sequence[Text], progress: Progress) -> list[str]:
    """Return the likeliest next token at some places of each text."""
    places = [
        text.tokens[: text.given + (len(text.tokens) - text.given) * part // _PLACES]
        for text in texts
        for part in range(_PLACES)
    ]
    found: list[str] = []
    for start in range(0, len(places), _AT_ONCE):
        found += _next(engine, start, places[start : start + _AT_ONCE])
        progress.report("evaluate", start / len(places), f"{start:,} of {len(places):,} next tokens")
    return found


def _next(engine: GenerativeEngine, first: int, prompts: Sequence[Sequence[int]]) -> list[str]:
    """Return the likeliest token after each of ``prompts``; their streams have numbers from ``first`` on."""
    said = dict.fromkeys(range(first, first + len(prompts)), "")
    for number, prompt in zip(said, prompts, strict=True):
        engine.add(number, prompt, Sampling(max_tokens=1, temperature=0.0))
    left = set(said)
    while left:
        deltas, failures = engine.step()
        if failures:
            raise EngineFailed(f"the engine does not go on from a text: {next(iter(failures.values())).message}")
        for delta in deltas:
            said[delta.stream] += delta.text
            if delta.finish:
                left.discard(delta.stream)
    return [*said.values()]
