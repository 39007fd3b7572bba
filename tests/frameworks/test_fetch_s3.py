"""Data from a real S3 server on this machine: one object, a folder, and what is not there."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mofang.base.domain.errors import DatasetUnavailable
from mofang.base.domain.work import Silent
from mofang.base.storage.blobs import DiskBlobs
from mofang.make.prepare.prepare import prepare
from mofang.make.recipe import Prepare

ROWS = "a,target\n" + "".join(f"{n},{n % 2}\n" for n in range(500))


SERVER = """
import time
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
server.start()
print("port", server.get_host_and_port()[1], flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start moto's server, and fill a bucket; the environment names it, as an operator would."""
    log = tmp_path_factory.mktemp("s3") / "log"
    with log.open("w") as errors, pytest.MonkeyPatch.context() as patch:
        command = [sys.executable, "-c", SERVER]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            assert process.stdout is not None
            port = next(line.split()[1] for line in process.stdout if line.startswith("port "))
            endpoint = f"http://127.0.0.1:{port}"
            secrets = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
            for name, value in {"AWS_ENDPOINT_URL": endpoint, **secrets}.items():
                patch.setenv(name, value)
            _fill(endpoint)
            yield "s3://data"
            process.kill()


def _fill(endpoint: str) -> None:
    with httpx.Client(base_url=endpoint, transport=httpx.HTTPTransport(retries=10)) as client:
        client.put("/data").raise_for_status()
        client.put("/data/tables/rows.csv", content=ROWS.encode()).raise_for_status()
        for label in ("good", "bad"):
            for number in range(8):
                text = f"this is {label} text number {number}".encode()
                client.put(f"/data/texts/{label}/{number}.txt", content=text).raise_for_status()


def test_an_object_and_a_folder_are_read(bucket: str, tmp_path: Path) -> None:
    table = prepare(Prepare(source=f"{bucket}/tables/rows.csv"), DiskBlobs(tmp_path), Silent(), tmp_path)
    assert sum(split.rows for split in table.splits.values()) == 500
    texts = prepare(Prepare(source=f"{bucket}/texts/"), DiskBlobs(tmp_path), Silent(), tmp_path)
    assert texts.schema.labels == ("bad", "good")


@pytest.mark.parametrize("key", ["tables/none.csv", "nothing/"])
def test_what_is_not_there_is_unavailable(bucket: str, tmp_path: Path, key: str) -> None:
    with pytest.raises(DatasetUnavailable):
        prepare(Prepare(source=f"{bucket}/{key}"), DiskBlobs(tmp_path), Silent(), tmp_path)
