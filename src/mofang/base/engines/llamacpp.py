"""Computes language models with llama.cpp, through xllamacpp. Loaded through the catalog.

The second engine for GGUF files: it knows more architectures and more processors than OpenVINO, loads in a second,
tells alternatives to tokens and what was cached, and is slower where many streams are computed at once. The library
computes in threads of its own and calls back with every token; ``step`` collects what came. It always opens a port on
the loopback; a key that nobody knows keeps everybody out of it but this engine, which counts tokens there.

Each LoRA adapter has a server of its own over the same mapped file. One server could change adapters by request, but
then streams of different adapters wait until all of another have ended.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import threading
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import xllamacpp

from mofang.base.domain.errors import (
    EngineFailed,
    EngineLoadFailed,
    InvalidModel,
    InvalidParameter,
    MofangError,
    PromptTooLong,
)
from mofang.base.domain.generation import Chosen, Delta, Finish, Profile, Sampling
from mofang.base.engines.adapters import INSIDE
from mofang.base.engines.base import Options
from mofang.base.engines.gguf import Gguf, read_gguf
from mofang.base.engines.ggufadapter import file_of
from mofang.base.engines.inbox import Inbox
from mofang.base.engines.options import chosen as options_of

_CONTEXT_TOKENS = 4096  # of a model that does not say
_LONGEST = 64  # bytes of a token, about, at most: a text of more of them for each token of the context is too long
_MOST_ALTERNATIVES = 20


class LlamaCppEngine:
    """A ``*.gguf`` file in a llama.cpp server without a client, and one more for each adapter.

    Options: see :mod:`.options`; the cache is shared out among the servers, and among their slots. An adapter in a
    folder ``adapter`` is laid over the file where a stream names none.
    """

    def __init__(self, folder: Path, options: Options, adapters: Mapping[str, Path] = MappingProxyType({})) -> None:
        """Load the model, and ``adapters`` by name from their folders.

        Raises EngineLoadFailed, InvalidOption, or InvalidModel for a damaged file.
        """
        chosen = {name: int(value) for name, value in options_of("llamacpp", options).items()}
        files = sorted(folder.glob("*.gguf"))
        if len(files) != 1:
            raise InvalidModel(f"the artifact has {len(files)} .gguf files, one is needed")
        about = read_gguf(files[0])
        chosen["cache_mb"] //= 1 + len(adapters)
        context = about.context_length or _CONTEXT_TOKENS
        fitting = (chosen["cache_mb"] << 20) // _token_bytes(about) // chosen["slots"]
        context = min(chosen["context"] or context, context, fitting)
        self._key = secrets.token_urlsafe(24)
        own = folder / INSIDE
        laid = {"": own if own.is_dir() else None, **adapters}
        self._servers = {
            name: self._serve(self._parameters(files[0], chosen, context), about, adapter)
            for name, adapter in laid.items()
        }
        self._address = urlsplit(self._servers[""].listening_address)
        words = self._ask("GET", "/props", None)
        self.profile = Profile(
            context_tokens=context,
            slots=chosen["slots"],
            cache_tokens=context * chosen["slots"],
            chat_template=about.chat_template,
            bos=str(words.get("bos_token", "")),
            eos=str(words.get("eos_token", "")),
            constraints=("json", "schema"),
            alternatives=_MOST_ALTERNATIVES,
            vocabulary=about.vocabulary,
            adapters=tuple(adapters),
        )
        self._inbox: Inbox[_Stream, Mapping[str, Any] | None] = Inbox()  # what the library says; None: it has ended

    def encode(self, text: str, *, opening: bool = False) -> Sequence[int]:
        """See :meth:`GenerativeEngine.encode`."""
        most = self.profile.context_tokens - 1
        if len(text) > most * _LONGEST:
            raise _too_long(most)
        body = {"content": text, "add_special": opening, "parse_special": True}
        tokens: list[int] = self._ask("POST", "/tokenize", body)["tokens"]
        if len(tokens) > most:
            raise _too_long(most)
        return tokens

    def add(self, number: int, prompt: Sequence[int], sampling: Sampling) -> None:
        """See :meth:`GenerativeEngine.add`."""
        room = self.profile.context_tokens - len(prompt)
        body = _body(prompt, sampling, min(sampling.max_tokens or room, room))
        stream = _Stream(sampling)
        self._inbox.streams[number] = stream
        threading.Thread(
            target=self._compute, args=(number, stream, body), name=f"stream {number}", daemon=True
        ).start()

    def cancel(self, number: int) -> None:
        """See :meth:`GenerativeEngine.cancel`. The library looks when the next token is there."""
        self._inbox.cancel(number)

    def step(self) -> tuple[list[Delta], dict[int, MofangError]]:
        """See :meth:`GenerativeEngine.step`."""
        deltas: list[Delta] = []
        failures: dict[int, MofangError] = {}
        for number, event in self._inbox.take():
            stream = self._inbox.streams.get(number)
            if stream is None:
                continue  # cancelled meanwhile
            if event is None:
                failure: MofangError | None = EngineFailed("llama.cpp ended the stream without a word")
                found = None
            else:
                found, failure = stream.read(number, event)
            if found is not None:
                deltas.append(found)
            if failure is not None:
                failures[number] = failure
            if failure is not None or (found is not None and found.finish):
                del self._inbox.streams[number]
        return deltas, failures

    def close(self) -> None:
        """Let go of the server; the streams it still has end with it."""
        self._inbox.cancel_all()
        self._servers.clear()

    def _compute(self, number: int, stream: _Stream, body: Mapping[str, Any]) -> None:
        """Have a stream computed, in a thread of its own; an error in the callback would end it silently."""

        def told(event: Mapping[str, Any]) -> bool:
            self._inbox.put(number, event)
            return stream.cancelled

        try:
            self._servers[stream.sampling.adapter].handle_completions(dict(body), told)
        except Exception as error:  # whatever it is, the stream's owner has to know
            self._inbox.put(number, {"error": {"message": str(error)}})
        self._inbox.put(number, None)

    def _serve(self, params: Any, about: Gguf, adapter: Path | None) -> Any:
        """Start a server, over whose model an adapter is laid if there is one."""
        with tempfile.TemporaryDirectory() as room:  # the library reads an adapter once, and keeps it
            if adapter is not None:
                file = file_of(adapter, about, Path(room))
                params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(file), 1.0)]
            try:
                return xllamacpp.Server(params)
            except Exception as error:  # the library raises RuntimeError for everything
                what = "the adapter" if adapter is not None else "the model"
                raise EngineLoadFailed(f"llama.cpp cannot load {what}: {error}") from error

    def _parameters(self, path: Path, chosen: Mapping[str, int], context: int) -> Any:
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_parallel, params.n_ctx = chosen["slots"], chosen["slots"] * context
        params.cont_batching = params.cache_prompt = params.check_tensors = True
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = chosen["threads"] or len(
            os.sched_getaffinity(0)
        )
        params.cache_ram_mib = chosen["cache_mb"]  # of prompts whose slot was taken by others
        params.api_keys, params.verbosity = [self._key], -1
        return params

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        wire = HTTPConnection(self._address.hostname or "127.0.0.1", self._address.port, timeout=30)
        try:
            headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
            wire.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer: dict[str, Any] = json.loads(wire.getresponse().read())
        except OSError as error:
            raise EngineFailed(f"llama.cpp does not answer: {error}") from error
        finally:
            wire.close()
        if "error" in answer:
            raise EngineFailed(f"llama.cpp: {answer['error']}")
        return answer


class _Stream:
    """What is kept of a stream."""

    __slots__ = ("cancelled", "finish", "sampling", "tokens")

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self.tokens = 0  # told so far
        self.cancelled = False
        self.finish: Finish = ""

    def read(self, number: int, event: Mapping[str, Any]) -> tuple[Delta | None, MofangError | None]:
        """Turn what the library said into a delta, or an error."""
        if "choices" not in event:
            said = event.get("error", event)
            message = str(said.get("message", said) if isinstance(said, Mapping) else said)[:300]
            if self.sampling.constraint and not self.tokens:
                return None, InvalidParameter.of("response_format", f"the engine cannot keep to it: {message}")
            return None, EngineFailed(f"llama.cpp: {message}")
        choice = event["choices"][0]
        finish: Finish = choice.get("finish_reason") or ""
        usage = event.get("usage") or {}
        said_tokens = int(usage.get("completion_tokens") or (event.get("timings") or {}).get("predicted_n") or 0)
        tokens, self.tokens = max(0, said_tokens - self.tokens), max(said_tokens, self.tokens)
        cached = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
        chosen = tuple(map(_chosen, (choice.get("logprobs") or {}).get("content") or ()))
        return Delta(number, choice.get("text") or "", tokens, finish, chosen, cached), None


def _body(prompt: Sequence[int], sampling: Sampling, max_tokens: int) -> dict[str, Any]:
    body: dict[str, Any] = {
        "prompt": list(prompt),
        "n_predict": max_tokens,
        "stream": True,
        "timings_per_token": True,
        "cache_prompt": True,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": 0.0,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "seed": -1 if sampling.seed is None else sampling.seed % 2**31,
    }
    if sampling.logprobs is not None:
        body["n_probs"] = max(1, sampling.logprobs)
    if sampling.constraint is not None:
        kind, text = sampling.constraint.kind, sampling.constraint.text
        body["json_schema"] = {"type": "object"} if kind == "json" else json.loads(text)
    return body


def _chosen(token: Mapping[str, Any]) -> Chosen:
    top = tuple((bytes(each["bytes"]), float(each["logprob"])) for each in token.get("top_logprobs") or ())
    return Chosen(bytes(token["bytes"]), float(token["logprob"]), top)


def _token_bytes(about: Gguf) -> int:
    """Return the bytes of one token's keys and values, two each."""

    def number(name: str, otherwise: int) -> int:
        value = about.metadata.get(f"{about.architecture}.{name}")
        return value if isinstance(value, int) and value > 0 else otherwise

    heads = number("attention.head_count", 32)
    size = number("embedding_length", 4096) // heads
    return number("block_count", 32) * number("attention.head_count_kv", heads) * size * 4


def _too_long(most: int) -> PromptTooLong:
    return PromptTooLong(f"the prompt has more than {most:,} tokens, the context of this model")
