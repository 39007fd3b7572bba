"""A02: a version that cannot serve is refused; the old one serves on, and the reason is on record."""

from pathlib import Path

import pytest
from loads import Load
from nets import poisoned, scaled

from mofang.base.domain.errors import JobFailed, MofangError, RolloutFailed
from servers import Server


@pytest.fixture(scope="module")
def serving(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    server.serve("scale", scaled(tmp_path_factory.mktemp("models"), 1))
    return server


def blob_of(server: Server, reference: str) -> Path:
    sha256 = server.client.register.get_version(reference).artifact.files[0].sha256
    [path] = [path for path in (server.data / "blobs").rglob("*") if path.is_file() and sha256[4:] in path.name]
    return path


@pytest.mark.parametrize("placement", ["process", "thread"])
def test_a_version_whose_warm_up_is_not_finite_is_refused(serving: Server, placement: str, tmp_path: Path) -> None:
    reference = serving.push("scale", poisoned(tmp_path))
    with Load(serving, "scale", clients=4) as load:
        load.wait_for_more(20)
        with pytest.raises(RolloutFailed, match="not finite"):
            serving.client.deploy.roll_out("scale", reference, placement=placement)  # type: ignore[arg-type]
    assert load.failures == []
    assert set(load.answers) == {1}
    detail = serving.client.deploy.get_endpoint("scale")
    assert detail.rollouts[0].state == "failed"
    assert "engine.warm_up" in detail.rollouts[0].reason
    assert detail.active is not None
    assert detail.active.version == 1


def test_a_version_whose_stored_bytes_were_changed_is_refused(serving: Server, tmp_path: Path) -> None:
    reference = serving.push("scale", scaled(tmp_path, 7))
    path = blob_of(serving, reference)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with Load(serving, "scale", clients=4) as load:
        load.wait_for_more(20)
        with pytest.raises(RolloutFailed, match="bytes"):
            serving.client.deploy.roll_out("scale", reference)
    assert load.failures == []
    assert serving.client.deploy.get_endpoint("scale").rollouts[0].state == "failed"


def test_a_corrupt_file_does_not_become_a_version(serving: Server, tmp_path: Path) -> None:
    whole = scaled(tmp_path, 3).read_bytes()
    for name, content in (("cut", whole[: len(whole) // 2]), ("text", b"no model at all"), ("empty", b"")):
        file = tmp_path / f"{name}.onnx"
        file.write_bytes(content)
        with pytest.raises(MofangError) as caught:
            serving.push("corrupt", file)
        assert caught.value.code in ("model.invalid", "model.format", "job.failed")
        assert not isinstance(caught.value, JobFailed) or "model" in str(caught.value)
    assert "corrupt" not in [model.name for model in serving.client.register.list_models()]
