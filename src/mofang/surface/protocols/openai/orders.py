"""From a request of the OpenAI API to the orders of its streams: one for each choice of each prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mofang.base.domain.constraints import schema_constraint
from mofang.base.domain.errors import InvalidParameter
from mofang.base.domain.generation import Constraint, Order, Sampling
from mofang.surface.protocols.openai.requests import (
    ChatRequest,
    Common,
    CompletionRequest,
    Function,
    Message,
    ResponseFormat,
    Tool,
    ToolChoice,
)


class Terms(msgspec.Struct, frozen=True):
    """What all orders of a request share, beside what the client said."""

    request_id: str
    tenant: str
    deadline: float


def chat_orders(request: ChatRequest, terms: Terms) -> list[Order]:
    """Return one order for each choice. Raises InvalidParameter."""
    _check_common(request)
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidParameter.of("top_logprobs", "it goes with logprobs: true")
    if request.max_tokens and request.max_completion_tokens:
        raise InvalidParameter.of("max_completion_tokens", "it takes the place of max_tokens: send one of them")
    sampling = msgspec.structs.replace(
        _sampling(request, request.max_completion_tokens or request.max_tokens),
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        constraint=_tool_constraint(request) or _format_constraint(request.response_format),
    )
    messages = [_message(index, each) for index, each in enumerate(request.messages)]
    tools = [] if request.tool_choice == "none" else [msgspec.to_builtins(tool) for tool in request.tools or ()]
    if tools and sampling.constraint and not forced_calls(request):
        raise InvalidParameter.of("response_format", "a model that may call tools cannot be held to a format besides")
    return [
        Order(terms.request_id, terms.tenant, terms.deadline, each, messages=messages, tools=tools)
        for each in _choices(sampling, request.n or 1)
    ]


def text_orders(request: CompletionRequest, terms: Terms) -> list[Order]:
    """Return one order for each choice of each prompt, prompt by prompt. Raises InvalidParameter."""
    _check_common(request)
    for name, value, usual in (("echo", request.echo, False), ("suffix", request.suffix, None)):
        if value not in (usual, None, ""):
            raise InvalidParameter.of(name, "it is not offered here")
    if request.best_of not in (None, request.n or 1):
        raise InvalidParameter.of("best_of", "it is not offered here; ask for n choices and choose")
    wanted = None if request.logprobs is None else max(0, request.logprobs - 1)  # the token itself is the first
    sampling = msgspec.structs.replace(_sampling(request, request.max_tokens or 16), logprobs=wanted)
    return [
        _text_order(terms, each, prompt) for prompt in request.prompts for each in _choices(sampling, request.n or 1)
    ]


def _text_order(terms: Terms, sampling: Sampling, prompt: str | Sequence[int]) -> Order:
    told = {"text": prompt} if isinstance(prompt, str) else {"tokens": prompt}
    return Order(terms.request_id, terms.tenant, terms.deadline, sampling, **told)


def forced_calls(request: ChatRequest) -> list[Function]:
    """Return the functions one of which has to be called; none if the model is free to speak."""
    if request.tool_choice in (None, "none", "auto"):
        return []
    functions = [tool.function for tool in request.tools or ()]
    if isinstance(request.tool_choice, ToolChoice):
        name = request.tool_choice.function.name
        functions = [function for function in functions if function.name == name]
        if not functions:
            raise InvalidParameter.of("tool_choice", f"no function of `tools` is called {name[:64]!r}")
    if not functions:
        raise InvalidParameter.of("tool_choice", "there are no tools to choose from")
    return functions


def _check_common(request: Common) -> None:
    if request.logit_bias:
        raise InvalidParameter.of("logit_bias", "it is not offered here")
    if request.stream_options is not None and not request.stream:
        raise InvalidParameter.of("stream_options", "it goes with stream: true")


def _sampling(request: Common, max_tokens: int | None) -> Sampling:
    return Sampling(
        max_tokens=max_tokens or 0,
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=request.top_p or 1.0,
        top_k=request.top_k or 0,
        seed=request.seed,
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        stop=request.stops,
    )


def _choices(sampling: Sampling, n: int) -> list[Sampling]:
    """Return the sampling of each choice: with one seed for all, they would all be the same."""
    if sampling.seed is None:
        return [sampling] * n
    return [msgspec.structs.replace(sampling, seed=sampling.seed + index) for index in range(n)]


def _format_constraint(wanted: ResponseFormat | None) -> Constraint | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return Constraint("json")
    if wanted.json_schema is None or wanted.json_schema.schema is None:
        raise InvalidParameter.of("response_format.json_schema", "the schema is missing")
    return schema_constraint("response_format.json_schema", wanted.json_schema.schema)


def _tool_constraint(request: ChatRequest) -> Constraint | None:
    functions = forced_calls(request)
    if not functions:
        return None
    return schema_constraint("tools", {"anyOf": [_call_schema(each) for each in functions]} if len(functions) > 1
                             else _call_schema(functions[0]))  # fmt: skip


def _call_schema(function: Function) -> dict[str, Any]:
    parameters = function.parameters or {"type": "object", "properties": {}, "additionalProperties": False}
    return {
        "type": "object",
        "properties": {"name": {"const": function.name}, "arguments": parameters},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _message(index: int, message: Message) -> dict[str, Any]:
    """Return a message as chat templates know it."""
    content = message.content
    if isinstance(content, list):
        content = "".join(part.text for part in content)
    if content is None and not message.tool_calls:
        raise InvalidParameter.of(f"messages[{index}].content", "it is missing")
    plain: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": content or "",
    }
    if message.name:
        plain["name"] = message.name
    if message.tool_call_id:
        plain["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        plain["tool_calls"] = [_call(f"messages[{index}]", msgspec.to_builtins(call)) for call in message.tool_calls]
    return plain


def _call(place: str, call: dict[str, Any]) -> Mapping[str, Any]:
    """Take the arguments apart: templates write them themselves."""
    try:
        call["function"]["arguments"] = msgspec.json.decode(call["function"]["arguments"] or "{}")
    except msgspec.DecodeError:
        raise InvalidParameter.of(f"{place}.tool_calls", "the arguments of a call are no JSON") from None
    return call


def tool_names(tools: Sequence[Tool] | None) -> frozenset[str]:
    """Return the names of the functions of ``tools``."""
    return frozenset(tool.function.name for tool in tools or ())
