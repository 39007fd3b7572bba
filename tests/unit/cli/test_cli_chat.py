"""`mofang chat` against a gateway's own HTTP server and a scripted model."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import Terminal


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, str]]:
    """URL and key of a server; ``smol`` says what stands between « and » in the conversation."""
    program = Path(__file__).parents[2] / "chat_server.py"
    server = subprocess.Popen([sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    port, key = server.stdout.readline().split()
    yield f"http://127.0.0.1:{port}", key
    server.communicate()
    assert server.returncode == 0


@pytest.fixture
def mofang(
    address: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Terminal:
    url, key = address
    for name, value in (("URL", url), ("API_KEY", key), ("DATA", str(tmp_path / "none"))):
        monkeypatch.setenv(f"MOFANG_{name}", value)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Terminal(capsys)


def test_one_message_is_answered_and_counted(mofang: Terminal) -> None:
    ran = mofang.good("chat", "smol", "«Paris it is»", "--system", "Be brief.")
    answer, summary = ran.out.strip().splitlines()
    assert answer == "Paris it is"
    assert summary.startswith(f"{len('[system]Be brief.[user]«Paris it is»')} + 11 tokens, first word ")
    told = json.loads(mofang.good("chat", "smol", "«ab»", "--json", "--max-tokens", "1").out)
    assert (told["text"], told["finish"], told["output_tokens"]) == ("a", "length", 1)
    assert (told["cost_micros"], told["model"]["digest"]) == (None, "sha256:abc")


def test_a_conversation_goes_on_and_obeys(mofang: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["«one»", "", "/again", "/history", "/nothing", "/system Be kind.", "«two»", "/history", "«x!»", "/clear"]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join([*typed, "/help", "/quit", "«never»"])))
    ran = mofang.good("chat", "smol")
    lines = ran.out.splitlines()
    assert [line for line in lines if line in ("one", "two", "x", "never")] == ["one", "one", "two", "x"]
    assert any(line.split() == ["user", "«one»"] for line in lines)
    assert any(line.split() == ["system", "Be", "kind."] for line in lines)
    assert "/quit" in ran.out
    assert "there is no /nothing" in ran.err
    assert "error[engine.failed]: this stream is lost" in ran.err


def test_what_is_refused_is_said_in_the_usual_form(mofang: Terminal) -> None:
    ran = mofang("chat", "other", "hello")
    assert (ran.code, "error[endpoint.not_found]: there is no endpoint 'other'" in ran.err) == (5, True)
