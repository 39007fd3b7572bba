"""How text is asked for under the Open Inference Protocol, over REST and gRPC alike."""

from __future__ import annotations

from typing import Annotated

import msgspec

from mofang.base.domain.generation import Delta, Sampling

TEXT_TIMEOUT_SECONDS = 600.0
"""For callers who name no deadline: text takes its time."""
_USUAL_TOKENS = 256


class Parameters(msgspec.Struct, forbid_unknown_fields=True):
    """How to generate."""

    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] = 1.0
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    top_k: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] = 0
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=1 << 24)] = _USUAL_TOKENS
    stop: Annotated[list[Annotated[str, msgspec.Meta(min_length=1, max_length=256)]], msgspec.Meta(max_length=16)] = []
    seed: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    details: bool = False

    @property
    def sampling(self) -> Sampling:
        """What the engine is told."""
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            seed=self.seed,
            stop=tuple(self.stop),
            logprobs=0 if self.details else None,
        )


def finish_reason(last: Delta) -> str | None:
    """Return why a text ended, as the protocol says it; None while it goes on."""
    if last.stopped_at:
        return "stop_sequence"
    return {"stop": "eos_token", "length": "length"}.get(last.finish)
