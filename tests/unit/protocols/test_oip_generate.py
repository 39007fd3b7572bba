"""The generate extension over a scripted model: whole and as events, parameters, errors, versions."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from mofang.surface.protocols.http import HttpRequest
from mofang.surface.protocols.oip.generate import OipGenerate, is_generate
from stream_bench import KEY, Bench, events, read, run


async def ask(bench: Bench, path: str = "generate", *, method: str = "POST", model: str = "smol", **body: Any) -> Any:
    api = OipGenerate(bench.lane, bench.generator)
    headers = {"authorization": f"Bearer {KEY.text}"}
    content = msgspec.json.encode({"text_input": "«hello»", **body})
    return await api.respond(HttpRequest(method, f"/v2/models/{model}/{path}", "", headers, content), "req_1")


def test_text_is_generated_and_billed_once() -> None:
    async def scenario(bench: Bench) -> None:
        reply = await ask(bench, id="mine", parameters={"details": True, "max_tokens": 2})
        assert read(reply) == {
            "text_output": "he",
            "model_name": "smol",
            "model_version": "1",
            "id": "mine",
            "details": {
                "finish_reason": "length",
                "logprobs": [{"text": "h", "logprob": -0.5}, {"text": "e", "logprob": -0.5}],
            },
        }
        assert ("mofang-digest", "sha256:abc") in reply.headers
        [record] = bench.records
        assert {"input_tokens": 7, "output_tokens": 2}.items() <= record.quantities.items()
        stopped = read(await ask(bench, "versions/1/generate", parameters={"stop": ["l"], "details": True}))
        assert (stopped["text_output"], stopped["details"]["finish_reason"]) == ("he", "stop_sequence")

    run(scenario)


def test_a_stream_says_the_same_piece_by_piece() -> None:
    async def scenario(bench: Bench) -> None:
        told = await events(await ask(bench, "generate_stream"))
        assert "".join(each["text_output"] for each in told) == "hello"
        assert {each["model_name"] for each in told} == {"smol"}
        assert len(bench.records) == 1
        *_, last = await events(await ask(bench, "generate_stream", text_input="«ab!»"))
        assert last["error"] == "this stream is lost"

    run(scenario)


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({"text_input": 5}, 400, "text_input"),
        ({"parameters": {"max_tokens": 0}}, 400, "parameters.max_tokens"),
        ({"parameters": {"temperature": "hot"}}, 400, "parameters.temperature"),
        ({"parameters": {"frobnicate": 1}}, 400, "frobnicate"),
        ({"text_input": ""}, 400, "empty"),
        ({"text_input": "x" * 500}, 400, "too many"),
        ({"model": "other"}, 404, "other"),
        ({"model": "smol/versions/x"}, 400, "version"),
        ({"model": "smol/versions/7"}, 404, "7"),
        ({"method": "GET"}, 405, "POST"),
    ],
)
def test_what_is_wrong_is_named_and_costs_nothing(body: dict[str, Any], status: int, named: str) -> None:
    async def scenario(bench: Bench) -> None:
        reply = await ask(bench, **body)
        assert reply.status == status, read(reply)
        assert named in read(reply)["error"]
        assert bench.records == []

    run(scenario)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"{}", "text_input"),
        (b"[]", "object"),
        (b"", "no JSON"),
        (b'{"text_input": "a", "text_input": "b"}', "'text_input' is given twice"),
        (b'{"text_input": "a", "parameters": {"seed": 1, "seed": 2}}', "'seed' is given twice"),
        (b'{"text_input": ["a"]}', "text_input"),
        (b'{"text_input": "a", "parameters": {"nested": {"b": 1}}}', "nested"),
    ],
)
def test_what_is_no_request_is_refused(content: bytes, named: str) -> None:
    async def scenario(bench: Bench) -> None:
        headers = {"authorization": f"Bearer {KEY.text}"}
        request = HttpRequest("POST", "/v2/models/smol/generate", "", headers, content)
        reply = await OipGenerate(bench.lane, bench.generator).respond(request, "req_1")
        assert reply.status == 400
        assert named in read(reply)["error"]

    run(scenario)


def test_a_text_may_read_like_a_key() -> None:
    async def scenario(bench: Bench) -> None:
        said = read(await ask(bench, text_input='«"seed" "seed"»'))
        assert said["text_output"] == '"seed" "seed"'

    run(scenario)


def test_those_who_ask_at_once_get_each_their_own() -> None:
    async def scenario(bench: Bench) -> None:
        texts = [f"«{letter * (number + 1)}»" for number, letter in enumerate("abcdefgh")] + ["«»"]
        paths = ["generate", "generate_stream"]
        replies = await asyncio.gather(
            *[ask(bench, path, text_input=text, id=text) for text in texts for path in paths]
        )
        for number, reply in enumerate(replies):
            told = await events(reply) if number % 2 else [read(reply)]
            assert "".join(each["text_output"] for each in told) == texts[number // 2][1:-1]
            assert {each["id"] for each in told} == {texts[number // 2]}

    run(scenario)


def test_its_paths_are_known() -> None:
    assert is_generate("/v2/models/smol/generate")
    assert is_generate("/v2/models/smol/versions/3/generate_stream")
    assert not is_generate("/v2/models/generate/infer")
    assert not is_generate("/v2/models/generate")
