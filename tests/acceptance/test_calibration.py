"""Deploying measures how many threads a model computes with, writes it down, and leaves what was set as it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from nets import scaled
from onnx import helper, numpy_helper

from graphs import model, save, value
from mofang.base.domain.deployment import Revision
from servers import Server

WIDE = 1536


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("measured")
    running = Server(folder / "data")
    running.push("small", scaled(folder, 2.0))
    (folder / "heavy").mkdir()
    running.push("heavy", heavy(folder / "heavy"))
    yield running
    running.close()


def heavy(folder: Path) -> Path:
    """Multiply a square matrix with itself, twelve milliseconds or more of one core; return the file."""
    square = numpy_helper.from_array(np.full((WIDE, WIDE), 1e-3, np.float32), "square")
    nodes = [
        helper.make_node("MatMul", ["square", "x2"], ["big"]),
        helper.make_node("Mul", ["square", "first"], ["x2"]),
        helper.make_node("ReduceMean", ["x"], ["first"], keepdims=1),
        helper.make_node("ReduceMean", ["big"], ["y"], keepdims=1),
    ]
    nodes = [nodes[2], nodes[1], nodes[0], nodes[3]]
    return save(model(nodes, [value("x", (1, 1))], [value("y", (1, 1))], [square]), folder) / "model.onnx"


def active(server: Server, endpoint: str) -> Revision:
    found = server.client.deploy.get_endpoint(endpoint).active
    assert found is not None
    return found


def test_a_model_that_answers_in_a_moment_computes_with_one_thread(server: Server) -> None:
    server.client.deploy.roll_out("small")
    found = active(server, "small").calibration
    assert found is not None
    assert found.threads == 1
    assert found.row_us > 0


def test_a_model_that_takes_its_time_computes_as_was_measured_and_goes_on_so_when_it_is_loaded_again(
    server: Server,
) -> None:
    server.client.deploy.roll_out("heavy", limits={"on_demand": True})
    found = active(server, "heavy").calibration
    assert found is not None
    assert found.threads in (1, len(os.sched_getaffinity(0)))
    assert found.row_us > 2000
    server.start()
    server.client.serve.predict("heavy", {"x": np.ones((1, 1), np.float32)})
    assert active(server, "heavy").calibration == found


def test_what_was_set_is_not_measured(server: Server) -> None:
    server.client.deploy.roll_out("small", options={"threads": 1})
    assert active(server, "small").calibration is None
    server.client.deploy.roll_out("small", options={}, replicas=2)
    assert active(server, "small").calibration is None
