"""A01, short form: switching versions under load loses nothing, and an acknowledged switch is one."""

import time

import pytest
from loads import Load
from nets import scaled

from mofang.base.domain.deployment import PlacementName
from servers import Server

NOTED_SECONDS = 0.05  # the threads of this process take turns: what has come may be noted after the acknowledgement


@pytest.fixture(scope="module")
def two_versions(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Endpoint ``scale``: version 1 multiplies by 1, version 2 by 2."""
    folder = tmp_path_factory.mktemp("models")
    server.serve("scale", scaled(folder / "one", 1))
    server.push("scale", scaled(folder / "two", 2))
    return server


@pytest.mark.parametrize("placement", ["process", "thread"])
def test_switches_and_rollbacks_under_load_fail_no_request(two_versions: Server, placement: PlacementName) -> None:
    deploy = two_versions.client.deploy
    deploy.roll_out("scale", "scale@1", placement=placement)
    phases: list[tuple[float, float, int]] = []  # switch acknowledged, next one begun, version between
    with Load(two_versions, "scale", clients=8) as load:
        load.wait_for_more(50)
        for version in (2, 1, 2):
            if version == 1:
                deploy.roll_back("scale")
            else:
                deploy.roll_out("scale", f"scale@{version}", placement=placement)
            acknowledged = time.monotonic()
            load.wait_for_more(60)
            phases.append((acknowledged, time.monotonic(), version))
    assert load.failures == []
    assert load.wrong == 0
    for acknowledged, begun, version in phases:
        asked = {seen for sent, answered, seen in load.log if acknowledged < sent and answered < begun}
        came = {seen for _, answered, seen in load.log if acknowledged + NOTED_SECONDS < answered < begun}
        assert asked | came == {version}, "after the acknowledgement no reply may come from the old version"


def test_usage_of_the_load_is_complete_and_tied_to_digests(two_versions: Server) -> None:
    digests = {v.number: v.digest for v in two_versions.client.register.list_versions("scale")}
    with Load(two_versions, "scale", clients=4) as load:
        load.wait_for_more(100)
    events = [event for event in two_versions.client.meter.events() if event.meter == "requests"]
    billed: dict[str, int] = {}
    for event in events:
        billed[event.digest] = billed.get(event.digest, 0) + event.quantity
    assert set(billed) <= set(digests.values())
    assert len({event.request_id for event in events}) == len(events)
    assert sum(billed.values()) >= sum(load.answers.values())
