"""Whisper over the API: the openai client reads a recording; what is none is refused; seconds are metered."""

from __future__ import annotations

import io
import shutil
import time
import wave
from collections.abc import Callable

import numpy as np
import openai
import pytest

from hostile_questions import soon
from models import SPEECH, WHISPER_TINY, fetch, fetch_debian
from servers import Server, wait_until

SAID = "he might even have been made amiable himself"


@pytest.fixture(scope="module")
def ear(server: Server, mofang: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Server:
    folder = tmp_path_factory.mktemp("whisper")
    for pinned in WHISPER_TINY:
        shutil.copy(fetch(pinned), folder)
    mofang("push", "ear", str(folder), "--engine", "whisper")
    mofang("deploy", "ear")
    return server


@pytest.fixture(scope="module")
def client(ear: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{ear.url}/v1", api_key=ear.key, max_retries=0)


@pytest.fixture(scope="module")
def speech() -> bytes:
    return fetch_debian(SPEECH).read_bytes()


def plain(text: str) -> str:
    return "".join(each for each in text.lower() if each.isalpha() or each == " ").strip()


def test_a_recording_is_read_and_its_seconds_are_billed(client: openai.OpenAI, ear: Server, speech: bytes) -> None:
    said = client.audio.transcriptions.create(model="ear", file=("a.wav", speech))
    assert plain(said.text) == SAID
    wanted = {"response_format": "verbose_json", "timestamp_granularities": ["word", "segment"]}
    verbose = client.audio.transcriptions.create(model="ear", file=("a.wav", speech), temperature=0, **wanted)  # type: ignore[call-overload]
    assert verbose.language == "en"
    assert verbose.duration == pytest.approx(3.29, abs=0.05)
    assert [plain(word.word) for word in verbose.words or ()] == SAID.split()
    assert 0 <= verbose.segments[0].start < verbose.segments[-1].end <= 3.3
    subtitles = client.audio.transcriptions.create(model="ear", file=("a.wav", speech), response_format="srt")
    assert str(subtitles).startswith("1\n00:00:00,")
    assert client.models.retrieve("ear").model_extra["mofang"]["paths"][0] == "/v1/audio/transcriptions"  # type: ignore[index]

    def billed() -> bool:
        rows = ear.client.meter.usage(["endpoint"]).items
        return any(row.by["endpoint"] == "ear" and row.quantities.get("audio_seconds") == 3 * 4 for row in rows)

    wait_until(billed, 20, "three recordings of four seconds each")


def test_what_is_no_recording_is_a_400_and_the_next_is_read(client: openai.OpenAI, ear: Server, speech: bytes) -> None:
    pid = ear.process("replica/ear/").pid
    lying = speech[:40] + b"\xff\xff\xff\x7f" + speech[44:]
    for wrong in (
        b"",
        b"x",
        b"RIFF",
        speech[:3000],
        lying,
        bytes(1000),
        b"OggS" + bytes(500),
        b"fLaC" + b"\x01" * 4000,
    ):
        began = time.monotonic()
        with pytest.raises(openai.BadRequestError):
            client.audio.transcriptions.create(model="ear", file=("a.wav", wrong))
        assert time.monotonic() - began < soon()
    with io.BytesIO() as file:
        with wave.open(file, "wb") as written:
            written.setparams((1, 1, 100, 0, "NONE", ""))
            written.writeframes(np.full(100 * 4000, 128, np.uint8).tobytes())
        with pytest.raises(openai.BadRequestError, match="longer than 3,600 s"):
            client.audio.transcriptions.create(model="ear", file=("a.wav", file.getvalue()))
    assert plain(client.audio.transcriptions.create(model="ear", file=("a.wav", speech)).text) == SAID
    assert ear.process("replica/ear/").pid == pid
