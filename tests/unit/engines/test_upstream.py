"""A model of another server as one of ours: through our gateway to a second one over real HTTP, and back."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mofang.base.domain.errors import EngineLoadFailed, InvalidModel, InvalidSettings
from mofang.base.engines.catalog import load_generator
from stream_bench import Bench, events, read

TALK = [{"role": "user", "content": "«hello you»"}]
PROMPT = len("[user]«hello you»")


@pytest.fixture(scope="module")
def other() -> Iterator[tuple[str, str]]:
    """The URL and the key of another server that speaks the OpenAI API."""
    program = Path(__file__).parents[2] / "chat_server.py"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, str(program)], stdin=pipe, stdout=pipe, text=True) as running:
        assert running.stdout is not None
        port, key = running.stdout.readline().split()
        yield f"http://127.0.0.1:{port}/v1", key
        running.communicate("", timeout=20)


def artifact(folder: Path, **described: Any) -> Path:
    made = folder / "artifact"
    made.mkdir(exist_ok=True)
    (made / "upstream.json").write_text(json.dumps({"upstream": "other", "model": "smol", **described}))
    return made


def known(folder: Path, url: str, key: str) -> dict[str, str]:
    """Return the engine's options: the operator's file, with the key in another."""
    (folder / "key").write_text(key + "\n")
    file = folder / "upstreams.toml"
    file.write_text(f'[other]\nbase_url = "{url}"\nkey_file = "{folder / "key"}"\n')
    return {"file": str(file)}


def run(scenario: Callable[[Bench], Awaitable[None]], url: str, key: str, **described: Any) -> None:
    """Run ``scenario`` on a bench whose model is the other server's."""

    async def main() -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            speaker = load_generator("upstream", artifact(folder, **described), known(folder, url, key))
            bench = Bench(folder, speaker)
            await bench.start()
            try:
                await scenario(bench)
            finally:
                await bench.close()

    asyncio.run(main())


def chat(bench: Bench, **body: Any) -> Any:
    return bench.ask("/v1/chat/completions", **{"model": "smol", "messages": TALK, **body})


def test_it_answers_as_the_other_and_is_metered_by_its_counts(other: tuple[str, str]) -> None:
    async def scenario(bench: Bench) -> None:
        answer = read(await chat(bench))
        assert answer["choices"][0]["message"]["content"] == "hello you"
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (PROMPT, 9)
        told = await events(await chat(bench, stream=True, stream_options={"include_usage": True}))
        text = "".join(each["choices"][0]["delta"].get("content", "") for each in told[:-1] if each["choices"])
        assert text == "hello you"
        assert told[-2]["usage"] == answer["usage"]
        cut = read(await chat(bench, max_tokens=3))
        assert (cut["choices"][0]["message"]["content"], cut["choices"][0]["finish_reason"]) == ("hel", "length")
        assert [r.quantities["input_tokens"] for r in bench.records] == [PROMPT] * 3
        assert [r.quantities["output_tokens"] for r in bench.records] == [9, 9, 3]
        assert {r.source for r in bench.records} == {"engine"}

    run(scenario, *other)


def test_all_that_is_asked_goes_on_to_it(other: tuple[str, str]) -> None:
    async def scenario(bench: Bench) -> None:
        answer = read(await chat(bench, stop=["lo"], logprobs=True, top_logprobs=1, seed=1, presence_penalty=1))
        [choice] = answer["choices"]
        assert choice["message"]["content"] == "hel"
        first = choice["logprobs"]["content"][0]
        assert (first["token"], first["top_logprobs"][0]["token"]) == ("h", "x")
        plain = read(await bench.ask("/v1/completions", model="smol", prompt=["«ab»", "«cd»"], logprobs=1))
        assert [each["text"] for each in plain["choices"]] == ["ab", "cd"]
        assert plain["usage"]["prompt_tokens"] == 8
        assert plain["choices"][0]["logprobs"]["tokens"] == ["a", "b"]
        called = '{"name": "weather", "arguments": {"city": "Paris"}}'
        tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
        messages = [{"role": "user", "content": f"«{called}»"}]
        refused = await chat(bench, messages=messages, tools=[tool])  # the other's template knows no tools
        assert (refused.status, read(refused)["error"]["code"]) == (400, "upstream.refused")

    run(scenario, *other)


def test_its_refusals_are_told_as_what_they_are(other: tuple[str, str]) -> None:
    async def scenario(bench: Bench) -> None:
        for body, code in (({"messages": [{"role": "user", "content": "x" * 4000}]}, "upstream.refused"),
                           ({"top_p": 0.5}, "upstream.refused")):  # fmt: skip
            reply = await chat(bench, **body)
            assert (reply.status, read(reply)["error"]["code"]) == (400, code)
        tokens = await bench.ask("/v1/completions", model="smol", prompt=[1, 2])
        assert (tokens.status, read(tokens)["error"]["param"]) == (400, "prompt")
        long = await chat(bench, messages=[{"role": "user", "content": "x" * 100_000}])
        assert (long.status, read(long)["error"]["code"]) == (400, "generate.prompt_too_long")
        assert bench.records == []

    run(scenario, *other, context_tokens=20_000)


def test_a_key_or_a_model_it_does_not_know_is_the_operator_s_to_mend(other: tuple[str, str]) -> None:
    async def scenario(bench: Bench) -> None:
        reply = await chat(bench)
        assert (reply.status, read(reply)["error"]["code"]) == (503, "upstream.failed")
        assert "operator" in read(reply)["error"]["message"]
        assert bench.records == []

    run(scenario, other[0], "mf_wrong")
    run(scenario, *other, model="nope")
    run(scenario_gone, "http://127.0.0.1:9/v1", "x")


