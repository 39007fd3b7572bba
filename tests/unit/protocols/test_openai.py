"""The OpenAI API over a scripted model: shapes, parameters, errors, metering, cancelling."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from mofang.base.domain.errors import StorageFull
from stream_bench import Bench, events, read, run

HI = [{"role": "user", "content": "«hello you»"}]
KNOWS_TOOLS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if tools %}{% endif %}"
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def test_a_chat_is_answered_whole_and_billed_once() -> None:
    async def scenario(bench: Bench) -> None:
        answer = read(await bench.ask("/v1/chat/completions", model="smol", messages=HI))
        assert answer["object"] == "chat.completion"
        assert answer["choices"] == [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hello you", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ]
        prompt = len("[user]«hello you»")
        assert answer["usage"] == {
            "prompt_tokens": prompt,
            "completion_tokens": 9,
            "total_tokens": prompt + 9,
            "prompt_tokens_details": {"cached_tokens": 0},
        }
        [record] = bench.records
        assert (record.tenant, record.digest, record.outcome) == ("acme", "sha256:abc", "ok")
        used = {"requests": 1, "input_tokens": prompt, "output_tokens": 9, "cached_tokens": 0, "output_bytes": 9}
        assert used.items() <= record.quantities.items()
        assert bench.observed == [("smol", "ok")]
        assert bench.fleet.in_flight == 0

    run(scenario)


def test_a_stream_says_the_same_piece_by_piece() -> None:
    async def scenario(bench: Bench) -> None:
        reply = await bench.ask(
            "/v1/chat/completions", model="smol", messages=HI, stream=True, stream_options={"include_usage": True}
        )
        *chunks, usage, done = await events(reply)
        assert done == "[DONE]"
        assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "hello you"
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
        assert len({chunk["id"] for chunk in [*chunks, usage]}) == 1
        assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 9)
        assert all(chunk["usage"] is None for chunk in chunks)
        assert len(bench.records) == 1

    run(scenario)


def test_completions_have_prompts_choices_and_logprobs() -> None:
    async def scenario(bench: Bench) -> None:
        answer = read(
            await bench.ask("/v1/completions", model="smol", prompt=["«ab»", "«cd»"], n=2, seed=1, logprobs=1)
        )
        assert answer["object"] == "text_completion"
        assert [choice["text"] for choice in answer["choices"]] == ["ab", "ab", "cd", "cd"]
        assert answer["choices"][3]["logprobs"] == {
            "tokens": ["c", "d"],
            "token_logprobs": [-0.5, -0.5],
            "top_logprobs": [{"x": -1.5}, {"x": -1.5}],
            "text_offset": [0, 1],
        }
        assert answer["usage"]["prompt_tokens"] == 8  # each prompt once, however many choices
        assert answer["usage"]["completion_tokens"] == 8

    run(scenario)


def test_stops_bounds_and_logprobs_of_a_chat() -> None:
    async def scenario(bench: Bench) -> None:
        common = {"model": "smol", "messages": HI}
        cut = read(await bench.ask("/v1/chat/completions", **common, stop=["lo", "you"]))
        assert cut["choices"][0]["message"]["content"] == "hel"
        short = read(await bench.ask("/v1/chat/completions", **common, max_completion_tokens=2, logprobs=True))
        [first, _] = short["choices"][0]["logprobs"]["content"]
        assert first == {"token": "h", "logprob": -0.5, "bytes": [104],
                         "top_logprobs": [{"token": "x", "logprob": -1.5, "bytes": [120]}]}  # fmt: skip

    run(scenario)


CALLED = '{"name": "weather", "%s": {"city": "Paris"}}'


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("said", "spoken"),
    [
        (f"<tool_call>\n{CALLED % 'arguments'}\n</tool_call>", ""),
        (f"Let me look. <tool_call>{CALLED % 'arguments'}</tool_call>", "Let me look. "),
        (CALLED % "parameters", ""),
    ],
)
def test_calls_of_functions_are_told_from_text(said: str, spoken: str, stream: bool) -> None:
    async def scenario(bench: Bench) -> None:
        messages = [{"role": "user", "content": f"«{said}»"}]
        reply = await bench.ask("/v1/chat/completions", model="smol", messages=messages, tools=[WEATHER], stream=stream)
        if stream:
            *chunks, _ = await events(reply)
            deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
            text = "".join(delta.get("content") or "" for delta in deltas)
            calls, finish = deltas[-1]["tool_calls"], chunks[-1]["choices"][0]["finish_reason"]
            assert calls[0].pop("index") == 0
        else:
            [choice] = read(reply)["choices"]
            text, finish = choice["message"]["content"] or "", choice["finish_reason"]
            calls = choice["message"]["tool_calls"]
        [call] = calls
        assert (text, finish, call["type"]) == (spoken, "tool_calls", "function")
        assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("weather", {"city": "Paris"})

    run(scenario, template=KNOWS_TOOLS)


@pytest.mark.parametrize("said", ["<tool_call>{broken</tool_call>", '{"name": "other"}', "a < b", "<tool"])
def test_what_is_no_call_is_text(said: str) -> None:
    async def scenario(bench: Bench) -> None:
        messages = [{"role": "user", "content": f"«{said}»"}]
        body = {"model": "smol", "messages": messages, "tools": [WEATHER]}
        [choice] = read(await bench.ask("/v1/chat/completions", **body))["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == (said, "stop")
        *chunks, _ = await events(await bench.ask("/v1/chat/completions", **body, stream=True))
        assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == said

    run(scenario, template=KNOWS_TOOLS)


def wrong(**body: Any) -> dict[str, Any]:
    return {"model": "smol", "messages": HI, **body}


WRONG: list[tuple[dict[str, Any], int, str | None]] = [
    (wrong(max_tokens=-1), 400, "max_tokens"),
    (wrong(max_tokens=0), 400, "max_tokens"),
    (wrong(max_tokens="many"), 400, "max_tokens"),
    (wrong(max_tokens=10**30), 400, "max_tokens"),
    (wrong(temperature=3), 400, "temperature"),
    (wrong(temperature="hot"), 400, "temperature"),
    (wrong(top_p=0), 400, "top_p"),
    (wrong(n=1000), 400, "n"),
    (wrong(seed=1.5), 400, "seed"),
    (wrong(stop=[""]), 400, "stop[0]"),
    (wrong(frobnicate=1), 400, "frobnicate"),
    (wrong(messages=[]), 400, "messages"),
    (wrong(messages="hi"), 400, "messages"),
    (wrong(messages=[{"role": "king", "content": "x"}]), 400, "messages[0].role"),
    (wrong(messages=[{"role": "user"}]), 400, "messages[0].content"),
    (wrong(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]), 400,
     "messages[0].content[0].type"),
    (wrong(logit_bias={"1": 2}), 400, "logit_bias"),
    (wrong(top_logprobs=2), 400, "top_logprobs"),
    (wrong(logprobs=True, top_logprobs=5), 400, "top_logprobs"),
    (wrong(max_tokens=1, max_completion_tokens=1), 400, "max_completion_tokens"),
    (wrong(stream_options={"include_usage": True}), 400, "stream_options"),
    (wrong(stream=True, stream_options={"x": 1}), 400, "stream_options.x"),
    (wrong(response_format={"type": "yaml"}), 400, "response_format.type"),
    (wrong(response_format={"type": "json_schema"}), 400, "response_format.json_schema"),
    (wrong(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "z"}}}), 400,
     "response_format.json_schema"),
    (wrong(tools=[WEATHER]), 400, None),
    (wrong(tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "other"}}), 400, "tool_choice"),
    (wrong(tool_choice="required"), 400, "tool_choice"),
    (wrong(messages=[{"role": "user", "content": "x" * 500}]), 400, None),
    (wrong(top_p=0.5), 400, "top_p"),
    ({"messages": HI}, 400, "model"),
    (wrong(model="other"), 404, "model"),
    (wrong(model="../etc"), 404, "model"),
]  # fmt: skip


def test_what_is_wrong_is_named_and_costs_nothing() -> None:
    async def scenario(bench: Bench) -> None:
        for body, status, param in WRONG:
            reply = await bench.ask("/v1/chat/completions", **body)
            assert reply.status == status, (body, read(reply))
            error = read(reply)["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert (error["type"], error["param"]) == ("invalid_request_error", param), (body, error)
        assert bench.records == []
        assert bench.fleet.in_flight == 0
        answer = read(await bench.ask("/v1/chat/completions", model="smol", messages=HI))
        assert answer["choices"][0]["message"]["content"] == "hello you"

    run(scenario)


@pytest.mark.parametrize("content", [b"", b"[", b"\xff\xfe", b"[1]", b'"x"', b"[" * 100_000, b'{"model": "\xff"}'])
def test_what_is_no_request_is_refused(content: bytes) -> None:
    async def scenario(bench: Bench) -> None:
        reply = await bench.ask_raw("/v1/chat/completions", content)
        assert (reply.status, read(reply)["error"]["type"]) == (400, "invalid_request_error")

    run(scenario)


def test_prompts_may_come_in_tokens() -> None:
    async def scenario(bench: Bench) -> None:
        said = [ord(each) for each in "«ab»"]
        for prompt, answers in ((said, ["ab"]), ([said, [ord("x")]], ["ab", "x"])):
            answer = read(await bench.ask("/v1/completions", model="smol", prompt=prompt))
            assert [choice["text"] for choice in answer["choices"]] == answers
            assert answer["usage"]["prompt_tokens"] == len(said) + len(answers) - 1
        for wrong in ([1, "x"], [[1], 2], [], [[]], [1 << 20], [-1], [1.5], [[1]] * 40, [1] * 300):
            reply = await bench.ask("/v1/completions", model="smol", prompt=wrong)
            assert reply.status == 400, wrong
        assert len(bench.records) == 2

    run(scenario)


def test_completions_refuse_what_they_do_not_offer() -> None:
    async def scenario(bench: Bench) -> None:
        for name, value in (("echo", True), ("suffix", "x"), ("best_of", 4), ("prompt", [1, "x"]), ("logprobs", 9)):
            reply = await bench.ask("/v1/completions", **{"model": "smol", "prompt": "x", name: value})
            assert (reply.status, read(reply)["error"]["param"].partition("[")[0]) == (400, name)

    run(scenario)


def test_models_keys_and_paths() -> None:
    async def scenario(bench: Bench) -> None:
        listed = read(await bench.ask("/v1/models", "GET"))
        one = read(await bench.ask("/v1/models/smol", "GET"))
        assert listed == {"object": "list", "data": [one], "has_more": False, "first_id": "smol", "last_id": "smol"}
        openai = {"id": "smol", "object": "model", "created": 5, "owned_by": "mofang"}
        anthropic = {"type": "model", "display_name": "smol", "created_at": "1970-01-01T00:00:05+00:00"}
        assert (openai | anthropic | {"max_model_len": 200}).items() <= one.items()
        assert one["mofang"]["digest"] == "sha256:abc"
        assert one["mofang"]["paths"] == ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/completions"]
        for path, method, key, status, kind in (
            ("/v1/models/other", "GET", None, 404, "invalid_request_error"),
            ("/v1/models", "POST", None, 405, "invalid_request_error"),
            ("/v1/nothing", "POST", None, 404, "invalid_request_error"),
            ("/v1/models", "GET", "mf_wrong", 401, "authentication_error"),
        ):
            reply = await bench.ask(path, method, **({"key": key} if key else {}))
            assert (reply.status, read(reply)["error"]["type"]) == (status, kind)

    run(scenario)


def test_a_stream_that_is_cut_frees_its_slot_and_pays_for_what_was_sent() -> None:
    async def scenario(bench: Bench) -> None:
        body = {"model": "smol", "messages": [{"role": "user", "content": "«" + "long" * 40 + "»"}], "stream": True}
        reply: Any = await bench.ask("/v1/chat/completions", **body)
        sent = b""
        async for piece in reply.chunks:
            sent += piece
            if sent.count(b"data: ") > 5:
                break
        await reply.chunks.aclose()
        await bench.until(lambda: bool(bench.engine.cancelled))
        [record] = bench.records
        said = sent.count(b'"content"') - 1  # the first is empty
        assert said <= record.quantities["output_tokens"] <= said + 10
        assert 0 < record.quantities["output_tokens"] < 160
        assert bench.engine.streams == {}
        assert bench.observed == [("smol", "cancelled")]
        assert bench.fleet.in_flight == 0

    run(scenario)


def test_a_caller_who_leaves_before_the_answer_stops_it() -> None:
    async def scenario(bench: Bench) -> None:
        asking = asyncio.create_task(
            bench.ask("/v1/chat/completions", model="smol", messages=[{"role": "user", "content": "x" * 90}])
        )
        await bench.until(lambda: bool(bench.engine.streams))
        asking.cancel()
        await asyncio.wait([asking])
        await bench.until(lambda: bool(bench.engine.cancelled))
        assert bench.fleet.in_flight == 0

    run(scenario)


def test_what_fails_on_the_way_is_the_last_event_and_no_end() -> None:
    async def scenario(bench: Bench) -> None:
        messages = [{"role": "user", "content": "«ab!cd»"}]
        *_, last = await events(await bench.ask("/v1/chat/completions", model="smol", messages=messages, stream=True))
        assert last["error"]["type"] == "server_error"
        assert [record.quantities["output_tokens"] for record in bench.records] == [2]
        bench.journal_error = StorageFull("the disk is full")
        *_, last = await events(await bench.ask("/v1/chat/completions", model="smol", messages=HI, stream=True))
        assert last["error"]["code"] == "storage.full"
        reply = await bench.ask("/v1/chat/completions", model="smol", messages=HI)
        assert reply.status == 503

    run(scenario)


def test_a_worker_that_drains_finishes_and_its_successor_goes_on() -> None:
    async def scenario(bench: Bench) -> None:
        asking = asyncio.create_task(bench.ask("/v1/chat/completions", model="smol", messages=HI))
        await bench.until(lambda: bool(bench.engine.streams))
        await bench.drain()
        assert read(await asking)["choices"][0]["message"]["content"] == "hello you"
        reply = await bench.ask("/v1/chat/completions", model="smol", messages=HI)
        assert (reply.status, read(reply)["error"]["type"]) == (503, "service_unavailable_error")
        bench.host()
        async with asyncio.timeout(10):
            while reply.status == 503:
                reply = await bench.ask("/v1/chat/completions", model="smol", messages=HI)
                await asyncio.sleep(0)
        assert reply.status == 200

    run(scenario)


def test_the_numbers_of_streams_do_not_change_what_they_say() -> None:
    async def scenario(bench: Bench) -> None:
        texts = [f"«number {index}»" for index in range(20)]
        replies = await asyncio.gather(*(bench.ask("/v1/completions", model="smol", prompt=text) for text in texts))
        said = [read(reply)["choices"][0]["text"] for reply in replies]
        assert said == [f"number {index}" for index in range(20)]
        assert json.dumps(said)
        assert len({record.quantities["output_tokens"] for record in bench.records}) == 2

    run(scenario)
