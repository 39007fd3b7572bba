import numpy as np
import pytest

from mofang.base.domain.errors import EvaluationNotFound
from mofang.base.storage.database import Database
from mofang.make.evaluate.metrics import score
from mofang.make.evaluate.report import Report
from mofang.make.evaluate.store import EvaluationStore


def _report(*failures: str) -> Report:
    scores = score(np.array([0, 1, 1]), np.array([0, 1, 0]), ("a", "b"))
    return Report(scores, 0.125, "accuracy >= 0.9" if failures else "", failures)


def test_a_report_comes_back_as_it_was(database: Database) -> None:
    store = EvaluationStore(database)
    kept = store.record("digits", "sha256:aa", "sha256:dd", _report("accuracy 0.6667 < 0.9"))
    assert store.get(kept.id) == kept
    assert kept.report == _report("accuracy 0.6667 < 0.9")
    assert not kept.report.passed


def test_lists_are_newest_first_and_go_on_where_they_ended(database: Database) -> None:
    store = EvaluationStore(database)
    digests = ["sha256:aa", "sha256:bb", "sha256:aa"]
    ids = sorted((store.record("m", digest, "sha256:dd", _report()).id for digest in digests), reverse=True)
    assert [entry.id for entry in store.list()] == ids
    assert {entry.digest for entry in store.list(digest="sha256:aa")} == {"sha256:aa"}
    assert len(store.list(digest="sha256:aa")) == 2
    assert [entry.id for entry in store.list(before=ids[0], limit=1)] == ids[1:2]


def test_an_evaluation_that_is_not_there(database: Database) -> None:
    with pytest.raises(EvaluationNotFound, match="'eval_x'"):
        EvaluationStore(database).get("eval_x")
