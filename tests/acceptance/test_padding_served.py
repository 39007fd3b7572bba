"""An encoder whose requests of several lengths share batches: deployed with its padding, answered as if alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import pytest

from graphs import masked_mean, save
from mofang import Client
from mofang.base.domain.errors import PaddingRefused, RolloutFailed
from mofang.base.engines.catalog import load_engine
from servers import Server, wait_until

PAD = {"ids": 0, "mask": "mask"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with closing(Server(tmp_path_factory.mktemp("padding") / "data")) as server:
        yield server


def batches(server: Server) -> dict[int, int]:
    """Return how many batches of each size were computed."""
    headers = {"authorization": f"Bearer {server.key}"}
    stats = httpx.get(f"{server.url}/v2/models/padded/stats", headers=headers).json()["model_stats"][0]
    return {int(each["batch_size"]): int(each["compute_infer"]["count"]) for each in stats["batch_stats"]}


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_requests_of_several_lengths_ride_in_one_batch(running: Server, tmp_path: Path, protocol: str) -> None:
    folder = save(masked_mean(), tmp_path)
    running.serve("padded", folder / "model.onnx", limits={"pad": PAD})
    engine, key = load_engine("onnx", folder, {}), running.consumer()

    def ask(number: int) -> None:
        length = 13 + number % 4
        ids = np.random.default_rng(number).integers(1, 50, (1, length))
        inputs = {"ids": ids, "mask": np.ones_like(ids)}
        with Client(running.url, key, grpc=running.grpc) as client:
            answer = client.serve.predict("padded", inputs, protocol=protocol)  # type: ignore[arg-type]
        for name, array in engine.infer(inputs).items():
            np.testing.assert_allclose(answer.outputs[name], array, rtol=1e-4, atol=1e-5)

    def many() -> bool:
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(ask, range(48)))
        return any(size > 1 for size in batches(running))

    wait_until(many, 60, "a batch of several lengths")


def test_what_would_change_answers_is_refused(running: Server, tmp_path: Path) -> None:
    deaf = running.push("deaf", save(masked_mean(heeds=False), tmp_path) / "model.onnx")
    with pytest.raises(PaddingRefused, match="no input 'tokens'"):
        running.client.deploy.roll_out("deaf", deaf, limits={"pad": {"tokens": 0}})
    with pytest.raises(RolloutFailed, match="output 'mean' is another"):
        running.client.deploy.roll_out("deaf", deaf, limits={"pad": PAD})
    running.client.deploy.roll_out("deaf", deaf)  # without
