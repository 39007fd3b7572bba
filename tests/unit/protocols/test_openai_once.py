"""`Idempotency-Key` under /v1: what is sent again is told again and charged once; what broke off is not kept."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from stream_bench import KEY, Bench, read, run

CHAT = {"model": "smol", "messages": [{"role": "user", "content": "«hello you»"}]}


async def ask(bench: Bench, key: str = "first", **changes: Any) -> Any:
    body = json.dumps(CHAT | changes).encode()
    return await bench.ask_raw("/v1/chat/completions", body, headers={"idempotency-key": key})


async def said(reply: Any) -> bytes:
    return b"".join([piece async for piece in reply.chunks])


def header(reply: Any, name: str) -> str | None:
    return dict(reply.fields() if hasattr(reply, "fields") else reply.headers).get(name)


def test_the_same_request_again_gets_its_answer_and_no_charge() -> None:
    async def scenario(bench: Bench) -> None:
        first, again = await ask(bench), await ask(bench)
        assert (first.status, again.body) == (200, first.body)
        assert header(again, "idempotency-replayed") == "true"
        assert header(first, "idempotency-replayed") is None
        [record] = bench.records
        assert header(first, "x-request-id") == header(again, "x-request-id") == record.request_id
        other = await ask(bench, temperature=0.5)
        assert (other.status, read(other)["error"]["code"]) == (422, "request.key_reused")
        elsewhere = await bench.ask_raw(
            "/v1/completions", json.dumps(CHAT).encode(), headers={"idempotency-key": "first"}
        )
        assert elsewhere.status == 422
        assert (await ask(bench, "second")).status == 200
        assert len(bench.records) == 2

    run(scenario)


def test_twins_are_computed_once() -> None:
    async def scenario(bench: Bench) -> None:
        answers = await asyncio.gather(*(ask(bench) for _ in range(6)))
        assert len({answer.body for answer in answers}) == 1
        assert len({header(answer, "x-request-id") for answer in answers}) == len(bench.records) == 1

    run(scenario)


def test_what_was_refused_leaves_no_trace() -> None:
    async def scenario(bench: Bench) -> None:
        assert (await ask(bench, temperature=9)).status == 400
        assert (await ask(bench, model="nobody")).status == 404
        assert (await ask(bench)).status == 200
        assert (await ask(bench, "")).status == 400
        assert len(bench.records) == 1

    run(scenario)


def test_a_stream_is_kept_whole_before_its_last_byte() -> None:
    async def scenario(bench: Bench) -> None:
        first = await ask(bench, stream=True)
        pieces = [piece async for piece in first.chunks]
        again = await ask(bench, stream=True)
        assert again.body == b"".join(pieces)
        assert again.body.endswith(b"data: [DONE]\n\n")
        assert header(again, "content-type") == "text/event-stream; charset=utf-8"
        assert header(again, "x-request-id") == header(first, "x-request-id") == bench.records[0].request_id
        assert len(bench.records) == 1
        early = await ask(bench, "other", stream=True)
        async for piece in early.chunks:
            if piece.endswith(b"[DONE]\n\n"):  # not acknowledged yet, and kept already
                assert (await ask(bench, "other", stream=True)).body.endswith(piece)

    run(scenario)


def test_a_stream_that_broke_off_is_billed_for_what_it_said_and_asked_anew() -> None:
    async def scenario(bench: Bench) -> None:
        long = [{"role": "user", "content": f"«{'long' * 40}»"}]
        first = await ask(bench, stream=True, messages=long)
        sent = b""
        async for piece in first.chunks:
            sent += piece
            if sent.count(b"data: ") > 5:
                break
        await first.chunks.aclose()
        [cut] = bench.records
        assert 0 < cut.quantities["output_tokens"] < 160
        again = await ask(bench, stream=True, messages=long)
        assert b"[DONE]" in await said(again)
        assert [record.request_id for record in bench.records] == [cut.request_id, header(again, "x-request-id")]
        assert cut.request_id != header(again, "x-request-id")

    run(scenario)


def test_a_stream_that_fails_is_not_kept() -> None:
    async def scenario(bench: Bench) -> None:
        bench.journal_error = OSError("no room")
        assert b"[DONE]" not in await said(await ask(bench, stream=True))
        bench.journal_error = None
        assert b"[DONE]" in await said(await ask(bench, stream=True))

    run(scenario)


def test_a_repeated_answer_is_for_those_who_may_ask() -> None:
    async def scenario(bench: Bench) -> None:
        assert (await ask(bench)).status == 200
        snapshot = bench.fleet.snapshot
        entry = snapshot.keys[KEY.id]
        narrow = {KEY.id: type(entry)(**{**_fields(entry), "endpoints": ("other",)})}
        bench.fleet.adopt(type(snapshot)(2, snapshot.endpoints, narrow))
        refused = await ask(bench)
        assert refused.status in (403, 404, 422)
        assert b"hello" not in refused.body

    run(scenario)


def _fields(entry: Any) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in entry.__dataclass_fields__}
