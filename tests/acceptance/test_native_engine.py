"""A model kept in its own framework is served like any other, and a wrong database is refused with its reason."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mofang.base.domain.deployment import PlacementName
from mofang.base.domain.registry import ModelVersion
from mofang.surface.server.folders import DataDirectory
from servers import Server

NATIVE = """
name = "native"
[prepare]
source = ["sklearn:digits"]
[train]
algorithm = "random_forest"
trees = 10
[convert]
format = "skops"
"""


@pytest.fixture(scope="module")
def version(server: Server) -> ModelVersion:
    job = server.client.jobs.wait(server.client.train.run(NATIVE, filename="native.toml").id)
    return server.client.register.get_version(f"native@{job.result['version']}")


@pytest.mark.parametrize("placement", ["process", "thread"])
def test_a_native_model_is_served(server: Server, version: ModelVersion, placement: PlacementName) -> None:
    assert version.artifact.engine == "sklearn"
    server.client.deploy.roll_out("native", str(version), placement=placement)
    answer = server.client.serve.predict("native", {"features": np.zeros((2, 64), np.float32)})
    assert answer.outputs["label"].shape == (2,)
    np.testing.assert_allclose(answer.outputs["probabilities"].sum(axis=1), 1.0, rtol=1e-5)


def test_the_admin_key_is_not_overwritten_for_another_database(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    key = server.key
    server.close()
    other = f"sqlite:///{tmp_path / 'other.db'}"
    command = [str(Path(sys.executable).with_name("mofang")), "up", "--data", str(server.data)]
    refused = subprocess.run(
        [*command, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"],
        env={"MOFANG_DATABASE": other, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode == 2
    assert "error[settings.invalid]: the database is new, but" in refused.stderr
    assert DataDirectory(server.data).admin_key.read_text().strip() == key
    server.start()
    assert server.client.operate.is_ready()
    server.close()
