from dataclasses import replace

from mofang.base.storage.database import Database
from mofang.make.compress.compare import Comparison, Latency
from mofang.make.compress.store import Variant, VariantStore

COMPARISON = Comparison(100, 0.9, 0.91, 1, 2, 1.0, 50, 100, (Latency(1, 5.0, 4.0, 10.0, 8.0, 100),))
VARIANT = Variant("digits", "sha256:aa", "int8-dynamic", "sha256:bb", "sha256:dd", COMPARISON, "", 3)


def test_variants_come_back_as_they_were_newest_first(database: Database) -> None:
    store = VariantStore(database)
    kept = [
        store.record(variant)
        for variant in (VARIANT, replace(VARIANT, parent="sha256:cc"), replace(VARIANT, refusal="worse", version=0))
    ]
    assert replace(kept[0], id="", created_at=0) == VARIANT
    assert [entry.accepted for entry in kept] == [True, True, False]

    ordered = sorted(kept, key=lambda entry: entry.id, reverse=True)
    assert store.list() == ordered
    assert store.list(before=ordered[0].id, limit=1) == ordered[1:2]
    assert store.list(parent="sha256:cc") == [kept[1]]
