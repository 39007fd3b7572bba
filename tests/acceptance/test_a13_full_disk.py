"""A13, usage: where the disk of the journal is full, nobody is answered for nothing; with room again all goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from nets import scaled

from mofang import Client
from mofang.base.domain.errors import MofangError
from servers import Server, wait_until

ON_ITS_OWN_DISK = 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"'
"""For a shell in a mount namespace of its own: the journal's folder becomes a disk of one MiB of the server's own."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    journal = tmp_path / "data" / "journal"
    journal.mkdir(parents=True)
    through = ["unshare", "--map-root-user", "--mount", "sh", "-c", ON_ITS_OWN_DISK, str(journal)]
    running = Server(tmp_path / "data", through=through)
    running.serve("scale", scaled(tmp_path, 2))
    yield running
    running.close()


def test_a13_a_full_disk_refuses_what_cannot_be_billed(server: Server) -> None:
    key = server.consumer()
    disk = Path(f"/proc/{server.process('gateway-').pid}/root{server.data / 'journal'}")
    before = server.process("gateway-").pid, server.process("controller").pid
    outcomes: Counter[str] = Counter()

    def ask(count: int) -> Counter[str]:
        now: Counter[str] = Counter()
        with Client(server.url, key, grpc=server.grpc) as client:
            for number in range(count):
                protocol = "grpc" if number % 2 else "rest"
                try:
                    client.serve.predict("scale", {"x": np.ones((1, 4), np.float32)}, protocol=protocol)  # type: ignore[arg-type]
                except MofangError as error:
                    now[error.code] += 1
                else:
                    now["ok"] += 1
        outcomes.update(now)
        return now

    assert ask(10) == {"ok": 10}
    _fill(disk / "filler")
    full = ask(400)  # what is left of a page that the journal has already begun may still take some
    assert set(full) == {"ok", "storage.full"}
    assert full["storage.full"] > 300
    (disk / "filler").unlink()
    wait_until(lambda: ask(1) == {"ok": 1}, 20)
    assert ask(10) == {"ok": 10}
    assert (server.process("gateway-").pid, server.process("controller").pid) == before  # without a restart
    (row,) = server.client.meter.usage(["project"], project="default").items
    assert row.quantities["requests"] == outcomes["ok"]


def _fill(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 512)
