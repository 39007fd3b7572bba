"""A workshop on real stores."""

from __future__ import annotations

from pathlib import Path

import pytest
from watched import Watched

from mofang.base.storage.blobs import DiskBlobs
from mofang.base.storage.database import Database
from mofang.make.compress.store import VariantStore
from mofang.make.evaluate.store import EvaluationStore
from mofang.make.prepare.store import DatasetStore
from mofang.make.register.store import Registry
from mofang.make.train.store import RunStore
from mofang.make.workshop import Workshop


@pytest.fixture
def progress() -> Watched:
    return Watched()


@pytest.fixture
def tools(database: Database, tmp_path: Path) -> Workshop:
    blobs = DiskBlobs(tmp_path / "blobs")
    return Workshop(
        blobs=blobs,
        datasets=DatasetStore(database),
        runs=RunStore(database),
        evaluations=EvaluationStore(database),
        variants=VariantStore(database),
        registry=Registry(database, blobs),
        scratch=tmp_path / "scratch",
        job="job_1",
        timing_seconds=0.05,
    )
