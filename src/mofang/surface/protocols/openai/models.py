"""How an endpoint looks as a model of the API: OpenAI's fields, Anthropic's, and what both leave out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from mofang.base.domain.deployment import Revision
from mofang.base.domain.generation import Profile
from mofang.surface.protocols.openai.audio import hears
from mofang.surface.protocols.openai.embeddings import embeds
from mofang.surface.protocols.openai.moderations import moderates


def describe(revision: Revision, profile: Profile | None) -> dict[str, Any]:
    """Return the entry of ``/v1/models``; ``profile`` is that of a language model that can answer."""
    name = f"{revision.endpoint}:{revision.adapter}" if revision.adapter else revision.endpoint
    parent = {"parent": revision.endpoint} if revision.adapter else {}
    return (
        parent
        | {
            "id": name,
            "object": "model",
            "created": revision.created_at // 1_000_000,
            "owned_by": "mofang",
            "type": "model",
            "display_name": name,
            "created_at": datetime.fromtimestamp(revision.created_at / 1_000_000, UTC).isoformat(timespec="seconds"),
            "mofang": {
                "model": revision.model,
                "version": revision.version,
                "revision": revision.number,
                "digest": revision.digest,
                "engine": revision.engine,
                "paths": _paths(revision, profile),
            },
        }
        | (_bounds(profile) if profile is not None else {})
    )


def _bounds(profile: Profile) -> dict[str, Any]:
    return {"max_model_len": profile.context_tokens, "max_input_tokens": profile.context_tokens - 1}


def _paths(revision: Revision, profile: Profile | None) -> list[str]:
    """Return where the model is asked."""
    signature = revision.signature
    if embeds(signature):
        return ["/v1/embeddings", "/v1/rerank"]
    if moderates(revision):
        return ["/v1/moderations"]
    if hears(signature):
        return ["/v1/audio/transcriptions", "/v1/audio/translations"]
    if profile is None:
        return []
    talks = ["/v1/chat/completions", "/v1/responses", "/v1/messages"] if profile.chat_template else []
    return [*talks, "/v1/completions"]
