"""OpenAI's Responses API over a scripted model: items, events, calls of functions, errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mofang.base.domain.errors import StorageFull
from stream_bench import Bench, events, read, run

KNOWS_TOOLS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if tools %}{% endif %}"
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
CALLED = '{"name": "weather", "arguments": {"city": "Paris"}}'


def ask(bench: Bench, **body: Any) -> Any:
    return bench.ask("/v1/responses", **{"model": "smol", "input": "«hello you»", **body})


def test_a_response_is_answered_whole_and_billed_once() -> None:
    async def scenario(bench: Bench) -> None:
        answer = read(await ask(bench, instructions="Be brief.", metadata={"a": "b"}))
        assert (answer["object"], answer["status"], answer["error"]) == ("response", "completed", None)
        [item] = answer["output"]
        assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
        assert [(part["type"], part["text"]) for part in item["content"]] == [("output_text", "hello you")]
        prompt = "[system]Be brief.[user]«hello you»"
        assert bench.engine.added == [prompt]
        assert answer["usage"] == {
            "input_tokens": len(prompt),
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 9,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": len(prompt) + 9,
        }
        assert (answer["store"], answer["metadata"], answer["instructions"]) == (False, {"a": "b"}, "Be brief.")
        [record] = bench.records
        assert {"input_tokens": len(prompt), "output_tokens": 9}.items() <= record.quantities.items()

    run(scenario)


def test_events_are_numbered_and_end_with_the_whole_response() -> None:
    async def scenario(bench: Bench) -> None:
        told = await events(await ask(bench, stream=True))
        assert [each["sequence_number"] for each in told] == list(range(len(told)))
        kinds = [each["type"].removeprefix("response.") for each in told]
        begun = ["created", "in_progress", "output_item.added", "content_part.added"]
        ended = ["output_text.done", "content_part.done", "output_item.done", "completed"]
        assert kinds[:4] == begun
        assert kinds[-4:] == ended
        assert set(kinds[4:-4]) == {"output_text.delta"}
        assert "".join(each["delta"] for each in told[4:-4]) == told[-4]["text"] == "hello you"
        last = told[-1]["response"]
        assert last["output"] == [told[-2]["item"]]
        assert last["usage"]["output_tokens"] == 9
        assert {each["item_id"] for each in told[3:-2]} == {last["output"][0]["id"]}
        assert last["id"] == told[0]["response"]["id"]
        assert told[0]["response"]["output"] == []

    run(scenario)


def test_an_answer_that_was_cut_says_so() -> None:
    async def scenario(bench: Bench) -> None:
        parts = [{"type": "input_text", "text": "say "}, {"type": "input_text", "text": "more"}]
        body = {"input": [{"role": "user", "content": parts}], "max_output_tokens": 3}
        answer = read(await ask(bench, **body))
        assert bench.engine.added == ["[user]say more"]
        assert answer["output"][0]["content"][0]["text"] == "[us"
        assert (answer["status"], answer["output"][0]["status"]) == ("incomplete", "incomplete")
        assert answer["incomplete_details"] == {"reason": "max_output_tokens"}
        assert (await events(await ask(bench, **body, stream=True)))[-1]["type"] == "response.incomplete"

    run(scenario)


@pytest.mark.parametrize("said", [CALLED, f"Look. <tool_call>{CALLED}</tool_call>"])
def test_calls_are_items_of_their_own(said: str) -> None:
    async def scenario(bench: Bench) -> None:
        body: dict[str, Any] = {"input": f"«{said}»", "tools": [WEATHER]}
        answer = read(await ask(bench, **body))
        call = answer["output"][-1]
        assert (call["type"], call["name"], json.loads(call["arguments"])) == (
            "function_call", "weather", {"city": "Paris"})  # fmt: skip
        told = await events(await ask(bench, **body, stream=True))
        arguments = [each["delta"] for each in told if each["type"] == "response.function_call_arguments.delta"]
        assert json.loads("".join(arguments)) == {"city": "Paris"}
        kinds = [item["type"] for item in told[-1]["response"]["output"]]
        assert kinds == (["message", "function_call"] if said.startswith("Look") else ["function_call"])
        added = [each["output_index"] for each in told if each["type"] == "response.output_item.added"]
        assert added == list(range(len(kinds)))

    run(scenario, template=KNOWS_TOOLS)


def test_a_conversation_goes_on_with_what_functions_gave() -> None:
    async def scenario(bench: Bench) -> None:
        items = [
            {"role": "user", "content": "Weather?"},
            {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
             "content": [{"type": "output_text", "text": "Look.", "annotations": []}]},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}", "id": "fc_1"},
            {"type": "function_call_output", "call_id": "c1", "output": "sun"},
        ]  # fmt: skip
        await ask(bench, input=items)
        assert bench.engine.added == ["[user]Weather?[assistant]Look.[tool]sun"]

    run(scenario)


WRONG: list[tuple[dict[str, Any], int, str | None]] = [
    ({"input": []}, 400, "input"),
    ({"input": [{"role": "king", "content": "x"}]}, 400, "input[0].role"),
    ({"input": [{"role": "user"}]}, 400, "input[0]"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, 400, "input[0].type"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, 400, None),
    ({"input": [{"type": "function_call", "name": "x"}]}, 400, "input[0]"),
    ({"input": [{"type": "function_call_output", "output": "x"}]}, 400, "input[0]"),
    ({"max_output_tokens": -1}, 400, "max_output_tokens"),
    ({"previous_response_id": "resp_1"}, 400, "previous_response_id"),
    ({"conversation": "conv_1"}, 400, "conversation"),
    ({"background": True}, 400, "background"),
    ({"frobnicate": 1}, 400, "frobnicate"),
    ({"top_logprobs": 2}, 400, "top_logprobs"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, 400, "text.format"),
    ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "z"}}}}, 400, "text.format"),
    ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {}}}}, 400, "text.format"),
    ({"tool_choice": "required"}, 400, "tool_choice"),
    ({"tools": [{"type": "web_search"}]}, 400, None),
    ({"model": "other"}, 404, "model"),
]  # fmt: skip


def test_what_is_wrong_is_named_as_it_is_called_here() -> None:
    async def scenario(bench: Bench) -> None:
        for body, status, param in WRONG:
            reply = await ask(bench, **body)
            assert reply.status == status, (body, read(reply))
            error = read(reply)["error"]
            assert param is None or error["param"] == param, (body, error)
        assert bench.records == []

    run(scenario)


def test_what_fails_on_the_way_is_the_last_event() -> None:
    async def scenario(bench: Bench) -> None:
        *_, last = await events(await ask(bench, input="«ab!cd»", stream=True))
        assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
        assert [record.quantities["output_tokens"] for record in bench.records] == [2]
        bench.journal_error = StorageFull("the disk is full")
        *_, last = await events(await ask(bench, stream=True))
        assert last["response"]["error"]["code"] == "storage.full"

    run(scenario)
