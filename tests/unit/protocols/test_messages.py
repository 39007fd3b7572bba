"""Anthropic's Messages API over a scripted model: blocks, events, tools, errors."""

from __future__ import annotations

from typing import Any

import pytest

from mofang.surface.protocols.http import HttpRequest
from stream_bench import KEY, Bench, events, read, run

HI = [{"role": "user", "content": "«hello you»"}]
KNOWS_TOOLS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if tools %}{% endif %}"
WEATHER = {"name": "weather", "input_schema": {"type": "object", "properties": {}}}
CALLED = '{"name": "weather", "arguments": {"city": "Paris"}}'


def ask(bench: Bench, **body: Any) -> Any:
    return bench.ask("/v1/messages", **{"model": "smol", "messages": HI, "max_tokens": 100, **body})


def test_a_message_is_answered_whole_and_billed_once() -> None:
    async def scenario(bench: Bench) -> None:
        answer = read(await ask(bench, system=[{"type": "text", "text": "Be brief."}]))
        assert answer["id"].startswith("msg_")
        prompt = "[system]Be brief.[user]«hello you»"
        assert bench.engine.added == [prompt]
        assert {key: value for key, value in answer.items() if key != "id"} == {
            "type": "message",
            "role": "assistant",
            "model": "smol",
            "content": [{"type": "text", "text": "hello you"}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": len(prompt),
                "cache_read_input_tokens": 0,
                "cache_creation_input_tokens": 0,
                "output_tokens": 9,
            },
        }
        [record] = bench.records
        assert {"input_tokens": len(prompt), "output_tokens": 9}.items() <= record.quantities.items()

    run(scenario)


def test_events_build_the_same_message() -> None:
    async def scenario(bench: Bench) -> None:
        told = await events(await ask(bench, stream=True))
        kinds = [each["type"] for each in told]
        assert kinds[:2] == ["message_start", "content_block_start"]
        assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
        assert set(kinds[2:-3]) == {"content_block_delta"}
        assert "".join(each["delta"]["text"] for each in told[2:-3]) == "hello you"
        assert told[0]["message"]["usage"]["input_tokens"] == len("[user]«hello you»")
        assert told[0]["message"]["content"] == []
        assert told[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
        assert told[-2]["usage"]["output_tokens"] == 9
        assert len(bench.records) == 1

    run(scenario)


def test_why_it_ended_is_told() -> None:
    async def scenario(bench: Bench) -> None:
        assert read(await ask(bench, max_tokens=3))["stop_reason"] == "max_tokens"
        answer = read(await ask(bench, stop_sequences=["you", "lo"]))
        assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", "lo")
        assert answer["content"] == [{"type": "text", "text": "hel"}]

    run(scenario)


@pytest.mark.parametrize("said", [CALLED, f"Look. <tool_call>{CALLED}</tool_call>"])
def test_tools_are_used_in_blocks_of_their_own(said: str) -> None:
    async def scenario(bench: Bench) -> None:
        body: dict[str, Any] = {"messages": [{"role": "user", "content": f"«{said}»"}], "tools": [WEATHER]}
        answer = read(await ask(bench, **body))
        block = answer["content"][-1]
        assert (block["type"], block["name"], block["input"]) == ("tool_use", "weather", {"city": "Paris"})
        assert answer["stop_reason"] == "tool_use"
        told = await events(await ask(bench, **body, stream=True))
        begun = [each["content_block"]["type"] for each in told if each["type"] == "content_block_start"]
        assert begun == (["text", "tool_use"] if said.startswith("Look") else ["tool_use"])
        assert told[-2]["delta"]["stop_reason"] == "tool_use"

    run(scenario, template=KNOWS_TOOLS)


def test_a_conversation_goes_on_with_what_tools_gave() -> None:
    async def scenario(bench: Bench) -> None:
        turns = [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": [{"type": "text", "text": "Look."},
                                              {"type": "tool_use", "id": "t1", "name": "weather", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "sun"},
                                         {"type": "text", "text": "So?"}]},
        ]  # fmt: skip
        await ask(bench, messages=turns)
        assert bench.engine.added == ["[user]Weather?[assistant]Look.[tool]sun[user]So?"]

    run(scenario)


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({"max_tokens": 0}, 400, "max_tokens"),
    ({"messages": []}, 400, "messages"),
    ({"messages": [{"role": "king", "content": "x"}]}, 400, "messages[0].role"),
    ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, 400, "messages[0].content[0]"),
    ({"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "x", "name": "y", "input": {}}]}]}, 400,
     "messages[0].content[0]"),
    ({"temperature": 1.5}, 400, "temperature"),
    ({"thinking": {"type": "enabled", "budget_tokens": 5}}, 400, "thinking"),
    ({"frobnicate": 1}, 400, "frobnicate"),
    ({"tool_choice": {"type": "tool"}, "tools": [WEATHER]}, 400, "tool_choice"),
    ({"tool_choice": {"type": "any"}}, 400, "tool_choice"),
    ({"messages": [{"role": "user", "content": "x" * 500}]}, 400, "too many"),
    ({"model": "other"}, 404, "other"),
]  # fmt: skip


def test_what_is_wrong_is_named_in_anthropic_s_form() -> None:
    async def scenario(bench: Bench) -> None:
        for body, status, named in WRONG:
            reply = await ask(bench, **body)
            assert reply.status == status, (body, read(reply))
            said = read(reply)
            kind = "not_found_error" if status == 404 else "invalid_request_error"
            assert (said["type"], said["error"]["type"]) == ("error", kind)
            assert named in said["error"]["message"], said
            assert ("request-id", said["request_id"]) in reply.headers
        assert bench.records == []

    run(scenario)


def test_a_key_may_come_as_anthropic_s_clients_send_it() -> None:
    async def scenario(bench: Bench) -> None:
        for headers, status in (({"x-api-key": KEY.text}, 200), ({"x-api-key": "mf_wrong"}, 401), ({}, 401)):
            reply = await bench.api.respond(HttpRequest("GET", "/v1/models", "", headers, b""), "req_1")
            assert reply.status == status
        reply = await bench.api.respond(HttpRequest("POST", "/v1/messages", "", {}, b"{}"), "req_1")
        assert read(reply)["error"]["type"] == "authentication_error"

    run(scenario)


def test_what_fails_on_the_way_is_the_last_event() -> None:
    async def scenario(bench: Bench) -> None:
        messages = [{"role": "user", "content": "«ab!cd»"}]
        *_, last = await events(await ask(bench, messages=messages, stream=True))
        assert (last["type"], last["error"]["type"]) == ("error", "api_error")
        assert [record.quantities["output_tokens"] for record in bench.records] == [2]

    run(scenario)
