"""`mofang tune` on a real server: measured, kept, and used by a deployment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nets import scaled

from mofang.base.domain.errors import NotTuned
from servers import Server


def test_what_tuning_found_is_how_a_deployment_runs(server: Server, tmp_path: Path) -> None:
    version = server.push("tunable", scaled(tmp_path, 7))
    with pytest.raises(NotTuned):
        server.client.deploy.roll_out("tunable", version, tuned=True)
    job = server.client.jobs.wait(server.client.compress.tune(version, latency_ms=500.0, seconds=1.0).id)
    chosen = job.result["chosen"]
    assert job.result["kept"]
    assert chosen["rows_per_second"] >= 0.95 * max(each["rows_per_second"] for each in job.result["front"])
    server.client.deploy.roll_out("tunable", version, tuned=True, replicas=1)
    active = server.client.deploy.get_endpoint("tunable").active
    assert active is not None
    assert (active.limits.max_batch_rows, dict(active.options)) == (
        chosen["batch_rows"],
        {"threads": chosen["threads"]},
    )
    assert active.replicas == 1  # what is given wins
    x = np.ones((1, 4), np.float32)
    assert server.client.serve.predict("tunable", {"x": x}).outputs["y"].tolist() == [[7.0] * 4]
