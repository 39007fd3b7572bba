"""A01, short form: switching versions under load loses nothing, and an acknowledged switch is one."""

import time
from pathlib import Path

import pytest
from loads import Load
from nets import scaled
from servers import Server, wait_until


@pytest.fixture(scope="module")
def two_versions(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Endpoint ``scale``: version 1 multiplies by 1, version 2 by 2."""
    folder = tmp_path_factory.mktemp("models")
    server.serve("scale", scaled(folder / "one", 1))
    server.push("scale", scaled(folder / "two", 2))
    return server


@pytest.mark.parametrize("placement", ["process", "thread"])
def test_switches_and_rollbacks_under_load_fail_no_request(two_versions: Server, placement: str, tmp_path: Path) -> None:
    deploy = two_versions.client.deploy
    deploy.roll_out("scale", "scale@1", placement=placement)  # type: ignore[arg-type]
    switches = []
    with Load(two_versions, "scale", clients=8) as load:
        wait_until(lambda: sum(load.answers.values()) > 50, 20)
        for version in (2, 1, 2):
            if version == 1:
                deploy.roll_back("scale")
            else:
                deploy.roll_out("scale", f"scale@{version}", placement=placement)  # type: ignore[arg-type]
            switches.append((time.monotonic(), version))
            before = sum(load.answers.values())
            wait_until(lambda before=before: sum(load.answers.values()) > before + 30, 20)  # type: ignore[misc]
    assert load.failures == []
    assert load.wrong == 0
    assert set(load.answers) == {1, 2}
    switches.append((float("inf"), 0))
    for (acknowledged, version), (following, _) in zip(switches, switches[1:], strict=False):
        late = [seen for sent, _, seen in load.log if acknowledged < sent and _ < following]
        assert set(late) <= {version} or following != float("inf")
    final, version = switches[-2]
    assert {seen for sent, _, seen in load.log if sent > final} == {version}
    replies_after = {seen for _, answered, seen in load.log if answered > final + 0.01}
    assert replies_after == {version}


def test_usage_of_the_load_is_complete_and_tied_to_digests(two_versions: Server) -> None:
    digests = {v.number: v.digest for v in two_versions.client.register.list_versions("scale")}
    with Load(two_versions, "scale", clients=4) as load:
        wait_until(lambda: sum(load.answers.values()) > 100, 20)
    events = [event for event in two_versions.client.meter.list_events() if event.meter == "requests"]
    billed: dict[str, int] = {}
    for event in events:
        billed[event.digest] = billed.get(event.digest, 0) + event.quantity
    assert set(billed) <= set(digests.values())
    assert len({event.request_id for event in events}) == len(events)
    assert sum(billed.values()) >= sum(load.answers.values())
