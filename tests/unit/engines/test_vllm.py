"""The engine ``vllm``: a server of the OpenAI API that is started, looked after, asked, and ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mofang.base.domain.errors import EngineLoadFailed, InvalidModel, InvalidSettings
from mofang.base.engines.catalog import load_generator
from mofang.base.engines.vllm import VllmEngine
from stream_bench import Bench, events, read

PROGRAM = Path(__file__).parents[2] / "openai_child.py"
COMMAND = f"{sys.executable} {PROGRAM} {{port}}"
TALK = [{"role": "user", "content": "«hello you»"}]


def folder_of(parent: Path, **config: Any) -> Path:
    folder = parent / "model"
    folder.mkdir(exist_ok=True)
    about = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 4096, **config}
    (folder / "config.json").write_text(json.dumps(about))
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    for name in ("tokenizer.json", "model.safetensors"):
        (folder / name).write_text("{}")
    return folder


def run(scenario: Callable[[Bench, VllmEngine], Awaitable[None]]) -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as name:
            engine = load_generator("vllm", folder_of(Path(name)), {"command": COMMAND, "patience": 60})
            assert isinstance(engine, VllmEngine)
            bench = Bench(Path(name), engine)
            await bench.start()
            try:
                await scenario(bench, engine)
            finally:
                await bench.close()
            with pytest.raises(ProcessLookupError):
                os.kill(engine.pid, 0)

    asyncio.run(main())


def chat(bench: Bench, **body: Any) -> Any:
    return bench.ask("/v1/chat/completions", **{"model": "smol", "messages": TALK, **body})


def test_it_is_started_asked_metered_and_ended() -> None:
    async def scenario(bench: Bench, engine: VllmEngine) -> None:
        assert engine.profile.context_tokens == 2000  # what the server says, not the folder
        answer = read(await chat(bench))
        assert answer["choices"][0]["message"]["content"] == "hello you"
        told = await events(await chat(bench, stream=True, stream_options={"include_usage": True}))
        assert told[-2]["usage"] == answer["usage"]
        assert [record.quantities["output_tokens"] for record in bench.records] == [9, 9]

    run(scenario)


def test_what_it_started_ends_when_it_dies(tmp_path: Path) -> None:
    helper = tmp_path / "helper"
    command = f"sh -c 'sleep 987 & echo $! >{helper}; exec {COMMAND}'"
    engine = load_generator("vllm", folder_of(tmp_path), {"command": command, "patience": 60})
    assert isinstance(engine, VllmEngine)
    try:
        number = helper.read_text().strip()
        assert "sleep" in Path(f"/proc/{number}/cmdline").read_text()
        os.kill(engine.pid, signal.SIGKILL)
        until = time.monotonic() + 60
        while Path(f"/proc/{number}/cmdline").exists() and Path(f"/proc/{number}/cmdline").read_text():
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        engine.close()


def test_when_it_dies_its_streams_fail_and_it_is_started_again() -> None:
    async def scenario(bench: Bench, engine: VllmEngine) -> None:
        text = "«" + "long" * 300 + "»"
        reply = await chat(bench, messages=[{"role": "user", "content": text}], stream=True)
        said, before, killed = b"", engine.pid, False
        async for piece in reply.chunks:
            said += piece
            if said.count(b'"content":"') > 5 and not killed:
                os.kill(before, signal.SIGKILL)
                killed = True
        assert b'"code":"replica.unavailable"' in said
        assert bench.records[0].quantities["output_tokens"] > 0  # what was said is paid
        refused = await chat(bench)
        assert (refused.status, read(refused)["error"]["code"]) == (503, "replica.unavailable")
        assert ("retry-after", "5") in refused.headers
        until = time.monotonic() + 60
        while (answer := await chat(bench)).status != 200:
            assert time.monotonic() < until
            await asyncio.sleep(0.2)
        assert read(answer)["choices"][0]["message"]["content"] == "hello you"
        assert engine.pid != before

    run(scenario)


@pytest.mark.parametrize(
    ("command", "error", "told"),
    [
        (COMMAND + " --fail", EngineLoadFailed, "ended with status 7"),
        ("/nonexistent/vllm serve", EngineLoadFailed, "cannot be started"),
        ("vllm {colour}", InvalidSettings, "colour"),
    ],
)
def test_what_cannot_be_started_is_told(tmp_path: Path, command: str, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        load_generator("vllm", folder_of(tmp_path), {"command": command})


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(EngineLoadFailed, match="after 1 s"):
        load_generator("vllm", folder_of(tmp_path), {"command": "sleep 60", "patience": 1})


def test_a_model_with_a_program_of_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="program"):
        load_generator("vllm", folder_of(tmp_path, auto_map={"AutoModel": "x.Y"}), {"command": COMMAND})
