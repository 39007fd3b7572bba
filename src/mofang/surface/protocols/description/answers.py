"""What the paths of inference answer, as JSON schemas: the fields a client may count on; others may be added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
COUNT: Json = {"type": "integer", "minimum": 0}
_FLAG: Json = {"type": "boolean"}
_NUMBER: Json = {"type": "number"}


def some(item: Json) -> Json:
    """Return the schema of a list."""
    return {"type": "array", "items": item}


def fields(_optional: Mapping[str, Json] | None = None, /, **required: Json) -> Json:
    """Return the schema of an object with these fields."""
    return {"type": "object", "properties": {**required, **(_optional or {})}, "required": [*required]}


def one_of(*words: str) -> Json:
    """Return the schema of a text that is one of these."""
    return {"type": "string", "enum": [*words]}


def _maybe(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


_TENSOR = fields(name=TEXT, datatype=TEXT, shape=some({"type": "integer", "minimum": -1}))
_DURATION = fields(count=COUNT, ns=COUNT)
_USAGE = fields(prompt_tokens=COUNT, total_tokens=COUNT)
_COMPLETION = {
    "id": TEXT, "created": COUNT, "model": TEXT, "system_fingerprint": TEXT,
    "usage": fields(prompt_tokens=COUNT, completion_tokens=COUNT, total_tokens=COUNT),
}  # fmt: skip
_FINISH = _maybe(one_of("stop", "length", "tool_calls", "content_filter"))
_MODEL = fields(id=TEXT, object=one_of("model"), created=COUNT, owned_by=TEXT, mofang={"type": "object"})
_STATISTICS = fields(
    name=TEXT, version=TEXT, last_inference=COUNT, inference_count=COUNT, execution_count=COUNT,
    inference_stats=fields(success=_DURATION, fail=_DURATION, queue=_DURATION, compute_infer=_DURATION),
    batch_stats=some(fields(batch_size=COUNT, compute_infer=_DURATION)),
)  # fmt: skip

ANSWERS: Mapping[str, Json] = {
    "Live": fields(live=_FLAG),
    "Ready": fields(ready=_FLAG),
    "Server": fields(name=TEXT, version=TEXT, extensions=some(TEXT)),
    "ModelReady": fields(name=TEXT, ready=_FLAG),
    "ModelMetadata": fields(
        name=TEXT, versions=some(TEXT), platform=TEXT, inputs=some(_TENSOR), outputs=some(_TENSOR)
    ),
    "Statistics": fields(model_stats=some(_STATISTICS)),
    "Index": some(fields(name=TEXT, version=TEXT, state=one_of("READY", "UNAVAILABLE"), reason=TEXT)),
    "Generated": fields({"id": TEXT, "details": {"type": "object"}}, text_output=TEXT, model_name=TEXT,
                        model_version=TEXT),
    "Regions": some(fields(name=TEXT, key=TEXT, offset=COUNT, byte_size=COUNT)),
    "Nothing": fields(),
    "Models": fields(object=one_of("list"), data=some(_MODEL)),
    "Model": _MODEL,
    "ChatCompletion": fields(
        object=one_of("chat.completion"),
        choices=some(fields(index=COUNT, message=fields(role=TEXT, content=_maybe(TEXT)), finish_reason=_FINISH)),
        **_COMPLETION,
    ),
    "Completion": fields(
        object=one_of("text_completion"), choices=some(fields(index=COUNT, text=TEXT, finish_reason=_FINISH)),
        **_COMPLETION,
    ),
    "Response": fields(
        id=TEXT, object=one_of("response"), status=one_of("completed", "incomplete"), model=TEXT,
        output=some(fields(type=TEXT)), usage=fields(input_tokens=COUNT, output_tokens=COUNT, total_tokens=COUNT),
    ),
    "AnthropicMessage": fields(
        id=TEXT, type=one_of("message"), role=one_of("assistant"), model=TEXT, content=some(fields(type=TEXT)),
        usage=fields(input_tokens=COUNT, output_tokens=COUNT),
    ),
    "Embeddings": fields(
        object=one_of("list"), model=TEXT, usage=_USAGE,
        data=some(fields(index=COUNT, embedding={"anyOf": [some(_NUMBER), TEXT]})),
    ),
    "Reranking": fields(model=TEXT, usage=_USAGE, results=some(fields(index=COUNT, relevance_score=_NUMBER))),
    "Moderation": fields(
        id=TEXT, model=TEXT,
        results=some(fields(flagged=_FLAG, categories={"type": "object"}, category_scores={"type": "object"})),
    ),
    "Transcription": fields(text=TEXT),
}  # fmt: skip
"""By the name of the schema."""

_OIP = fields(error=TEXT, code=TEXT, hint=TEXT)
ERRORS: Mapping[str, Json] = {
    "HealthError": {"anyOf": [_OIP, fields(ready=_FLAG)]},
    "OipError": _OIP,
    "OpenAiError": fields(error=fields(message=TEXT, type=TEXT, param=_maybe(TEXT), code=TEXT)),
    "AnthropicError": fields(type=one_of("error"), error=fields(type=TEXT, message=TEXT)),
}
"""How each family of paths says what was wrong."""
