"""Has vLLM compute a folder of safetensors: for servers with GPUs. Loaded through the catalog.

vLLM is started as a process of its own on the loopback, looked after, and asked over its OpenAI API with a key that
nobody else knows. It is not a dependency: the operator installs it, and may say how it is started (setting ``vllm``).
Its own chat template, its own counts.
"""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from mofang.base.domain.errors import EngineLoadFailed, InvalidSettings, MofangError, ReplicaUnavailable
from mofang.base.domain.generation import Profile
from mofang.base.engines.base import Options
from mofang.base.engines.causal import read_causal
from mofang.base.engines.child import Child
from mofang.base.engines.options import chosen as options_of
from mofang.base.engines.remote import ALTERNATIVES, Place, Remote

COMMAND = (
    "vllm serve {folder} --host 127.0.0.1 --port {port} --served-model-name {model} --max-num-seqs {slots}"
    " --enable-prompt-tokens-details"
)
"""How it is started, unless the operator says otherwise; with ``--max-model-len`` if a context is asked for."""
_MODEL = "model"


class VllmEngine(Remote):
    """A causal model of Hugging Face. Options: ``command``, the operator's, and see :mod:`.options`."""

    def __init__(self, folder: Path, options: Options) -> None:
        """Start the server, and wait until it answers. Raises InvalidModel, InvalidSettings or EngineLoadFailed."""
        about = read_causal(folder)
        told = {name: value for name, value in options.items() if name != "command"}
        asked = {name: int(value) for name, value in options_of("vllm", told).items()}
        command = str(options.get("command") or COMMAND)
        if "command" not in options or not options["command"]:
            command += f" --max-model-len {asked['context']}" if asked["context"] else ""
        super().__init__(_MODEL, asked["slots"])
        self._key = secrets.token_urlsafe(24)
        self._known: dict[str, Any] = {}  # what it says of its model
        self._child = Child(
            lambda port: _words(command, folder, port, asked), _environ(self._key), self._answers_on,
            float(asked["patience"]),
        )  # fmt: skip
        longest = int(self._known.get("max_model_len") or about.context_tokens)
        context = min(asked["context"] or longest, longest)
        self.profile = Profile(
            context_tokens=context,
            slots=asked["slots"],
            cache_tokens=asked["slots"] * context,
            chat_template=about.chat_template and "the server's own",
            constraints=("json", "schema"),
            alternatives=ALTERNATIVES,
        )

    @property
    def pid(self) -> int:
        """Of the server's process."""
        return self._child.pid

    def place(self) -> Place:
        """See :class:`Remote`. Raises ReplicaUnavailable while it is being started again."""
        if not self._child.port:
            raise ReplicaUnavailable("vLLM ended, and is being started again", retry_after_seconds=5)
        return Place(f"http://127.0.0.1:{self._child.port}/v1", self._key)

    def failure(self, why: str) -> MofangError:
        """See :class:`Remote`."""
        return ReplicaUnavailable(f"vLLM: {why}", retry_after_seconds=5)

    def close(self) -> None:
        """Hang up, and end the server."""
        super().close()
        self._child.close()

    def _answers_on(self, port: int) -> bool:
        """Tell whether it answers, and keep what it says of its model."""
        try:
            answer = httpx.get(
                f"http://127.0.0.1:{port}/v1/models", headers={"authorization": f"Bearer {self._key}"},
                timeout=5.0, trust_env=False,
            )  # fmt: skip
            if answer.status_code != 200:
                return False
            self._known = next(iter(answer.json()["data"]), {})
        except httpx.HTTPError:
            return False
        except (ValueError, KeyError, TypeError) as error:
            raise EngineLoadFailed(f"what answers is no server of the OpenAI API: {error!r}") from error
        return True


def _words(command: str, folder: Path, port: int, asked: Mapping[str, int]) -> Sequence[str]:
    known = {"folder": str(folder), "port": port, "model": _MODEL, "slots": asked["slots"], "context": asked["context"]}
    try:
        return [word.format(**known) for word in shlex.split(command)]
    except (ValueError, KeyError, IndexError) as error:
        raise InvalidSettings(
            f"the command of vLLM cannot be read: {error!r}", hint=f"it may name {', '.join(known)} in braces"
        ) from error


def _environ(key: str) -> dict[str, str]:
    """Return the environment of the server: ours, the key, and nothing fetched or told to anybody."""
    return {**os.environ, "VLLM_API_KEY": key, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
