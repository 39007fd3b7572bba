"""Asks another server that speaks the OpenAI API, as if its model were one of ours. Loaded through the catalog.

The artifact is ``upstream.json``: which upstream, and what its model is called there. Where an upstream is and which
key it wants is the operator's to say, in a file of hers (setting ``upstreams``): versions hold no secrets, and whoever
may push a model cannot have keys sent elsewhere. Each stream is read in a thread of its own; ``step`` collects what
came.
"""

from __future__ import annotations

import os
import threading
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec

from mofang.base.domain.errors import (
    EngineFailed,
    EngineLoadFailed,
    InvalidSettings,
    MofangError,
    UpstreamFailed,
)
from mofang.base.domain.generation import Delta, Finish, Order, Profile
from mofang.base.engines.asking import body, chosen, refusal, said
from mofang.base.engines.base import Options
from mofang.base.engines.described import read_described
from mofang.base.engines.inbox import Inbox
from mofang.base.engines.options import chosen as options_of

_TIMEOUT = httpx.Timeout(10.0, read=120.0)
_ALTERNATIVES = 20
_CHARACTERS = 4  # of a token, about: what a prompt or an answer is taken to have where the upstream does not tell
_MOST = 1 << 32  # tokens of one answer that are believed
_DONE = "[DONE]"
_CALL = '<tool_call>{"name": %s, "arguments": %s}</tool_call>'
_FINISH: Mapping[str, Finish] = {"length": "length"}  # everything else is its own decision


class Upstream(msgspec.Struct, forbid_unknown_fields=True):
    """One table of the operator's file."""

    base_url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^/?#@]+(/[^?#@]*)?$")]
    key_file: str = ""
    key_env: str = ""

    def key(self) -> str:
        """Read the key, which may have been replaced; empty if the upstream wants none. Raises EngineLoadFailed."""
        try:
            text = Path(self.key_file).read_text() if self.key_file else os.environ.get(self.key_env, "")
        except OSError as error:
            raise EngineLoadFailed(f"the key of the upstream cannot be read: {error.strerror}") from error
        if self.key_env and not text:
            raise EngineLoadFailed(f"the key of the upstream is missing: {self.key_env} is not set")
        return text.strip()


class UpstreamEngine:
    """A model of another server. Options: ``file``, the operator's, and see :mod:`.options`."""

    def __init__(self, folder: Path, options: Options) -> None:
        """Look the upstream up; it is not asked yet. Raises InvalidModel, InvalidSettings or EngineLoadFailed."""
        self._described = read_described(folder)
        self._upstream = _look_up(str(options.get("file", "")), self._described.upstream)
        self._upstream.key()
        told = {name: value for name, value in options.items() if name != "file"}
        slots = int(options_of("upstream", told)["slots"])
        self.profile = Profile(
            context_tokens=self._described.context_tokens,
            slots=slots,
            cache_tokens=slots * self._described.context_tokens,
            chat_template="the upstream's own",
            constraints=("json", "schema"),
            alternatives=_ALTERNATIVES,
        )
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=self.profile.slots)
        self._client = httpx.Client(
            base_url=self._upstream.base_url.rstrip("/") + "/", timeout=_TIMEOUT, limits=limits, trust_env=False
        )
        self._inbox: Inbox[_Stream, Delta | MofangError | None] = Inbox()  # what came; None: the stream has ended

    def guess(self, order: Order) -> int:
        """See :class:`Conversational`."""
        if order.messages:
            return sum(len(str(message.get("content", ""))) for message in order.messages) // _CHARACTERS + 1
        return len(order.text) // _CHARACTERS + 1

    def converse(self, number: int, order: Order, guessed: int) -> None:
        """See :class:`Conversational`."""
        stream = self._inbox.streams[number] = _Stream(number, guessed)
        threading.Thread(target=self._read, args=(stream, order), name=f"stream {number}", daemon=True).start()

    def cancel(self, number: int) -> None:
        """See :meth:`GenerativeEngine.cancel`. The thread looks when the next piece is there, and hangs up."""
        self._inbox.cancel(number)

    def step(self) -> tuple[list[Delta], dict[int, MofangError]]:
        """See :meth:`GenerativeEngine.step`."""
        deltas: list[Delta] = []
        failures: dict[int, MofangError] = {}
        for number, event in self._inbox.take():
            if number not in self._inbox.streams:
                continue  # cancelled meanwhile
            if isinstance(event, Delta):
                deltas.append(event)
            else:
                failures[number] = event or UpstreamFailed("the upstream ended the stream without a word")
            if not isinstance(event, Delta) or event.finish:
                del self._inbox.streams[number]
        return deltas, failures

    def close(self) -> None:
        """Hang up."""
        self._inbox.cancel_all()
        self._client.close()

    def _read(self, stream: _Stream, order: Order) -> None:
        """Have a stream answered, in a thread of its own; whatever it ends with, its owner is told."""
        try:
            for delta in self._answers(stream, order):
                self._inbox.put(stream.number, delta)
        except MofangError as error:
            self._inbox.put(stream.number, error)
        except Exception as error:
            self._inbox.put(stream.number, EngineFailed(f"the upstream's answer cannot be read: {error!r}"))
        self._inbox.put(stream.number, None)

    def _answers(self, stream: _Stream, order: Order) -> Iterator[Delta]:
        path = "chat/completions" if order.messages else "completions"
        key = self._upstream.key()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        asked = body(self._described.model, order)
        with (
            self._translated(),
            self._client.stream("POST", path, json=asked, headers=headers) as answer,
        ):
            if answer.status_code != 200:
                answer.read()
                raise refusal(answer)
            for line in answer.iter_lines():
                if stream.cancelled:
                    return
                if not line.startswith("data:"):
                    continue
                text = line.removeprefix("data:").strip()
                if text == _DONE:
                    break
                if (delta := stream.take(text)) is not None:
                    yield delta
        yield stream.end()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise UpstreamFailed(f"upstream {self._described.upstream!r} is silent") from error
        except httpx.HTTPError as error:
            raise UpstreamFailed(f"upstream {self._described.upstream!r} does not answer: {error}") from error


