"""What the OpenAI API's clients send: every parameter with its type and bounds; nothing unknown passes.

https://platform.openai.com/docs/api-reference/chat and /completions. Parameters that only concern OpenAI's own platform
(``user``, ``metadata``, ``store``, ``service_tier`` ...) are taken and change nothing. ``top_k`` is not OpenAI's, but
known to most who serve its API.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeGuard, TypeVar

import msgspec

from mofang.base.domain.errors import InvalidParameter, InvalidRequest

_MOST_CHOICES = 16
_MOST_STOPS = 16

Temperature = Annotated[float, msgspec.Meta(ge=0, le=2)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
Tokens = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]
Choices = Annotated[int, msgspec.Meta(ge=1, le=_MOST_CHOICES)]
Seed = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
TokenId = Annotated[int, msgspec.Meta(ge=0, le=1 << 31)]
StopText = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Stops = StopText | Annotated[list[StopText], msgspec.Meta(max_length=_MOST_STOPS)] | None


class Part(msgspec.Struct, forbid_unknown_fields=True):
    """A part of a message; text is the only sort these models read."""

    type: Literal["text"]
    text: str


class Called(msgspec.Struct):
    """The function that a model called, and its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct):
    """A call of a function in a message of the assistant."""

    id: str
    function: Called
    type: Literal["function"] = "function"


class Message(msgspec.Struct):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """What a stream says besides."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class Function(msgspec.Struct):
    """A function that a model may call; ``parameters`` is a JSON schema."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, forbid_unknown_fields=True):
    """A tool; functions are the only sort."""

    type: Literal["function"]
    function: Function


class FunctionName(msgspec.Struct):
    """The name of a function."""

    name: str


class ToolChoice(msgspec.Struct, forbid_unknown_fields=True):
    """The one function to call."""

    type: Literal["function"]
    function: FunctionName


class JsonSchema(msgspec.Struct, forbid_unknown_fields=True):
    """A schema by name."""

    name: str
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, forbid_unknown_fields=True):
    """What the text has to be."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class Common(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What both sorts of completion take."""

    model: str
    max_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] | None = None
    n: Choices | None = None
    stop: Stops = None
    seed: Seed | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with what was used."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts at which to stop."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class ChatRequest(Common):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], msgspec.Meta(min_length=1, max_length=4096)]
    max_completion_tokens: Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], msgspec.Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    reasoning_effort: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    modalities: list[Literal["text"]] | None = None


class CompletionRequest(Common):
    """``POST /v1/completions``. A prompt is text or tokens; there may be several, of one sort."""

    prompt: str | Annotated[list[str | TokenId | list[TokenId]], msgspec.Meta(min_length=1)]
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """The prompts. Raises InvalidParameter."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if _all(self.prompt, int):
            return [self.prompt]
        if not (_all(self.prompt, str) or _all(self.prompt, list)):
            raise InvalidParameter.of("prompt", "it is a text, tokens, or a list of texts or of tokens")
        if len(self.prompt) > _MOST_CHOICES:
            raise InvalidParameter.of("prompt", f"there are more than {_MOST_CHOICES}")
        return self.prompt


T = TypeVar("T", bound=msgspec.Struct)
V = TypeVar("V")


def _all(values: list[Any], kind: type[V]) -> TypeGuard[list[V]]:
    return all(isinstance(value, kind) for value in values)


def parse(body: bytes, kind: type[T]) -> T:
    """Read a request; raise InvalidRequest for what is no JSON object, InvalidParameter for everything inside one."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise wrong(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the body is no JSON: {str(error)[:200]}", hint="send a JSON object") from None


def wrong(message: str) -> InvalidParameter | InvalidRequest:
    """Return the error of msgspec's sentence, which then begins with the parameter."""
    what, _, path = message.partition(" - at `")
    unknown = re.search(r"contains unknown field `(.*)`", what, re.DOTALL)
    missing = re.search(r"missing required field `(.*)`", what)
    place = path.rstrip("`").removeprefix("$").lstrip(".")[:100]
    if unknown:
        name = ".".join(filter(None, (place, unknown[1][:60])))
        return InvalidParameter.of(name, "this parameter is not known here")
    if missing:
        return InvalidParameter.of(".".join(filter(None, (place, missing[1]))), "this parameter is missing")
    if not place:
        return InvalidRequest(f"the body: {what}", hint="send a JSON object")
    return InvalidParameter.of(place, what[:1].lower() + what[1:300])
