"""Transcriptions over a lane that has heard two sentences; forms as clients write them."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import httpx
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mofang.base.domain.access import Principal
from mofang.base.domain.deployment import Revision, Route
from mofang.base.domain.errors import InvalidParameter, InvalidRequest, NotGenerative
from mofang.base.domain.inference import InferRequest, InferResponse
from mofang.base.domain.tensors import Signature, TensorSpec
from mofang.surface.protocols.forms import read_form
from mofang.surface.protocols.http import HttpRequest, HttpResponse
from mofang.surface.protocols.lane import Lane
from mofang.surface.protocols.openai.audio import transcribe

SOMEBODY = Principal("k", "acme", "shop", "consumer")
EAR = Signature(
    (TensorSpec("audio", "BYTES", (-1,)), TensorSpec("wish", "BYTES", (-1,))),
    (TensorSpec("text", "BYTES", (-1,)), TensorSpec("segments", "BYTES", (-1,))),
)
SEGMENTS = [
    {"start": 0.0, "end": 61.5, "text": " Hello.", "words": [{"word": "Hello.", "start": 0.0, "end": 1.0}]},
    {"start": 61.5, "end": 3723.25, "text": " Bye.", "words": [{"word": "Bye.", "start": 61.5, "end": 62.0}]},
]


class Ear:
    """The part of a lane that recordings ask."""

    def __init__(self, signature: Signature = EAR) -> None:
        self.revision = Revision("ear", 1, "ear", 1, "sha256:w", "whisper", signature)
        self.asked: list[InferRequest] = []

    def route(self, principal: Principal, endpoint: str) -> Route:
        return Route(self.revision, ())

    async def infer(self, request: InferRequest, principal: Principal, **about: Any) -> InferResponse:
        self.asked.append(request)
        outputs = {
            "text": np.array([b"Hello. Bye."], object),
            "language": np.array([b"en"], object),
            "segments": np.array([msgspec.json.encode(SEGMENTS)], object),
            "seconds": np.array([3723.25], np.float32),
            "audio_seconds": np.array([3724]),
        }
        return InferResponse(about["request_id"], request.endpoint, 1, 1, "sha256:w", outputs)


def form(fields: dict[str, Any], audio: bytes | None = b"RIFF") -> HttpRequest:
    files = {"file": ("a.wav", audio, "audio/wav")} if audio is not None else {"other": ("b", b"", None)}
    sent = httpx.Request("POST", "http://x/", data=fields, files=cast(Any, files))
    return HttpRequest("POST", "/v1/audio/transcriptions", "", dict(sent.headers), sent.read())


def heard(ear: Ear | None = None, translate: bool = False, **fields: Any) -> HttpResponse:
    request = form({"model": "ear", **fields})
    lane = cast(Lane, ear or Ear())
    return asyncio.run(transcribe(lane, request, SOMEBODY, "req_1", time.monotonic() + 5, translate=translate))


def test_a_recording_becomes_text_in_every_format() -> None:
    assert msgspec.json.decode(heard().body) == {
        "text": "Hello. Bye.",
        "usage": {"type": "duration", "seconds": 3724},
    }
    assert heard(response_format="text").body == b"Hello. Bye.\n"
    assert heard(response_format="srt").body.decode() == (
        "1\n00:00:00,000 --> 00:01:01,500\nHello.\n\n2\n00:01:01,500 --> 01:02:03,250\nBye.\n"
    )
    assert heard(response_format="vtt").body.decode() == (
        "WEBVTT\n\n00:00:00.000 --> 00:01:01.500\nHello.\n\n00:01:01.500 --> 01:02:03.250\nBye.\n"
    )


def test_times_are_told_as_they_are_wanted() -> None:
    verbose = msgspec.json.decode(heard(response_format="verbose_json").body)
    assert (verbose["task"], verbose["language"], verbose["duration"]) == ("transcribe", "en", 3723.25)
    assert [each["text"] for each in verbose["segments"]] == [" Hello.", " Bye."]
    assert "words" not in verbose
    wanted = {"response_format": "verbose_json", "timestamp_granularities[]": ["word"]}
    words = msgspec.json.decode(heard(**wanted).body)
    assert [each["word"] for each in words["words"]] == ["Hello.", "Bye."]
    assert "segments" not in words


def test_what_is_wished_reaches_the_model() -> None:
    ear = Ear()
    heard(ear, language="de", prompt="Namen: Mofang", temperature="0.5", translate=True)
    [asked] = ear.asked
    assert asked.inputs["audio"][0] == b"RIFF"
    assert msgspec.json.decode(asked.inputs["wish"][0]) == {
        "language": "de", "prompt": "Namen: Mofang", "words": False, "translate": True, "temperature": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"response_format": "yaml"}, "response_format"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": "2"}, "temperature"),
        ({"frobnicate": "1"}, "frobnicate"),
        ({"stream": "true"}, "stream"),
        ({"timestamp_granularities[]": ["word"]}, "timestamp_granularities"),
        ({"timestamp_granularities[]": ["day"], "response_format": "verbose_json"}, "timestamp_granularities"),
        ({"prompt": "x" * 5000}, "prompt"),
        ({"prompt": "x" * 100_000}, "prompt"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^{named}"):
        heard(**fields)


def test_what_is_no_recording_or_no_ear_is_refused() -> None:
    with pytest.raises(InvalidParameter, match=r"^file"):
        asyncio.run(transcribe(cast(Lane, Ear()), form({"model": "ear"}, None), SOMEBODY, "r", 0, translate=False))
    with pytest.raises(NotGenerative, match="reads no recordings"):
        heard(Ear(Signature((TensorSpec("x", "FP32", (-1,)),), ())))


names = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
kinds = st.sampled_from(["multipart/form-data; boundary=x", "multipart/form-data", "text/plain", ""])


@given(st.dictionaries(names, st.text(max_size=200), max_size=6), st.binary(max_size=5000))
def test_forms_are_read_as_they_were_written(fields: dict[str, str], audio: bytes) -> None:
    request = form({f"f_{name}": value for name, value in fields.items()}, audio)
    read = read_form(request.headers, request.body)
    assert {name.removeprefix("f_"): values for name, values in read.fields.items()} == {
        name: [value] for name, value in fields.items()
    }
    assert read.file("file") == audio


@given(st.binary(max_size=300), kinds)
def test_anything_else_is_refused_in_words(body: bytes, kind: str) -> None:
    whole = form({"model": "a"}).body
    for content in (body, b"--x\r\n" + body, whole, whole[:-20]):
        with pytest.raises((InvalidRequest, InvalidParameter)):
            read_form({"content-type": kind}, content)


def test_a_form_that_was_cut_is_refused() -> None:
    request = form({"model": "a"})
    for size in range(len(request.body) - 4):
        with pytest.raises(InvalidRequest):
            read_form(request.headers, request.body[:size])


def test_a_form_of_a_thousand_parts_is_refused() -> None:
    request = form({f"f{number}": "x" for number in range(1000)})
    with pytest.raises(InvalidRequest, match="parts"):
        read_form(request.headers, request.body)
