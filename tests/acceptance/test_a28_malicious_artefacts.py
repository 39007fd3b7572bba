"""A28 over the API: hostile files are refused or opened locked in; the sentinel stays absent, the canary unheard."""

import pickle
import socket
from pathlib import Path

import pytest

from hostile import artefacts
from mofang.base.domain.errors import JobFailed, MofangError
from mofang.surface.sdk.register import Wishes
from servers import Server


@pytest.mark.parametrize("allow_pickle", [False, True])
def test_hostile_files_leave_no_mark_on_a_server(server: Server, tmp_path: Path, allow_pickle: bool) -> None:
    sentinel = tmp_path / "sentinel"
    with socket.create_server(("127.0.0.1", 0)) as canary:
        canary.setblocking(False)
        port = canary.getsockname()[1]
        wanted = (
            "shell in pickle 4",
            "connection in zlib",
            "library in xz",
            "os.system in skops",
            "eval in a state dict",
        )
        chosen = {name: content for name, content in artefacts(sentinel, port) if name in wanted}
        assert len(chosen) == len(wanted)
        for name, content in chosen.items():
            path = tmp_path / "model.onnx"
            path.write_bytes(content)
            job = server.client.register.push("hostile", path, wishes=Wishes(allow_pickle=allow_pickle))
            with pytest.raises((JobFailed, MofangError)):
                server.client.jobs.wait(job.id)
            assert not sentinel.exists(), name
        with pytest.raises(BlockingIOError):
            canary.accept()
    assert [model.name for model in server.client.register.list_models()] == []


def test_an_allowed_pickle_is_served_as_onnx(server: Server, tmp_path: Path) -> None:
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    features, target = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(features, target)
    (tmp_path / "iris.pkl").write_bytes(pickle.dumps(model))
    job = server.client.register.push("iris", tmp_path / "iris.pkl", wishes=Wishes(allow_pickle=True))
    version = server.client.register.get_version(f"iris@{server.client.jobs.wait(job.id).result['version']}")
    assert version.artifact.engine == "onnx"
    server.client.deploy.roll_out("iris", str(version))
    answer = server.client.serve.predict("iris", {"features": features[:9].astype("float32")})
    assert answer.outputs["label"].tolist() == model.predict(features[:9]).tolist()
