"""A language model whose tokens are characters and whose answers are scripts, for tests of everything around one.

It says its prompt again, a character a step; if something stands between ``«`` and ``»`` there, only that. ``!`` makes
the stream fail, ``#`` the whole engine, unless it is not ``brittle``.
"""

from __future__ import annotations

from collections.abc import Sequence

from mofang.base.domain.errors import EngineFailed, InvalidParameter, MofangError, PromptTooLong
from mofang.base.domain.generation import Chosen, Delta, Finish, Profile, Sampling

TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"


class ScriptedGenerator:
    """Implements ``GenerativeEngine``; counts steps and characters, and knows which streams it has."""

    def __init__(
        self,
        slots: int = 2,
        context: int = 200,
        template: str = TEMPLATE,
        *,
        caching: bool = False,
        brittle: bool = True,
        reads: int = 0,
    ) -> None:
        """``caching``: of a prompt that it was given before, it computes the last token. ``reads``: so many characters
        of prompts with a step, one prompt after the other as real engines do (0: all)."""
        self.profile = Profile(context, slots, slots * context, template, constraints=("json",), alternatives=1,
                               vocabulary=1 << 16)  # fmt: skip
        self.steps = 0
        self.computed = 0
        self.cancelled: list[int] = []
        self.added: list[str] = []
        self.closed = False
        self.streams: dict[int, list[str]] = {}
        self._sampling: dict[int, Sampling] = {}
        self._ends: dict[int, Finish] = {}
        self._caching = caching
        self._brittle = brittle
        self._cached: dict[int, int] = {}  # tokens of prompts, not told yet
        self._reads = reads
        self._unread: dict[int, int] = {}  # tokens of prompts

    def encode(self, text: str, *, opening: bool = False) -> Sequence[int]:
        if len(text) >= self.profile.context_tokens:
            raise PromptTooLong(f"{len(text)} characters are too many")
        return [ord(each) for each in text]

    def add(self, number: int, prompt: Sequence[int], sampling: Sampling) -> None:
        text = "".join(map(chr, prompt))
        if sampling.top_p == 0.5:
            raise InvalidParameter.of("top_p", "this model dislikes a half")
        if self._caching and text in self.added:
            self._cached[number] = len(text) - 1
        self.added.append(text)
        if self._reads:
            self._unread[number] = len(text)
        self._sampling[number] = sampling
        script = text.rpartition("«")[2].partition("»")[0] if "«" in text else text
        room = self.profile.context_tokens - len(text)
        most = min(sampling.max_tokens or room, room)
        self.streams[number] = list(script)[:most] or [""]
        self._ends[number] = "length" if len(script) > most else "stop"

    def cancel(self, number: int) -> None:
        if self.streams.pop(number, None) is not None:
            self.cancelled.append(number)

    def step(self) -> tuple[list[Delta], dict[int, MofangError]]:
        self.steps += 1
        deltas: list[Delta] = []
        failures: dict[int, MofangError] = {}
        room = self._reads
        for number, script in list(self.streams.items()):
            if number in self._unread:
                read = min(room, self._unread[number])
                room, self._unread[number] = room - read, self._unread[number] - read
                if self._unread[number]:
                    continue
                del self._unread[number]
            said = script.pop(0)
            self.computed += 1
            if said == "#" and self._brittle:
                raise EngineFailed("all is lost")
            if said == "!" and self._brittle:
                failures[number] = EngineFailed("this stream is lost")
                del self.streams[number]
                continue
            finish: Finish = "" if script else self._ends[number]
            chosen = (Chosen(said.encode(), -0.5, ((b"x", -1.5),)),)
            wanted = self._sampling[number].logprobs is not None
            cached = self._cached.pop(number, 0)
            deltas.append(Delta(number, said, 1, finish, chosen if wanted else (), cached))
            if finish:
                del self.streams[number]
        return deltas, failures

    def score(self, texts: Sequence[Sequence[int]]) -> list[list[float]]:
        """A small letter or a space is likely, anything else is not."""
        return [[-0.25 if chr(each).islower() or chr(each) == " " else -2.0 for each in text[1:]] for text in texts]

    def close(self) -> None:
        self.closed = True
