"""One server with the real SmolLM2 behind ``smol``, pushed and deployed by the command line as a new user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pushing import CHAINS, Push, contents

from models import SMOLLM2, fetch
from mofang.base.domain.names import VersionRef
from mofang.base.domain.registry import ModelVersion
from mofang.base.domain.work import Silent
from mofang.base.engines.catalog import load_engine
from mofang.base.storage.blobs import DiskBlobs
from mofang.base.storage.database import Database, metadata
from mofang.make.compress.store import VariantStore
from mofang.make.evaluate.store import EvaluationStore
from mofang.make.pipeline import push_files
from mofang.make.prepare.store import DatasetStore
from mofang.make.register.store import Registry
from mofang.make.train.store import RunStore
from mofang.make.workshop import Workshop
from servers import Server

Mofang = Callable[..., str]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def mofang(server: Server) -> Mofang:
    """Run the command line against the server; return what it prints."""

    def run(*arguments: str, typed: str = "") -> str:
        command = [str(Path(sys.executable).with_name("mofang")), *arguments]
        environ = {**os.environ, "MOFANG_DATA": str(server.data), "NO_COLOR": "1"}
        done = subprocess.run(command, env=environ, input=typed, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def smol(server: Server, mofang: Mofang) -> Server:
    """The server, with the model deployed."""
    mofang("push", "smol", str(fetch(SMOLLM2)))
    assert json.loads(mofang("deploy", "smol", "--json"))["state"] == "done"
    return server


@pytest.fixture
def tools(tmp_path: Path) -> Iterator[Workshop]:
    database = Database(f"sqlite:///{tmp_path / 'mofang.db'}")
    with database.write() as connection:
        metadata.create_all(connection)
    blobs = DiskBlobs(tmp_path / "blobs")
    stores = (DatasetStore, RunStore, EvaluationStore, VariantStore)
    datasets, runs, evaluations, variants = (store(database) for store in stores)
    yield Workshop(
        blobs,
        datasets,
        runs,
        evaluations,
        variants,
        Registry(database, blobs),
        tmp_path / "scratch",
        toolchains=CHAINS,
    )
    database.close()


@pytest.fixture
def push(tools: Workshop, tmp_path: Path) -> Push:
    """Push bytes; return the version and what asks its engine."""

    def run(content: bytes | Path, **wishes: Any) -> tuple[ModelVersion, Any]:
        files = []
        for path, read in contents(content).items():
            ref = tools.blobs.put([read])
            files.append({"path": path, "sha256": ref.sha256, "size_bytes": ref.size_bytes})
        push_files({"model": "pushed", "files": files, "wishes": wishes}, tools, Silent())
        version = tools.registry.get(VersionRef.parse("pushed"))
        folder = tools.registry.folder(version, tmp_path / "served")
        return version, load_engine(version.artifact.engine, folder).infer

    return run