async def scenario_gone(bench: Bench) -> None:
    reply = await chat(bench)
    assert (reply.status, read(reply)["error"]["code"]) == (503, "upstream.failed")


def test_a_client_who_leaves_pays_for_what_came_and_the_other_is_left(other: tuple[str, str]) -> None:
    async def scenario(bench: Bench) -> None:
        text = "«" + "long" * 300 + "»"
        reply: Any = await chat(bench, messages=[{"role": "user", "content": text}], stream=True)
        seen = 0
        async for piece in reply.chunks:
            seen += piece.count(b'"content":"')
            if seen > 5:
                break
        await reply.chunks.aclose()
        [record] = bench.records
        assert 0 < record.quantities["output_tokens"] < 1200
        assert record.quantities["input_tokens"] > 200  # guessed by the length: the other never told
        assert record.source == "estimated"
        assert read(await chat(bench))["usage"]["completion_tokens"] == 9

    run(scenario, *other)


@contextmanager
def serving(answers: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve; give the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), answers)
    running = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    running.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        running.join()


class Rough(BaseHTTPRequestHandler):
    """A server that answers as ``script`` says: a status, header fields, and lines."""

    script: tuple[int, dict[str, str], bytes] = (200, {}, b"")

    def do_POST(self) -> None:
        status, headers, body = self.script
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Breaking(Rough):
    """Says half of it, and breaks off when it is told to."""

    go_on: threading.Event

    def do_POST(self) -> None:
        super().do_POST()
        assert self.go_on.wait(30)
        self.wfile.write(b'data: {"error": {"message": "lost"}}\n\n')


def piece(**choice: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, **choice}]}).encode() + b"\n\n"


NONSENSE = b'data: {"choices": [], "usage": {"prompt_tokens": -5, "completion_tokens": "many"}}\n\n'
HALF = piece(delta={"content": "ha"})
CALL = piece(delta={"tool_calls": [{"index": 0, "function": {"name": "weather", "arguments": '{"a"'}}]}) + piece(
    delta={"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}, finish_reason="tool_calls"
)


@pytest.mark.parametrize(
    ("script", "status", "told"),
    [
        ((429, {"retry-after": "7"}, b"{}"), 429, "too many"),
        ((500, {}, b"oops"), 503, "upstream.failed"),
        ((200, {}, HALF), 503, "upstream.failed"),  # it ends in the middle
        ((200, {}, HALF + b'data: {"error": {"message": "lost"}}\n\n'), 503, "upstream.failed"),
        ((200, {}, b"data: {broken\n\n"), 500, "engine.failed"),
        ((200, {}, HALF + piece(delta={}, finish_reason="stop") + b"data: [DONE]\n\n"), 200, "ha"),
        ((200, {}, HALF + piece(finish_reason="stop") + NONSENSE + b"data: [DONE]\n\n"), 200, "ha"),
        ((200, {}, CALL + b"data: [DONE]\n\n"), 200, "weather"),
    ],
)
def test_whatever_it_does_is_an_answer(script: Any, status: int, told: str) -> None:
    async def scenario(bench: Bench) -> None:
        tool = {"type": "function", "function": {"name": "weather"}}
        reply = await chat(bench, tools=[tool])
        assert reply.status == status, read(reply)
        if status == 429:
            assert ("retry-after", "7") in reply.headers
        else:
            assert told in reply.body.decode()
        if told == "weather":
            [call] = read(reply)["choices"][0]["message"]["tool_calls"]
            assert json.loads(call["function"]["arguments"]) == {"a": 1}
        for record in bench.records:  # of those that were answered; nobody counted
            assert record.source == "estimated"
            assert record.quantities["output_tokens"] > 0
            assert record.quantities["input_tokens"] == len(TALK[0]["content"]) // 4 + 1

    with serving(type("Scripted", (Rough,), {"script": script})) as url:
        run(scenario, url, "k")


def test_what_was_said_before_it_broke_off_is_told_and_billed() -> None:
    go_on = threading.Event()

    async def scenario(bench: Bench) -> None:
        reply = await chat(bench, stream=True)
        said = b""
        async for piece in reply.chunks:
            said += piece
            if b'"content":"ha"' in said:
                go_on.set()
        assert b'"code":"upstream.failed"' in said
        assert b"DONE" not in said
        [record] = bench.records
        assert (record.quantities["output_tokens"], record.source) == (1, "estimated")

    with serving(type("Scripted", (Breaking,), {"script": (200, {}, HALF), "go_on": go_on})) as url:
        run(scenario, url, "k")


def test_what_nobody_knows_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    options = known(tmp_path, "http://127.0.0.1:9/v1", "x")
    with pytest.raises(EngineLoadFailed, match="no upstream is called 'nope'"):
        load_generator("upstream", artifact(tmp_path, upstream="nope"), options)
    with pytest.raises(InvalidSettings, match="no upstreams"):
        load_generator("upstream", artifact(tmp_path), {})
    with pytest.raises(InvalidModel, match="base_url"):
        load_generator("upstream", artifact(tmp_path, base_url="http://evil"), options)
    (tmp_path / "key").unlink()
    with pytest.raises(EngineLoadFailed, match="key"):
        load_generator("upstream", artifact(tmp_path), options)
    Path(options["file"]).write_text('[other]\nbase_url = "file:///etc/passwd"\n')
    with pytest.raises(InvalidSettings, match="cannot be read"):
        load_generator("upstream", artifact(tmp_path), options)
