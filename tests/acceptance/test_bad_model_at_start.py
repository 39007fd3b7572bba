"""One damaged model keeps neither the server from starting nor the others from being served."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nets import scaled

from mofang.base.domain.errors import ReplicaUnavailable
from servers import Server

ROW = np.ones((1, 4), np.float32)


@pytest.mark.parametrize("placement", ["process", "thread"])
def test_the_others_are_served_and_the_damaged_one_says_why(
    start_server: Callable[..., Server], tmp_path: Path, placement: str
) -> None:
    server = start_server()
    server.serve("good", scaled(tmp_path / "good", 1), placement=placement)
    server.serve("bad", scaled(tmp_path / "bad", 2), placement=placement)
    sha256 = server.client.register.get_version("bad@1").artifact.files[0].sha256
    assert server.terminate() == 0
    [blob] = [path for path in (server.data / "blobs").rglob("*") if path.is_file() and path.name in sha256]
    blob.chmod(0o600)
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    assert server.start() < 20.0
    assert server.client.serve.predict("good", {"x": ROW}).outputs["y"].tolist() == [[1, 1, 1, 1]]
    with pytest.raises(ReplicaUnavailable, match="bytes"):
        server.client.serve.predict("bad", {"x": ROW})
