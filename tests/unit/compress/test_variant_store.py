from dataclasses import replace

from sqlalchemy import insert

from comparisons import comparison
from mofang.base.storage.database import Database
from mofang.make.compress.store import Variant, VariantStore, variants

VARIANT = Variant("digits", "sha256:aa", "int8-dynamic", "sha256:bb", "sha256:dd", comparison(0.01), "", 3, "job_1")


def test_candidates_come_back_as_they_were_newest_first(database: Database) -> None:
    store = VariantStore(database)
    kept = store.record([VARIANT, replace(VARIANT, refusal="it has no weights", comparison=None, digest="", version=0)])
    assert replace(kept[0], id="", created_at=0) == VARIANT
    assert [entry.accepted for entry in kept] == [True, False]
    (other,) = store.record([replace(VARIANT, parent="sha256:cc", job="job_2", is_picked=True, told="int8 dynamic")])
    assert store.list() == [other, *kept[::-1]]
    assert store.list(before=kept[1].id, limit=1) == kept[:1]
    assert store.list(parent="sha256:cc") == [other]


def test_the_newest_search_is_told_in_the_order_it_went(database: Database) -> None:
    store = VariantStore(database)
    store.record([VARIANT])
    again = store.record([replace(VARIANT, job="job_2", technique=f"number-{index}") for index in range(30)])
    assert [each.technique for each in store.newest("sha256:aa")] == [f"number-{index}" for index in range(30)]
    assert store.newest("sha256:aa") == again
    assert store.newest("sha256:ee") == []


def test_a_search_that_ends_twice_is_kept_once(database: Database) -> None:
    store = VariantStore(database)
    store.record([VARIANT, VARIANT])
    second = store.record([VARIANT])
    assert store.list() == second


def test_what_an_earlier_release_kept_is_still_told(database: Database) -> None:
    stored = (
        '{"accuracy":0.9,"latencies":[{"batch":1,"median_us":5.0,"minimum_us":4.0,"parent_median_us":10.0,'
        '"parent_minimum_us":8.0,"rounds":100}],"only_parent_right":2,"only_variant_right":1,"p_value":1.0,'
        '"parent_accuracy":0.91,"parent_size_bytes":100,"rows":100,"size_bytes":50}'
    )
    row = {"id": "var_1", "model": "digits", "parent": "sha256:aa", "technique": "int8-dynamic", "digest": "sha256:bb"}
    with database.write() as connection:
        values = {**row, "dataset": "sha256:dd", "comparison": stored, "refusal": "", "version": 2, "created_at": 1}
        connection.execute(insert(variants).values(**values))
    (found,) = VariantStore(database).newest("sha256:aa")
    assert found.comparison is not None
    assert (found.comparison.quality.value, found.comparison.one.ratio, found.comparison.size_ratio) == (0.9, 0.5, 0.5)
