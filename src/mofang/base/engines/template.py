"""A model's chat template: how its makers write a conversation as one text.

The template comes with the model, so it is hostile until shown otherwise: it is rendered by Jinja's immutable sandbox
(no attribute that leads to Python's own, nothing that changes what it is given), within bounds of time and size. Only
workers call this; generative engines know nothing of conversations.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mofang.base.domain.errors import ConversationRefused, EngineLoadFailed

_MOST_SOURCE_BYTES = 256 << 10
_MOST_TEXT_BYTES = 16 << 20
_MOST_REPEATS = 100_000  # of a text or list that is multiplied
_MOST_POWER = 64
_MOST_MEMORY_BYTES = 128 << 20
_SECONDS = 0.25  # of processor time, far more than any conversation needs
_LOOK_SECONDS = 0.01
_UNBOUNDED = frozenset({"center", "indent", "format", "wordwrap", "pprint", "xmlattr", "urlize", "random"})
_FILLING = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs", "format", "format_map", "translate"})


class _Endless(BaseException):
    """The template takes too long. Not an Exception, so that nothing on the way can swallow it."""


class _Generation(Extension):
    """``{% generation %}``, with which trainers mark what the model said; it changes nothing here."""

    tags = {"generation"}  # noqa: RUF012 (as jinja2 declares it)

    def parse(self, parser: Parser) -> Node:
        """Take the block as it is."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

    def _same(self, caller: Any) -> Any:
        return caller()


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's, without operations that make much of little."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Bound what is multiplied."""
        if operator == "%" and isinstance(left, str):
            raise SecurityError("it formats with '%', which knows no bounds")
        if operator == "**" and (abs(right) > _MOST_POWER or abs(left) > _MOST_REPEATS):
            raise SecurityError("it computes a power beyond all bounds")
        for many, times in ((left, right), (right, left)):
            sized = operator == "*" and isinstance(many, (str, list, tuple)) and isinstance(times, int)
            if sized and times * len(many) > _MOST_REPEATS:
                raise SecurityError("it multiplies a text beyond all bounds")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        text = getattr(function, "__self__", None)
        if isinstance(text, str):
            match function.__name__:
                case "join":
                    return _joined(args[0], text)
                case "replace":
                    return _replaced(text, *args)
        return super().call(context, function, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Any:
        """Take ``format`` away, which fills up texts too."""
        if getattr(value, "__name__", "") in ("format", "format_map") and isinstance(value.__self__, str):
            raise SecurityError("it formats texts, which knows no bounds")

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Take away the methods that fill up texts."""
        return attr not in _FILLING and super().is_safe_attribute(obj, attr, value)


class ChatTemplate:
    """Writes conversations as text."""

    def __init__(self, source: str, bos: str = "", eos: str = "") -> None:
        """Compile ``source``. Raises EngineLoadFailed."""
        if len(source) > _MOST_SOURCE_BYTES:
            raise EngineLoadFailed(f"the chat template has {len(source):,} characters, over {_MOST_SOURCE_BYTES:,}")
        environment = _Sandbox(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _Generation],
            optimized=False,  # constants would be folded without a look at what that makes of them
        )
        environment.filters = {name: each for name, each in environment.filters.items() if name not in _UNBOUNDED}
        environment.filters |= {"tojson": _to_json, "replace": _replaced, "join": _joined}
        environment.globals = {
            name: each for name, each in environment.globals.items() if name not in ("lipsum", "cycler", "joiner")
        }
        environment.globals |= {"raise_exception": _refuse, "strftime_now": time.strftime}
        self._constants = {"bos_token": bos, "eos_token": eos}
        try:
            self._template = environment.from_string(source)  # in time and memory linear in its length
        except (TemplateError, RecursionError, SyntaxError, MemoryError) as error:
            raise EngineLoadFailed(f"the chat template is no Jinja template: {error}") from error
        self.knows_tools = "tools" in source

    def render(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """Return the conversation as text, up to where the model is to speak. Raises ConversationRefused."""
        values = {**self._constants, "messages": messages, "tools": list(tools) or None, "add_generation_prompt": True}
        parts: list[str] = []
        size = 0
        try:
            with _bounded():
                for part in self._template.generate(values):
                    size += len(part)
                    if size > _MOST_TEXT_BYTES:
                        raise ConversationRefused("the chat template writes without end")
                    parts.append(part)
        except _Endless:
            raise ConversationRefused("the chat template takes too long, or too much memory") from None
        except ConversationRefused:
            raise
        except Exception as error:  # a template fails as Python does, in any way
            raise ConversationRefused(f"the chat template refuses the conversation: {error}") from error
        return "".join(parts)


@contextmanager
def _bounded() -> Iterator[None]:
    """Raise _Endless when much processor time or memory is used. In the main thread, where a worker computes."""
    most = _resident_pages() + _MOST_MEMORY_BYTES // os.sysconf("SC_PAGE_SIZE")
    until = time.thread_time() + _SECONDS

    def look(number: int, frame: FrameType | None) -> None:
        if time.thread_time() > until or _resident_pages() > most:
            raise _Endless

    before = signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, _LOOK_SECONDS, _LOOK_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _resident_pages() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1])


def _refuse(message: str) -> NoReturn:
    raise ConversationRefused(f"the chat template refuses the conversation: {str(message)[:500]}")


def _joined(parts: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    """Jinja's filter ``join``, and the method of texts, in bounds."""
    texts = [str(part if attribute is None else part[attribute]) for part in parts]
    _check_size(sum(map(len, texts)) + len(separator) * len(texts))
    return str(separator).join(texts)


def _replaced(text: Any, old: str, new: str, count: int | None = None) -> str:
    """Jinja's filter ``replace``, and the method of texts, in bounds."""
    text = str(text)
    _check_size(len(text) + text.count(old) * len(new))
    replaced: str = text.replace(old, new, -1 if count is None else count)
    return replaced


def _check_size(size: int) -> None:
    if size > _MOST_TEXT_BYTES:
        raise SecurityError("it makes a text beyond all bounds")


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=min(indent, 8) if indent else None)
