"""A language model behind a server of the OpenAI API: what engines share whose model is computed there.

Each stream is read in a thread of its own; ``step`` collects what came. Where the server is, which key it wants and
what its failures are called is the engine's to say.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import httpx
import msgspec

from mofang.base.domain.errors import EngineFailed, MofangError, UpstreamFailed
from mofang.base.domain.generation import Delta, Finish, Order
from mofang.base.engines.asking import body, chosen, refusal, said
from mofang.base.engines.inbox import Inbox

ALTERNATIVES = 20
"""Most alternatives to a token that such a server tells."""
_TIMEOUT = httpx.Timeout(10.0, read=120.0)
_CHARACTERS = 4  # of a token, about: what a prompt or an answer is taken to have where the server does not tell
_MOST = 1 << 32  # tokens of one answer that are believed
_DONE = "[DONE]"
_CALL = '<tool_call>{"name": %s, "arguments": %s}</tool_call>'
_FINISH: Mapping[str, Finish] = {"length": "length"}  # everything else is its own decision


class Place(NamedTuple):
    """Where a server is asked now, its base URL without a slash at the end, and with which key; empty: none."""

    base_url: str
    key: str


class Remote(ABC):
    """Streams of a model that is called ``model`` there. An engine inherits, and adds its profile and its place."""

    def __init__(self, model: str, slots: int) -> None:
        self._model = model
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=slots)
        self._client = httpx.Client(timeout=_TIMEOUT, limits=limits, trust_env=False)
        self._inbox: Inbox[_Stream, Delta | MofangError | None] = Inbox()  # what came; None: the stream has ended

    @abstractmethod
    def place(self) -> Place:
        """Say where the server is, which may change; raise why it cannot be asked."""

    def failure(self, why: str) -> MofangError:
        """Return what it is called that the server fails."""
        return UpstreamFailed(why)

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
                failures[number] = event or self.failure("it ended the stream without a word")
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
        except _Broken as error:
            self._inbox.put(stream.number, self.failure(str(error)))
        except httpx.TimeoutException:
            self._inbox.put(stream.number, self.failure("it is silent"))
        except httpx.HTTPError as error:
            self._inbox.put(stream.number, self.failure(f"it does not answer: {error}"))
        except MofangError as error:
            self._inbox.put(stream.number, error)
        except Exception as error:
            self._inbox.put(stream.number, EngineFailed(f"the server's answer cannot be read: {error!r}"))
        self._inbox.put(stream.number, None)

    def _answers(self, stream: _Stream, order: Order) -> Iterator[Delta]:
        base_url, key = self.place()
        url = f"{base_url}/{'chat/completions' if order.messages else 'completions'}"
        headers = {"authorization": f"Bearer {key}"} if key else {}
        with self._client.stream("POST", url, json=body(self._model, order), headers=headers) as answer:
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


class _Broken(Exception):
    """The server broke off in the middle of an answer."""


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
            raise _Broken(f"it broke off: {said(error)}")
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
        """Return the last delta: with the server's own counts, or, as far as it told none, estimates of them."""
        if not self._finish:
            raise _Broken("it ended in the middle of its answer")
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
    """Return a count that the server told; None if it told none, or nonsense."""
    count = usage.get(name)
    return count if type(count) is int and 0 <= count <= _MOST else None
