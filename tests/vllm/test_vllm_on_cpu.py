"""The engine ``vllm`` with vLLM itself, on this machine's CPU, behind a whole server and the ``openai`` client."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from servers import Server, wait_until

PROMPT = "The capital of France is"
TALK = [{"role": "user", "content": "Tell me a very long story."}]


def processes() -> dict[int, str]:
    """Return the command lines of the processes of vLLM, by their number."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # no process, or one that has ended
        if entry.name.isdigit() and ("vllm.entrypoints" in line or "VLLM::" in line):
            found[int(entry.name)] = line
    return found


def test_it_says_what_it_was_trained_to_and_is_metered_by_its_counts(vllm: Server, client: OpenAI) -> None:
    answer = client.completions.with_raw_response.create(model="smol", prompt=PROMPT, max_tokens=8, temperature=0)
    told = answer.parse()
    assert told.choices[0].text.startswith(" Paris")
    assert told.usage is not None
    assert told.usage.completion_tokens == 8
    metered = vllm.usage_of(answer.headers["x-request-id"])
    assert metered["input_tokens"] + metered.get("cached_tokens", 0) == told.usage.prompt_tokens
    assert metered["output_tokens"] == 8


def test_a_stream_comes_in_pieces_with_its_usage(client: OpenAI) -> None:
    pieces = list(
        client.chat.completions.create(
            model="smol", messages=TALK, max_tokens=16, temperature=0, stream=True,
            stream_options={"include_usage": True}, logprobs=True,
        )
    )  # fmt: skip
    said = [piece for piece in pieces if piece.choices and piece.choices[0].delta.content]
    assert len(said) > 3
    assert all(piece.choices[0].logprobs for piece in said)
    assert pieces[-1].usage is not None
    assert pieces[-1].usage.completion_tokens == 16


def test_a_seed_says_the_same_again_and_a_schema_is_kept(client: OpenAI) -> None:
    said = [
        client.completions.create(model="smol", prompt="Once", max_tokens=12, temperature=1.5, seed=seed)
        .choices[0].text
        for seed in (7, 7, 8)
    ]  # fmt: skip
    assert said[0] == said[1] != said[2]
    schema = {"type": "string", "enum": ["left", "right"]}  # no place for blanks, of which so small a model likes many
    answer = client.chat.completions.create(
        model="smol", messages=TALK, max_tokens=40, temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "way", "schema": schema}},
    )  # fmt: skip
    assert json.loads(answer.choices[0].message.content or "") in ("left", "right")


def test_a_stream_that_is_cut_is_billed_for_what_was_said(vllm: Server, client: OpenAI) -> None:
    with client.chat.completions.with_streaming_response.create(
        model="smol", messages=TALK, max_tokens=900, temperature=0, stream=True
    ) as answer:
        lines = answer.iter_lines()
        for _ in range(12):
            next(lines)
    assert 0 < vllm.usage_of(answer.headers["x-request-id"])["output_tokens"] < 200


def test_too_long_a_prompt_is_the_clients_mistake(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as failed:
        client.completions.create(model="smol", prompt="word " * 3000)
    assert "1,024" in str(failed.value) or "1024" in str(failed.value)


def test_when_it_is_killed_nothing_of_it_is_left_and_it_comes_back(client: OpenAI) -> None:
    before = processes()
    server = next(number for number, line in before.items() if "vllm.entrypoints" in line)
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: not before.keys() & processes().keys(), 30, "the end of all that it had started")

    def answers() -> bool:
        try:
            return bool(client.completions.create(model="smol", prompt=PROMPT, max_tokens=2).choices)
        except openai.InternalServerError as error:
            if error.status_code != 503:
                raise
            return False

    wait_until(answers, 300, "an answer after the start")
