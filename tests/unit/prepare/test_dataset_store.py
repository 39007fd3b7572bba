"""Datasets in the database."""

from collections.abc import Callable

import pytest

from mofang.base.domain.errors import DatasetNotFound
from mofang.base.storage.database import Database
from mofang.make.prepare.dataset import Dataset
from mofang.make.prepare.store import DatasetStore


def test_datasets_come_back_whole_and_are_recorded_once(database: Database, prepared: Callable[..., Dataset]) -> None:
    store = DatasetStore(database)
    iris, again, limited = prepared("sklearn:iris"), prepared("sklearn:iris"), prepared("sklearn:iris", limit=60)
    assert store.record(iris) == iris
    assert store.record(again) == iris
    assert store.record(limited) == limited
    assert store.get(limited.digest) == limited
    assert store.list() == [limited, iris]
    assert store.list(limit=1) == [limited]
    with pytest.raises(DatasetNotFound, match="sha256:00"):
        store.get("sha256:00")
