"""``POST /v1/responses``: what clients of OpenAI's Responses API send, as a conversation. Stateless: nothing is kept.

https://platform.openai.com/docs/api-reference/responses/create. What would need a state (``previous_response_id``,
``conversation``, ``background``) is refused by name; ``store`` is taken, and answers say that nothing was stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec

from mofang.base.domain.errors import InvalidParameter
from mofang.surface.protocols.openai.requests import (
    Called,
    ChatRequest,
    Function,
    FunctionName,
    JsonSchema,
    Message,
    ResponseFormat,
    Share,
    StreamOptions,
    Temperature,
    Tokens,
    Tool,
    ToolCall,
    ToolChoice,
)

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "response_format.json_schema": "text.format",
        "response_format": "text.format",
        "messages": "input",
        "max_completion_tokens": "max_output_tokens",
    }
)
"""What parameters are called here that have other names among completions, for errors."""
LOGPROBS = "message.output_text.logprobs"


class TextPart(msgspec.Struct):
    """A part of a message, or of what a function gave."""

    type: Literal["input_text", "output_text", "text"]
    text: str


class Item(msgspec.Struct):
    """Something of the conversation so far: a message, the call of a function, or what it gave."""

    type: Literal["message", "function_call", "function_call_output"] = "message"
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[TextPart] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[TextPart] | None = None


class FlatFunction(Function, forbid_unknown_fields=True):
    """A function that may be called."""

    type: Literal["function"] = "function"


class FlatChoice(msgspec.Struct, forbid_unknown_fields=True):
    """The one function to call."""

    type: Literal["function"]
    name: str


class FlatFormat(msgspec.Struct, forbid_unknown_fields=True):
    """What the text has to be."""

    type: Literal["text", "json_object", "json_schema"]
    name: str = ""
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class TextOptions(msgspec.Struct, forbid_unknown_fields=True):
    """How the text has to be."""

    format: FlatFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ResponseRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """``POST /v1/responses``."""

    model: str
    input: str | Annotated[list[Item], msgspec.Meta(min_length=1, max_length=4096)]
    instructions: str | None = None
    max_output_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    text: TextOptions | None = None
    tools: Annotated[list[FlatFunction], msgspec.Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | FlatChoice | None = None
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None = None
    background: Literal[False] | None = None
    previous_response_id: None = None
    conversation: None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: int | None = None
    metadata: dict[str, str] | None = None
    reasoning: dict[str, Any] | None = None
    store: bool | None = None
    truncation: Literal["disabled"] | None = None
    user: str | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None


def chat_of(asked: ResponseRequest) -> ChatRequest:
    """Return the same as a request for a chat completion. Raises InvalidParameter."""
    logprobs = LOGPROBS in (asked.include or ())
    if asked.top_logprobs is not None and not logprobs:
        raise InvalidParameter.of("top_logprobs", f"it goes with include: [{LOGPROBS!r}]")
    return ChatRequest(
        model=asked.model,
        messages=_messages(asked),
        max_completion_tokens=asked.max_output_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        stream=asked.stream,
        stream_options=asked.stream_options,
        logprobs=logprobs or None,
        top_logprobs=asked.top_logprobs,
        response_format=_format(asked.text),
        tools=[_tool(each) for each in asked.tools] if asked.tools else None,
        tool_choice=_choice(asked.tool_choice),
    )


def _messages(asked: ResponseRequest) -> list[Message]:
    messages = [Message("system", asked.instructions)] if asked.instructions else []
    if isinstance(asked.input, str):
        return [*messages, Message("user", asked.input)]
    for index, item in enumerate(asked.input):
        _add(messages, f"input[{index}]", item)
    return messages


def _add(messages: list[Message], place: str, item: Item) -> None:
    """Add what an item says; calls belong to the message that they follow."""
    match item.type:
        case "message":
            if item.role is None or item.content is None:
                raise InvalidParameter.of(place, "a message has a role and content")
            messages.append(Message(item.role, _text(item.content)))
        case "function_call":
            if not item.name or item.arguments is None or not item.call_id:
                raise InvalidParameter.of(place, "a call has call_id, name and arguments")
            call = ToolCall(item.call_id, Called(item.name, item.arguments))
            if not messages or messages[-1].role != "assistant":
                messages.append(Message("assistant", tool_calls=[]))
            messages[-1].tool_calls = [*(messages[-1].tool_calls or ()), call]
        case "function_call_output":
            if item.output is None or not item.call_id:
                raise InvalidParameter.of(place, "what a call gave has call_id and output")
            messages.append(Message("tool", _text(item.output), tool_call_id=item.call_id))


def _text(content: str | list[TextPart]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _format(text: TextOptions | None) -> ResponseFormat | None:
    if text is None or text.format is None:
        return None
    wanted = text.format
    schema = JsonSchema(wanted.name, wanted.schema) if wanted.type == "json_schema" else None
    return ResponseFormat(wanted.type, schema)


def _tool(function: FlatFunction) -> Tool:
    return Tool("function", Function(function.name, function.description, function.parameters, function.strict))


def _choice(choice: str | FlatChoice | None) -> Any:
    return ToolChoice("function", FunctionName(choice.name)) if isinstance(choice, FlatChoice) else choice
