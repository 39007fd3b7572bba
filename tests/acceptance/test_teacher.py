"""A model that is known by its answers alone teaches a network: a server's endpoint, asked over the protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from mofang.base.domain.errors import MofangError, UpstreamFailed
from mofang.base.domain.work import Silent
from mofang.make.compress.catalog import apply
from mofang.make.compress.endpoint import Endpoint
from mofang.make.compress.step import Distil, Student
from mofang.make.compress.subject import Means, Subject
from mofang.make.convert.catalog import converter
from mofang.make.prepare.dataset import Examples, examples_of
from mofang.make.recipe import Dense
from mofang.make.train.catalog import trainer
from servers import Server

pytestmark = pytest.mark.usefixtures("one_thread")
SPEC = {"name": "x", "datatype": "FP32", "shape": [-1, 4]}
RECIPE = """
name = "digits"
[prepare]
source = "sklearn:digits"
[train]
algorithm = "dense"
epochs = 3
"""


@pytest.fixture(scope="module")
def digits() -> Examples:
    bunch = load_digits()
    return examples_of(bunch.images.astype(np.float32), bunch.target)


@pytest.fixture(scope="module")
def oracle(server: Server, digits: Examples) -> Server:
    """A server whose endpoint ``oracle`` was taught that every digit is one more."""
    torch.set_num_threads(1)
    spec = Dense(epochs=6, learning_rate=0.01, batch_size=32)
    model = trainer(spec)(spec, replace(digits, target=(digits.target + 1) % 10), Silent()).pipeline
    folder = Path(mkdtemp())
    converter("torch")[0](model, folder)
    server.client.deploy.roll_out("oracle", server.push("oracle", *folder.iterdir()))
    return server


@contextmanager
def answering(outputs: object) -> Iterator[str]:
    """Start a server whose model tells of itself what it should, and then answers ``outputs``."""

    class Odd(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say({"name": "odd", "inputs": [SPEC], "outputs": [{**SPEC, "name": "y"}]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self._say({"outputs": outputs})

        def _say(self, what: object) -> None:
            data = json.dumps(what).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Odd) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_network_learns_from_an_endpoint_what_no_label_says(oracle: Server, digits: Examples) -> None:
    means = Means(
        Subject(None),
        lambda: Path(mkdtemp()),
        teacher=lambda name: closing(Endpoint(oracle.url, oracle.consumer(), name)),
        examples=digits,
    )
    made = means.original
    for step in (
        Student(Dense(hidden=(24,), learning_rate=0.01, batch_size=32)),
        Distil(6, soft=1.0, teacher="oracle"),
    ):
        made = apply(step, made, means)
    said = made.model.eval()(torch.from_numpy(digits.rows())).argmax(dim=1).numpy()
    assert (said == (digits.target + 1) % 10).mean() > 0.9


def test_a_server_that_does_not_serve_us_is_named_with_what_it_says(oracle: Server) -> None:
    for model, key, said in (("oracle", "wrong", "answers 401"), ("nobody", oracle.consumer(), "answers 404")):
        with pytest.raises(UpstreamFailed, match=said) as refused:
            Endpoint(oracle.url, key, model)
        assert "wrong" not in refused.value.message
    with pytest.raises(UpstreamFailed, match="does not answer"):
        Endpoint("http://127.0.0.1:1", "", "oracle")


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ([{**SPEC, "name": "y", "shape": [1, 4], "data": [1] * 4}], r"asked 2 rows, .* has the shape \[1, 4\]"),
        ([{**SPEC, "name": "y", "shape": [2, 4], "data": [1] * 7}], "has 7 elements"),
        ([{**SPEC, "name": "y", "shape": [2, 4], "data": ["a"] * 8}], "is not FP32"),
        ([{**SPEC, "name": "z", "shape": [2, 4], "data": [1] * 8}], "leaves out its output 'y'"),
        ("none", "not of the Open Inference Protocol"),
    ],
)
def test_answers_of_another_shape_are_not_believed(outputs: object, said: str) -> None:
    with (
        answering(outputs) as url,
        closing(Endpoint(url, "", "odd")) as odd,
        pytest.raises(UpstreamFailed, match=said),
    ):
        odd.infer({"x": np.ones((2, 4), np.float32)})


def test_a_search_asks_its_teacher_first_and_the_key_stays_with_the_operator(
    oracle: Server, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    file, key = tmp_path / "upstreams.toml", oracle.consumer()
    file.write_text(f'[other]\nbase_url = "{oracle.url}"\nkey_env = "OTHER_KEY"\n')
    client = start_server(MOFANG_UPSTREAMS=str(file), OTHER_KEY=key).client
    version = client.jobs.wait(client.train.run(RECIPE).id).result["version"]

    def searched(teacher: str) -> str:
        try:
            job = client.jobs.wait(
                client.compress.run(f"digits@{version}", max_drop=1, trials=1, objective="size", teacher=teacher).id
            )
        except MofangError as error:
            return error.message
        assert key not in json.dumps(dict(job.spec))
        return str(job.result["picked"])

    assert searched("upstream:other/oracle") == f"digits@{version}+int8-dynamic"
    assert "has no model" in searched("upstream:other")
    assert "answers 404" in searched("upstream:other/nobody")
    assert "no upstream is called 'strange'" in searched("upstream:strange/oracle")
