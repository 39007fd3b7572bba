"""A15 in its long form: a hundred models come and go for half an hour (``make soak MINUTES=30``), and nothing grows;
an engine that leaks is found by the same look."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from nets import scaled

import soaking
from servers import Server
from soaking import STEADY, Soak, growing, soak

MINUTES = float(os.environ.get("MINUTES", "5"))
PAUSE = float(os.environ.get("PAUSE", "0"))  # seconds that a client rests after a cycle, and others have the machine
TESTS = Path(soaking.__file__).parent
LEAK_BYTES = 20_000  # of each call; a cycle asks the endpoint that stays once


def soaked(folder: Path, models: int, seconds: float, **environ: str) -> Soak:
    """Serve so many models on demand, with memory for none, and one that stays; ask them all in turn."""
    (folder / "tmp").mkdir()
    environ |= {"MOFANG_ON_DEMAND_BYTES": "1", "TMPDIR": str(folder / "tmp"), "XDG_RUNTIME_DIR": str(folder)}
    with closing(Server(folder / "data", environ=environ)) as server:
        server.serve(STEADY, scaled(folder, 1))
        names = [f"m{number:03}" for number in range(models)]
        for number, name in enumerate(names):
            server.serve(name, scaled(folder / name, number), limits={"on_demand": True})
        return soak(server, names, seconds, every=max(0.5, seconds / 600), pause=PAUSE)


@pytest.mark.timeout(0)
def test_a_hundred_models_come_and_go_and_nothing_grows(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seen = soaked(tmp_path, 100, 60 * MINUTES)
    record_property("cycles", seen.cycles)
    for process, slope in soaking.slopes(seen).items():
        record_property(process, f"{slope / 1e6:+.2f} MB in 1000 cycles")
    assert seen.failures == []
    assert growing(seen) == []


def test_an_engine_that_leaks_is_found(tmp_path: Path) -> None:
    paths = os.pathsep.join(str(TESTS / name) for name in ("leaking", "failpoints"))
    seen = soaked(tmp_path, 3, 60, PYTHONPATH=paths, MOFANG_TEST_LEAK_BYTES=str(LEAK_BYTES))
    assert seen.failures == []
    [found] = [each for each in growing(seen) if each.startswith(f"replica/{STEADY}/")]
    bytes_a_cycle = float(found.split(": ")[1].split()[0].replace(",", ""))
    assert LEAK_BYTES / 2 < bytes_a_cycle < 2 * LEAK_BYTES
