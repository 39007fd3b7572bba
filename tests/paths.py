"""The paths of inference over REST, read from the code that takes them apart."""

from __future__ import annotations

import ast
from itertools import product
from pathlib import Path

from mofang.surface.protocols.oip import looks, memory
from mofang.surface.protocols.oip import rest as oip
from mofang.surface.protocols.oip.generate import is_generate
from mofang.surface.protocols.openai.rest import OpenAi


def paths_in_code() -> set[str]:
    """Return the paths that the protocols take apart: cases of OIP's dispatch, keys of OpenAI's, and generation."""
    found = {f"/v1/{name}" for name in OpenAi._answers} | {"/v1/models", "/v1/models/M"}
    found |= {f"/v2/models/M/{name}" for name in ("generate", "generate_stream") if is_generate(f"/v2/models/M/{name}")}
    for module, prefix in ((oip, "/v2"), (looks, "/v2"), (memory, "/v2/systemsharedmemory")):
        for case in ast.walk(ast.parse(Path(module.__file__).read_text())):
            if isinstance(case, ast.match_case) and isinstance(case.pattern, ast.MatchSequence):
                words = [*map(_words, case.pattern.patterns)]
                if words[:1] != [[""]] and [] not in words:  # no whole paths, and no rests that others take apart
                    found |= {"/".join([prefix, *path]) for path in product(*words)}
    return {path.replace("/versions/M", "") for path in found}


def _words(pattern: ast.pattern) -> list[str]:
    """Return what a part of a path may be; M for a name."""
    if isinstance(pattern, ast.MatchOr):
        return [word for each in pattern.patterns for word in _words(each)]
    if isinstance(pattern, ast.MatchValue) and isinstance(pattern.value, ast.Constant):
        return [str(pattern.value.value)]
    return [] if isinstance(pattern, ast.MatchStar) else ["M"]
