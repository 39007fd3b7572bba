"""What a server of the OpenAI API is asked for an order, and what its answers and refusals mean. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import msgspec

from mofang.base.domain.errors import MofangError, Overloaded, UpstreamFailed, UpstreamRefused
from mofang.base.domain.generation import Chosen, Order, Sampling


def body(model: str, order: Order) -> dict[str, Any]:
    """Return the request for a stream."""
    sampling = order.sampling
    asked: dict[str, Any] = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        **({"messages": [_message(each) for each in order.messages]} if order.messages else {"prompt": order.text}),
        **_wanted(sampling, chat=bool(order.messages)),
    }
    if order.tools and sampling.constraint is None:  # else it is held to one of them
        asked["tools"] = list(order.tools)
    return asked


def _wanted(sampling: Sampling, *, chat: bool) -> dict[str, Any]:
    """Return what was asked for beside the usual: servers refuse what they do not know."""
    wanted: dict[str, Any] = {
        "max_tokens": sampling.max_tokens or None,
        "seed": sampling.seed,
        "presence_penalty": sampling.presence_penalty or None,
        "frequency_penalty": sampling.frequency_penalty or None,
        "top_k": sampling.top_k or None,
        "stop": list(sampling.stop) or None,
    }
    if sampling.logprobs is not None:
        wanted |= {"logprobs": True, "top_logprobs": sampling.logprobs} if chat else {"logprobs": sampling.logprobs + 1}
    if sampling.constraint is not None:
        wanted["response_format"] = {"type": "json_object"} if sampling.constraint.kind == "json" else {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": msgspec.json.decode(sampling.constraint.text)},
        }  # fmt: skip
    return {name: value for name, value in wanted.items() if value is not None}


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message as it came: templates want arguments as objects, the API as text."""
    plain = dict(message)
    if calls := plain.get("tool_calls"):
        plain["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": _text(call["function"]["arguments"])}}
            for call in calls
        ]
    return plain


def _text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()


def chosen(logprobs: Mapping[str, Any]) -> tuple[Chosen, ...]:
    """Read what a chat tells of its tokens; of plain completions only the tokens themselves."""
    if tokens := logprobs.get("tokens"):
        return tuple(map(_plain_chosen, tokens, logprobs.get("token_logprobs") or [0.0] * len(tokens)))
    return tuple(
        Chosen(_bytes(each), float(each["logprob"]),
               tuple((_bytes(other), float(other["logprob"])) for other in each.get("top_logprobs") or ()))
        for each in logprobs.get("content") or ()
    )  # fmt: skip


def _plain_chosen(token: str, logprob: float | None) -> Chosen:
    return Chosen(token.encode("utf-8", "replace"), float(logprob or 0.0))


def _bytes(token: Mapping[str, Any]) -> bytes:
    return bytes(token["bytes"]) if token.get("bytes") else str(token["token"]).encode("utf-8", "replace")


def refusal(answer: httpx.Response) -> MofangError:
    """Return what an upstream's error is to our client: its own mistake, too much, or our operator's."""
    try:
        why = said(answer.json().get("error", answer.text))
    except (ValueError, AttributeError):
        why = answer.text[:300]
    status = answer.status_code
    if status == 429:
        after = answer.headers.get("retry-after", "")
        return Overloaded(
            f"the upstream is at its limit: {why}", retry_after_seconds=int(after) if after.isdecimal() else 1
        )
    if status in (400, 413, 415, 422):
        return UpstreamRefused(f"the upstream refuses the request: {why}")
    if status in (401, 402, 403, 404):
        return UpstreamFailed(f"the upstream does not serve us ({status})", hint="the operator has to look after it")
    return UpstreamFailed(f"the upstream failed ({status}): {why}")


def said(error: object) -> str:
    """Return the sentence of an error object."""
    return str(error.get("message", error) if isinstance(error, Mapping) else error)[:300]
