"""A new user: push, deploy and chat in the terminal, then the openai client of her own program, then the bill."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from servers import Server, wait_until

FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
PRICES = """
currency = "EUR"
[[price]]
endpoint = "*"
meter = "input_tokens"
per = 1000
amount = "0.10"
[[price]]
endpoint = "*"
meter = "output_tokens"
per = 1000
amount = "0.40"
"""
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"],
        "additionalProperties": False}  # fmt: skip
Mofang = Callable[..., str]


@pytest.fixture
def client(smol: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{smol.url}/v1", api_key=smol.consumer(), max_retries=0)


@pytest.mark.pushes("gguf")
def test_she_chats_in_the_terminal_and_sees_tokens_and_cost(smol: Server, mofang: Mofang, tmp_path: Path) -> None:
    book = tmp_path / "prices.toml"
    book.write_text(PRICES)
    mofang("prices", "set", str(book))
    typed = "/help\nWhat is the capital of France?\n/history\n/quit\n"
    said = mofang("chat", "smol", "--temperature", "0", "--max-tokens", "40", typed=typed)
    assert "Paris" in said
    assert "begin anew" in said
    assert "37 + " in said
    assert "tokens/s" in said
    assert "EUR" in said
    told = json.loads(mofang("chat", "smol", "Say hi.", "--json", "--max-tokens", "5", "--system", "Be brief."))
    assert 0 < told["output_tokens"] <= 5
    assert told["cost_micros"] == round(told["input_tokens"] * 100) + round(told["output_tokens"] * 400)
    wait_until(lambda: "output tokens" in mofang("usage"), 20, "the usage of the chat")
    [row] = [each for each in smol.client.meter.usage(["endpoint"]).items if each.by["endpoint"] == "smol"]
    assert row.quantities["input_tokens"] > 37
    assert row.quantities["requests"] >= 2


def test_the_openai_client_just_works(client: openai.OpenAI, smol: Server) -> None:
    there = {each.endpoint.name for each in smol.client.deploy.list_endpoints()}
    assert "smol" in there
    listed = {model.id.partition(":")[0] for model in client.models.list()}  # after a colon: adapters of a base
    assert listed == there
    assert client.models.retrieve("smol").owned_by == "mofang"
    whole = client.chat.completions.create(model="smol", messages=FRANCE, temperature=0, max_tokens=40)
    assert "Paris" in (whole.choices[0].message.content or "")
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert whole.usage.prompt_tokens == 37
    chunks = [*client.chat.completions.create(model="smol", messages=FRANCE, temperature=0, max_tokens=40, stream=True,
                                              stream_options={"include_usage": True})]  # fmt: skip
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    completed = client.completions.create(
        model="smol", prompt="The capital of France is", max_tokens=8, n=2, logprobs=1, temperature=0, stop=["\n"]
    )
    assert [choice.text for choice in completed.choices] == [" Paris.", " Paris."]
    logprobs = completed.choices[0].logprobs
    assert logprobs is not None
    assert (logprobs.tokens or [])[0] == " Paris"


def test_formats_and_functions_are_kept_to(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="smol", messages=[{"role": "user", "content": "Name a city, as JSON."}], max_tokens=60, temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}},
    )  # fmt: skip
    assert list(json.loads(answer.choices[0].message.content or "")) == ["city"]
    called = client.chat.completions.create(
        model="smol", messages=[{"role": "user", "content": "The weather in Paris?"}], max_tokens=60, temperature=0,
        tools=[{"type": "function", "function": {"name": "weather", "parameters": CITY}}], tool_choice="required",
    )  # fmt: skip
    [call] = called.choices[0].message.tool_calls or []
    assert (call.function.name, list(json.loads(call.function.arguments))) == ("weather", ["city"])
    assert called.choices[0].finish_reason == "tool_calls"


def test_responses_are_answered_too(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "smol", "input": "What is the capital of France?", "temperature": 0,
                             "max_output_tokens": 40}  # fmt: skip
    whole = client.responses.create(**asked)
    assert "Paris" in whole.output_text
    assert whole.status == "completed"
    assert whole.usage is not None
    assert whole.usage.input_tokens == 37
    with client.responses.stream(**asked) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(deltas) == final.output_text == whole.output_text
    called = client.responses.create(
        model="smol", input="The weather in Paris?", max_output_tokens=60, temperature=0, tool_choice="required",
        tools=[{"type": "function", "name": "weather", "parameters": CITY, "strict": True}],
    )  # fmt: skip
    [call] = called.output
    assert call.type == "function_call"
    assert list(json.loads(call.arguments)) == ["city"]
    cities = client.responses.create(
        model="smol", input="Name a city, as JSON.", max_output_tokens=60, temperature=0,
        text={"format": {"type": "json_schema", "name": "city", "schema": CITY}},
    )  # fmt: skip
    assert list(json.loads(cities.output_text)) == ["city"]


def test_the_anthropic_client_just_works(smol: Server) -> None:
    asked: dict[str, Any] = {"model": "smol", "max_tokens": 40, "messages": FRANCE, "extra_body": {"temperature": 0}}
    with anthropic.Anthropic(base_url=smol.url, api_key=smol.consumer(), max_retries=0) as client:
        whole = client.messages.create(**asked)
        assert "Paris" in whole.content[0].text  # type: ignore[union-attr]
        assert whole.stop_reason == "end_turn"
        assert whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0) == 37
        with client.messages.stream(**asked) as stream:
            said = "".join(stream.text_stream)
            final = stream.get_final_message()
        assert said == final.content[0].text == whole.content[0].text  # type: ignore[union-attr]
        assert final.usage.output_tokens == whole.usage.output_tokens
        used = client.messages.create(
            model="smol", max_tokens=60, extra_body={"temperature": 0}, tool_choice={"type": "any"},
            messages=[{"role": "user", "content": "The weather in Paris?"}],
            tools=[{"name": "weather", "input_schema": CITY}],
        )  # fmt: skip
        assert (used.stop_reason, list(used.content[0].input)) == ("tool_use", ["city"])  # type: ignore[union-attr]
        with pytest.raises(anthropic.NotFoundError):
            client.messages.create(**(asked | {"model": "nope"}))
        with pytest.raises(anthropic.BadRequestError, match="temperature"):
            client.messages.create(**(asked | {"extra_body": {"temperature": 5}}))
    with pytest.raises(anthropic.AuthenticationError):
        anthropic.Anthropic(base_url=smol.url, api_key="mf_no", max_retries=0).messages.create(**asked)


def test_the_open_inference_protocol_generates_too(smol: Server) -> None:
    with httpx.Client(base_url=smol.url, headers={"authorization": f"Bearer {smol.consumer()}"}, timeout=60) as client:
        asked = {"text_input": "The capital of France is", "parameters": {"temperature": 0, "max_tokens": 8}}
        whole = client.post("/v2/models/smol/generate", json=asked).json()
        assert whole["text_output"].startswith(" Paris")
        lines = client.post("/v2/models/smol/generate_stream", json=asked).text.split("\n\n")
        said = [json.loads(line.removeprefix("data: "))["text_output"] for line in lines if line]
        assert "".join(said) == whole["text_output"]


def test_metrics_tell_first_tokens_and_how_full_it_is(client: openai.OpenAI, smol: Server) -> None:
    client.chat.completions.create(model="smol", messages=FRANCE, temperature=0, max_tokens=40)
    headers = {"authorization": f"Bearer {smol.key}"}

    def told() -> bool:
        text = httpx.get(f"{smol.url}/metrics", headers=headers).text
        seconds = re.search(r'time_to_first_token_seconds_count{gateway="gateway-0",endpoint="smol"} (\d+)', text)
        room = re.search(r'cache_room_tokens{gateway="gateway-0",endpoint="smol"} (\d+)', text)
        return bool(seconds and room and int(seconds[1]) and int(room[1]))

    wait_until(told, 10, "the metrics of the answer")


def test_many_ask_at_once_sync_and_async(smol: Server) -> None:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{smol.url}/v1", api_key=smol.key, max_retries=0) as client:

            async def one(number: int) -> str:
                if number % 2:
                    whole = await client.chat.completions.create(
                        model="smol", messages=FRANCE, max_tokens=12, temperature=0
                    )
                    return whole.choices[0].message.content or ""
                stream = await client.chat.completions.create(
                    model="smol", messages=FRANCE, max_tokens=12, temperature=0, stream=True
                )
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return [*await asyncio.gather(*map(one, range(20)))]

    assert all("Paris" in text for text in asyncio.run(ask()))


def test_errors_are_those_of_the_client(client: openai.OpenAI, smol: Server) -> None:
    def ask(**changes: object) -> None:
        client.chat.completions.create(**{"model": "smol", "messages": FRANCE, **changes})  # type: ignore[call-overload]

    with pytest.raises(openai.NotFoundError) as unknown:
        ask(model="nope")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        ask(extra_body={"frobnicate": 1})
    assert wrong.value.param == "frobnicate"
    with pytest.raises(openai.BadRequestError) as long:
        ask(messages=[{"role": "user", "content": "word " * 9000}])
    assert long.value.code == "generate.prompt_too_long"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{smol.url}/v1", api_key="mf_no", max_retries=0).models.list()


def test_context_and_slots_are_set_with_the_deployment(smol: Server, mofang: Mofang) -> None:
    mofang("deploy", "small", "smol", "--option", "context=128", "--option", "slots=1", "--option", "cache_mb=64")
    with openai.OpenAI(base_url=f"{smol.url}/v1", api_key=smol.key, max_retries=0) as client:
        assert client.models.retrieve("small").model_extra["max_model_len"] == 128  # type: ignore[index]
        with pytest.raises(openai.BadRequestError) as long:
            client.completions.create(model="small", prompt="word " * 200)
        assert long.value.code == "generate.prompt_too_long"
    smol.client.deploy.delete("small")


def test_a_batch_is_answered_by_and_by(client: openai.OpenAI) -> None:
    asked = {"model": "smol", "messages": FRANCE, "max_tokens": 12, "temperature": 0}
    lines = [{"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": asked}
             for number in range(4)]  # fmt: skip
    content = "\n".join(map(json.dumps, lines)).encode()
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    wait_until(lambda: client.batches.retrieve(batch.id).status == "completed", 60, "the batch")
    done = client.batches.retrieve(batch.id)
    assert done.output_file_id is not None
    told = [json.loads(line) for line in client.files.content(done.output_file_id).text.splitlines()]
    assert sorted(each["custom_id"] for each in told) == ["0", "1", "2", "3"]
    assert all("Paris" in each["response"]["body"]["choices"][0]["message"]["content"] for each in told)
    assert batch.id in [each.id for each in client.batches.list()]
    client.files.delete(file.id)
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