class _Stream:
    """What is kept of a stream while it is read."""

    def __init__(self, number: int, guessed: int) -> None:
        self.number = number
        self.cancelled = False
        self._guessed = guessed
        self._told = 0  # tokens that were told one by one: each piece is one at least
        self._characters = 0
        self._finish: Finish = ""
        self._usage: Mapping[str, Any] = {}
        self._calls: dict[int, list[str]] = {}  # name and pieces of arguments, by the call's number

    def take(self, text: str) -> Delta | None:
        """Read an event; None if it says nothing."""
        chunk: dict[str, Any] = msgspec.json.decode(text)
        if error := chunk.get("error"):
            raise UpstreamFailed(f"the upstream broke off: {said(error)}")
        self._usage = chunk.get("usage") or self._usage
        if not chunk.get("choices"):
            return None
        choice = chunk["choices"][0]
        reason = choice.get("finish_reason")
        if reason:
            self._finish = _FINISH.get(reason, "stop")
        added = choice.get("delta") or {}
        for call in added.get("tool_calls") or ():
            self._call(call)
        content = added.get("content") or choice.get("text") or ""
        if not content:
            return None
        self._told += 1
        self._characters += len(content)
        return Delta(self.number, content, 1, "", chosen(choice.get("logprobs") or {}), estimated=True)

    def end(self) -> Delta:
        """Return the last delta: with the upstream's own counts, or, as far as it told none, estimates of them."""
        if not self._finish:
            raise UpstreamFailed("the upstream ended in the middle of its answer")
        text = "".join(_CALL % (msgspec.json.encode(name).decode(), "".join(arguments) or "{}")
                       for name, *arguments in self._calls.values())  # fmt: skip
        about = -(-(self._characters + len(text)) // _CHARACTERS)
        output, prompt = _count(self._usage, "completion_tokens"), _count(self._usage, "prompt_tokens")
        cached = _count(self._usage.get("prompt_tokens_details") or {}, "cached_tokens") or 0
        cached = min(cached, self._guessed if prompt is None else prompt)
        return Delta(
            self.number,
            text,
            max(0, (about if output is None else output) - self._told),
            self._finish,
            (),
            cached,
            input_tokens=0 if prompt is None else prompt - self._guessed,
            estimated=output is None or prompt is None or output < self._told,
        )

    def _call(self, call: Mapping[str, Any]) -> None:
        function = call.get("function") or {}
        parts = self._calls.setdefault(int(call.get("index") or 0), [""])
        parts[0] += function.get("name") or ""
        parts.append(function.get("arguments") or "")


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    """Return a count that the upstream told; None if it told none, or nonsense."""
    count = usage.get(name)
    return count if type(count) is int and 0 <= count <= _MOST else None


def _look_up(file: str, name: str) -> Upstream:
    if not file:
        raise InvalidSettings("no upstreams are known", hint="set MOFANG_UPSTREAMS to a file that says where they are")
    try:
        known = msgspec.convert(tomllib.loads(Path(file).read_text()), dict[str, Upstream])
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise InvalidSettings(f"the file of upstreams cannot be read: {error}") from error
    if name not in known:
        raise EngineLoadFailed(f"no upstream is called {name!r}", hint=f"known are: {', '.join(sorted(known))}")
    return known[name]
