"""Endpoints as rollouts leave them, written into the stores of a server that is down: in seconds rather than an hour.

What registering and deploying through the front door costs is measured with a few models; the others come from here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from nets import save

from mofang.base.domain.deployment import ReplicaLimits
from mofang.base.domain.registry import Artifact, FileEntry, Lineage
from mofang.base.engines.catalog import load_engine
from mofang.run.deploy.deployments import Deployments
from mofang.surface.server.settings import Settings
from mofang.surface.server.wiring import open_stores


def fill(data: Path, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Have endpoints, by name, of a model of that number and size in bytes, all of them loaded on demand."""
    stores = open_stores(Settings.load({}, data=data))
    deployments = Deployments(stores.deployments)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for name, (number, size) in sizes.items():
            save(number, size, path)
            kept = stores.blobs.put_file(path)
            engine = load_engine("onnx", path.parent)
            artifact = Artifact("onnx", (FileEntry(path.name, kept.sha256, kept.size_bytes),), engine.signature)
            engine.close()
            version, _ = stores.registry.register(name, artifact, Lineage("push"))
            rollout = deployments.deploy(name, version, limits=ReplicaLimits(on_demand=True))
            stores.deployments.move_rollout(rollout.id, "draining")  # the switch
            stores.deployments.move_rollout(rollout.id, "done")
    stores.database.close()
