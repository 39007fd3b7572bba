"""Asking an endpoint from the command line, over the Open Inference Protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI, Request, Response
from terminal import Terminal

from fake_lane import KEY, FakeLane
from mofang.surface.protocols.http import HttpRequest
from mofang.surface.protocols.oip.rest import OipRest
from platforms import serving


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Terminal]:
    """A terminal to a server whose endpoint ``digits`` doubles the first two of four numbers."""
    app, rest = FastAPI(), OipRest(FakeLane())

    @app.api_route("/v2/{path:path}", methods=["GET", "POST"])
    async def answer(request: Request) -> Response:
        parts = HttpRequest(request.method, request.url.path, "", dict(request.headers), await request.body())
        found = await rest.respond(parts, "req_1")
        return Response(found.body, found.status, dict(found.fields()))

    with serving(app) as url:
        monkeypatch.setenv("MOFANG_URL", url)
        monkeypatch.setenv("MOFANG_API_KEY", KEY.removeprefix("Bearer "))
        monkeypatch.setenv("MOFANG_DATA", str(tmp_path / "none"))
        yield Terminal(capsys)


def test_an_answer_names_what_made_it(ask: Terminal) -> None:
    ran = ask.good("predict", "digits", "--input", "x=[1, 2, 3, 4]")
    first, *lines = ran.out.splitlines()
    assert first.startswith("digits answered with version 3 (revision 7) in ")
    assert first.endswith(" over REST")
    shown = [line.split() for line in lines]
    assert ["y", "[1,", "2]", "FP32"] in shown
    assert ["[[2.", "4.]]"] in shown
    assert ["request", "req_1"] in shown


def test_an_answer_for_scripts(ask: Terminal, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 4), np.float32))
    found = ask.good("predict", "digits", "--npy", f"x={tmp_path / 'x.npy'}", "--json").json
    assert found["outputs"] == {"y": {"datatype": "FP32", "shape": [2, 2], "data": [[2.0, 2.0], [2.0, 2.0]]}}
    about = ("digits", 3, 7, "sha256:abc", "req_1", "rest")
    assert tuple(found[n] for n in ("endpoint", "version", "revision", "digest", "request_id", "protocol")) == about
    assert found["seconds"] > 0


def test_a_whole_request_and_a_file_of_one_row(ask: Terminal, tmp_path: Path) -> None:
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    (tmp_path / "body.json").write_text(json.dumps({"inputs": [tensor]}))
    (tmp_path / "row.json").write_text("[1, 2, 3, 4]")
    whole = ask.good("predict", "digits", "--json-file", str(tmp_path / "body.json"), "--json").json
    row = ask.good("predict", "digits", "--input", f"x=@{tmp_path / 'row.json'}", "--json").json
    assert whole["outputs"] == row["outputs"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("digits", "--input", "x=[[1, 2, 3]]"), 2, "error[tensor.shape]: input 'x' of "),
        (("digits", "--input", "y=[[1, 2, 3]]"), 2, "error[tensor.name]: input 'y' is unknown"),
        (("digits",), 2, "error[tensor.name]: no input was given"),
        (("nobody", "--input", "x=[1]"), 5, "error[endpoint.not_found]: "),
        (("digits", "--input", "x=[1, 2, 3, 4]", "--key", "mf_wrong"), 3, "error[key.unknown]: "),
        (("digits", "--input", "x=@/no/such/file"), 2, "error[file]: '/no/such/file': no such file or directory"),
    ],
)
def test_what_is_refused_is_said(ask: Terminal, arguments: tuple[str, ...], code: int, message: str) -> None:
    ran = ask("predict", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith(message)
