"""Workers of larger engines compute after a fork: on real models, born of a nursery of their own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import openai
import pytest

from forks import fork
from models import MINILM_INT8, MINILM_TOKENIZER, SPEECH, WHISPER_TINY, fetch, fetch_debian
from servers import Server

ROUNDS = 3
Ask = Callable[[openai.OpenAI, str], object]


@pytest.mark.parametrize("engine", ["catboost", "vowpalwabbit"])
def test_engines_compute_after_a_fork(engine: str) -> None:
    fork(engine)


@pytest.fixture(scope="module")
def nurseries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    environ = {"MOFANG_NURSERIES": "2", "MOFANG_ON_DEMAND_BYTES": "1"}  # each is unloaded as soon as it is idle
    with closing(Server(tmp_path_factory.mktemp("nurseries") / "data", environ=environ)) as server:
        yield server


def embed(client: openai.OpenAI, model: str) -> object:
    return client.embeddings.create(model=model, input=["a fork", "a spoon"], encoding_format="float").data[1].embedding


def hear(client: openai.OpenAI, model: str) -> object:
    speech = fetch_debian(SPEECH).read_bytes()
    return client.audio.transcriptions.create(model=model, file=("a.wav", speech)).text


@pytest.mark.parametrize(
    ("engine", "files", "ask"), [("encoder", (MINILM_INT8, MINILM_TOKENIZER), embed), ("whisper", WHISPER_TINY, hear)]
)
def test_workers_that_are_born_answer_as_others_do(
    nurseries: Server, tmp_path: Path, engine: str, files: tuple[object, ...], ask: Ask
) -> None:
    for pinned in files:
        shutil.copy(fetch(pinned), tmp_path)  # type: ignore[arg-type]
    job = nurseries.client.jobs.wait(nurseries.client.register.push(engine, tmp_path, engine=engine).id)
    version, deploy = f"{engine}@{job.result['version']}", nurseries.client.deploy
    client = openai.OpenAI(base_url=f"{nurseries.url}/v1", api_key=nurseries.key, max_retries=0)
    deploy.roll_out(engine, version)
    expected = ask(client, engine)
    deploy.roll_out(engine, version, limits={"on_demand": True})
    born = 0
    for _ in range(20):
        assert ask(client, engine) == expected
        (worker,) = [each for each in nurseries.client.operate.status().processes if f"replica/{engine}/2" in each.name]
        born += b"mofang.surface.server.nursery" in Path(f"/proc/{worker.pid}/cmdline").read_bytes()
        if born == ROUNDS:
            return
        time.sleep(4)  # it is unloaded
    raise AssertionError(f"of twenty workers {born} were born")
