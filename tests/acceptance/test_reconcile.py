"""The ledger agrees with what engines counted by themselves, on both placements, also after a worker was killed; and
what was forged in the ledger is found."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from nets import scaled

from mofang import Client
from mofang.base.domain.errors import OutOfReach
from servers import Server, wait_until

ROWS = (1, 3, 2)
PLACEMENTS = ("thread", "process")
ENDPOINTS = (*PLACEMENTS, "cached")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"), "--gateways", "2")
    for placement in PLACEMENTS:
        running.serve(placement, scaled(tmp_path_factory.mktemp(placement), 2), placement=placement)
    running.serve("cached", scaled(tmp_path_factory.mktemp("cached"), 2), limits={"cache_bytes": 1 << 20})
    for tenant in ("acme", "zoo"):
        running.client.identity.create_tenant(tenant)
        running.client.identity.create_project(tenant, tenant)
    yield running
    running.close()


def ask(server: Server, tenant: str, times: int) -> None:
    """Ask both endpoints over both protocols, several clients at a time so that some travel together."""
    key = server.client.identity.create_key(tenant).key

    def one(number: int) -> None:
        with Client(server.url, key, grpc=server.grpc) as client:
            for endpoint in ENDPOINTS:
                x = np.ones((ROWS[number % 3], 4), np.float32)
                client.serve.predict(endpoint, {"x": x}, protocol="grpc" if number % 2 else "rest")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, range(times)))


def test_the_difference_is_zero_and_what_is_forged_is_found(server: Server) -> None:
    ask(server, "acme", 30)
    ask(server, "zoo", 12)
    worker = server.process("replica/process/")
    os.kill(worker.pid, signal.SIGKILL)
    wait_until(lambda: server.process("replica/process/").pid not in (0, worker.pid), 20)
    ask(server, "acme", 6)

    found = server.client.meter.reconcile()
    assert found.since is not None
    assert [each for each in found.items if each.difference] == []
    counted = {(each.endpoint, each.tenant, each.meter): each.counted for each in found.items}
    for endpoint in ENDPOINTS:
        assert counted[endpoint, "acme", "requests"] == 36
        assert counted[endpoint, "acme", "rows"] == 72
        assert counted[endpoint, "zoo", "requests"] == 12
        assert counted[endpoint, "zoo", "compute_us"] > 0

    own = server.client.identity.create_key("zoo", role="auditor", reach="tenant").key
    with Client(server.url, own) as auditor:
        assert {each.tenant for each in auditor.meter.reconcile().items} == {"zoo"}
    narrow = server.client.identity.create_key("zoo", role="auditor").key
    with Client(server.url, narrow) as auditor, pytest.raises(OutOfReach, match="engines count by tenant"):
        auditor.meter.reconcile()

    assert cli(server).returncode == 0
    server.terminate()
    server.start()  # every counter of before is that of the dead now
    assert [each for each in server.client.meter.reconcile().items if each.difference] == []
    forge(server.data)
    told = cli(server)
    assert told.returncode != 0
    assert "the ledger has 5 rows more of 'zoo' at endpoint 'thread'" in told.stderr
    (bad,) = [each for each in json.loads(cli(server, "--json").stdout)["items"] if each["difference"]]
    assert (bad["endpoint"], bad["tenant"], bad["meter"], bad["difference"]) == ("thread", "zoo", "rows", -5)


def cli(server: Server, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("mofang")), "usage", "reconcile", *options]
    environ = {**os.environ, "MOFANG_URL": server.url, "MOFANG_API_KEY": server.key}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def forge(data: Path) -> None:
    """Bill a tenant more rows than she asked for, by hand."""
    with closing(sqlite3.connect(data / "mofang.db")) as database, database:
        changed = database.execute(
            "UPDATE usage_windows SET quantity = quantity + 5 WHERE rowid = (SELECT w.rowid FROM usage_windows w JOIN"
            " usage_series s ON s.id = w.series_id WHERE w.meter = 'rows' AND s.tenant = 'zoo'"
            " AND s.endpoint = 'thread' LIMIT 1)"
        )
        assert changed.rowcount == 1
