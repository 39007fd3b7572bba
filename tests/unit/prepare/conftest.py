"""Blobs, and a way to prepare one source."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mofang.base.domain.work import Silent
from mofang.base.storage.blobs import DiskBlobs
from mofang.make.prepare.dataset import Dataset
from mofang.make.prepare.prepare import prepare
from mofang.make.recipe import Prepare

Preparer = Callable[..., Dataset]


@pytest.fixture
def blobs(tmp_path: Path) -> DiskBlobs:
    return DiskBlobs(tmp_path / "blobs")


@pytest.fixture
def prepared(blobs: DiskBlobs) -> Preparer:
    def run(*sources: str, **settings: Any) -> Dataset:
        return prepare(Prepare(source=sources, **settings), blobs, Silent())

    return run
