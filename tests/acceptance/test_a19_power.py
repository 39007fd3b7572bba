"""A19: with durability `power` no byte of an answer leaves before a sync that covers its usage has ended.

Watched from outside, by strace: every write to the journal names its requests, every answer names its own.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from nets import scaled

from mofang import Client
from servers import Server, wait_until

_REQUEST = re.compile(r"req_[0-9a-z]{26}")
_LINE = re.compile(r"(?P<pid>\d+) +(?:<\.\.\. (?P<resumed>\w+) resumed>|(?P<call>\w+)\()(?P<rest>.*)")
_CALLS = "write,writev,sendto,sendmsg,fdatasync,fsync"


@dataclass
class Watch:
    """What strace told, replayed: which requests were written, which are covered, which answered too early."""

    written: set[str] = field(default_factory=set)  # the write has ended
    covered: set[str] = field(default_factory=set)  # a sync that began after that has ended
    answered: Counter[str] = field(default_factory=Counter)
    early: list[str] = field(default_factory=list)
    syncs: int = 0
    _begun: dict[str, tuple[str, set[str]]] = field(default_factory=dict)  # by thread: its call, and what it is about

    def take(self, line: str) -> None:
        found = _LINE.match(line)
        if found is None:
            return
        pid, rest = found["pid"], found["rest"]
        call = found["call"]
        if call is not None:
            about = set(self.written) if call in ("fdatasync", "fsync") else set(_REQUEST.findall(rest))
            if ".journal" not in rest and "HTTP/1.1 200" in rest:
                self._answer(about)
            self._begun[pid] = (call if ".journal" in rest else "", about)
        if not rest.endswith("<unfinished ...>") and pid in self._begun:
            self._end(*self._begun.pop(pid), rest)

    def _answer(self, requests: set[str]) -> None:
        self.answered.update(requests)
        self.early += sorted(requests - self.covered)

    def _end(self, call: str, about: set[str], rest: str) -> None:
        if call in ("write", "writev"):
            self.written |= about
        elif call in ("fdatasync", "fsync"):
            assert rest.endswith("= 0"), rest
            self.covered |= about
            self.syncs += 1


@contextmanager
def watched(pid: int, log: Path) -> Iterator[Watch]:
    """Watch what a process writes and syncs."""
    strace = shutil.which("strace")
    assert strace, "strace is not installed, and only it can tell in which order bytes leave: apt-get install strace"
    command = [strace, "-f", "-y", "-s", "1000000", "-e", f"trace={_CALLS}", "-o", str(log), "-p", str(pid)]
    watch = Watch()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        assert "attached" in said, said
        try:
            yield watch
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(20)
    for line in log.read_text().splitlines():
        watch.take(line)


@pytest.mark.parametrize("durability", ["power", "process"])
def test_a19_no_answer_leaves_before_the_sync_that_covers_it(
    durability: str, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = start_server(MOFANG_DURABILITY=durability)
    server.serve("scale", scaled(tmp_path, 2))
    key = server.consumer()

    def ask(_: int) -> None:
        with Client(server.url, key, grpc=server.grpc) as client:
            for _ in range(10):
                client.serve.predict("scale", {"x": np.ones((1, 4), np.float32)}, protocol="rest", timeout_seconds=60)

    ask(0)
    log = tmp_path / "strace.txt"
    with watched(server.process("gateway-").pid, log) as watch:
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(ask, range(6)))
        wait_until(lambda: log.read_text().count("HTTP/1.1 200") >= 60, 20)
    assert sum(watch.answered.values()) >= 60
    assert watch.answered.keys() >= watch.written
    if durability == "power":
        assert watch.early == []
        assert 0 < watch.syncs < 60  # shared
    else:
        assert len(watch.early) >= 60  # the test can tell
        assert watch.syncs == 0
