"""``POST /v1/messages``: what clients of Anthropic's Messages API send, as a conversation of ours.

https://docs.anthropic.com/en/api/messages. It stands beside OpenAI's paths under ``/v1``, since its clients ask there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from mofang.base.domain.errors import InvalidParameter
from mofang.surface.protocols.openai.requests import (
    Called,
    ChatRequest,
    Function,
    FunctionName,
    Message,
    Share,
    Stops,
    Tokens,
    Tool,
    ToolCall,
    ToolChoice,
)


class TextBlock(msgspec.Struct, tag="text", tag_field="type"):
    """Text."""

    text: str


class ToolUse(msgspec.Struct, tag="tool_use", tag_field="type"):
    """The call of a tool by the model."""

    id: str
    name: str
    input: dict[str, Any]


class ToolResult(msgspec.Struct, tag="tool_result", tag_field="type"):
    """What a tool gave."""

    tool_use_id: str
    content: str | list[TextBlock] = ""
    is_error: bool | None = None


class Turn(msgspec.Struct, forbid_unknown_fields=True):
    """One message."""

    role: Literal["user", "assistant", "system"]
    content: str | list[TextBlock | ToolUse | ToolResult]


class UsableTool(msgspec.Struct):
    """A tool, with a JSON schema of what it takes."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    input_schema: dict[str, Any]
    description: str | None = None
    type: Literal["custom"] | None = None


class ToolWish(msgspec.Struct, forbid_unknown_fields=True):
    """Which tool is to be used."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct):
    """Thinking aloud, which models here do not do apart."""

    type: Literal["disabled"]


class MessageRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """``POST /v1/messages``."""

    model: str
    max_tokens: Tokens
    messages: Annotated[list[Turn], msgspec.Meta(min_length=1, max_length=4096)]
    system: str | list[TextBlock] | None = None
    stop_sequences: Stops = None
    stream: bool | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_p: Share | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] | None = None
    tools: Annotated[list[UsableTool], msgspec.Meta(max_length=128)] | None = None
    tool_choice: ToolWish | None = None
    metadata: dict[str, Any] | None = None
    thinking: Thinking | None = None
    service_tier: str | None = None
    cache_control: dict[str, Any] | None = None


def chat_of(asked: MessageRequest) -> ChatRequest:
    """Return the same as a request for a chat completion. Raises InvalidParameter."""
    messages = [Message("system", _text(asked.system))] if asked.system else []
    for index, turn in enumerate(asked.messages):
        messages += _messages(f"messages[{index}]", turn)
    return ChatRequest(
        model=asked.model,
        messages=messages,
        max_completion_tokens=asked.max_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k,
        stop=asked.stop_sequences,
        stream=asked.stream,
        tools=[_tool(each) for each in asked.tools] if asked.tools else None,
        tool_choice=_choice(asked.tool_choice),
    )


def _messages(place: str, turn: Turn) -> list[Message]:
    """Return a turn as templates know it: what tools gave are messages of their own."""
    if isinstance(turn.content, str):
        return [Message(turn.role, turn.content)]
    messages: list[Message] = []
    texts: list[str] = []
    calls: list[ToolCall] = []
    for index, block in enumerate(turn.content):
        if isinstance(block, TextBlock):
            texts.append(block.text)
        elif isinstance(block, ToolUse) and turn.role == "assistant":
            arguments = msgspec.json.encode(block.input).decode()
            calls.append(ToolCall(block.id, Called(block.name, arguments)))
        elif isinstance(block, ToolResult) and turn.role == "user":
            messages.append(Message("tool", _text(block.content), tool_call_id=block.tool_use_id))
        else:
            raise InvalidParameter.of(f"{place}.content[{index}]", f"it is no part of what a {turn.role!r} says")
    if texts or calls or not messages:
        messages.append(Message(turn.role, "".join(texts), tool_calls=calls or None))
    return messages


def _text(content: str | list[TextBlock]) -> str:
    return content if isinstance(content, str) else "".join(block.text for block in content)


def _tool(tool: UsableTool) -> Tool:
    return Tool("function", Function(tool.name, tool.description, tool.input_schema))


_CHOICES: Mapping[str, Literal["auto", "required", "none"]] = {"auto": "auto", "any": "required", "none": "none"}


def _choice(wish: ToolWish | None) -> Literal["auto", "required", "none"] | ToolChoice | None:
    if wish is None:
        return None
    if wish.type != "tool":
        return _CHOICES[wish.type]
    if not wish.name:
        raise InvalidParameter.of("tool_choice.name", "this parameter is missing")
    return ToolChoice("function", FunctionName(wish.name))
