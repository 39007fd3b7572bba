"""Datasets in the database."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from mofang.base.domain.access import Scope
from mofang.base.domain.errors import DatasetNotFound
from mofang.base.storage.database import Database
from mofang.make.prepare.dataset import Dataset
from mofang.make.prepare.store import DatasetStore

SHOP, LAB = Scope("acme", "shop"), Scope("rival", "lab")


def test_the_same_content_tells_no_project_of_another(database: Database, prepared: Callable[..., Dataset]) -> None:
    store = DatasetStore(database)
    first = replace(prepared("sklearn:iris"), name="flowers", source="csv:/acme/secret.csv", created_at=5)
    second = replace(first, name="iris", source="csv:/rival/iris.csv", removed={"duplicate": 3}, created_at=9)
    for scope, dataset in ((SHOP, first), (LAB, second)):
        with database.acting(scope):
            assert store.find(first.digest) is None
            assert store.record(dataset) == dataset
            assert store.get(first.digest) == dataset
            assert store.list() == [dataset]
    for scope, seen in ((Scope("acme", "x", "tenant"), first), (Scope("rival", "x", "tenant"), second)):
        with database.acting(scope):
            assert (store.get(first.digest), store.list()) == (seen, [seen])
    assert store.get(first.digest) == first, "who sees both sees the first"
    assert store.list() == [first]
    with database.acting(Scope("rival", "other")):
        assert (store.find(first.digest), store.list()) == (None, [])


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
