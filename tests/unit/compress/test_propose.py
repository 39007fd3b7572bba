"""What to try next, and when to stop."""

from __future__ import annotations

import time

import pytest

from comparisons import comparison
from mofang.base.domain.errors import NoVariant
from mofang.base.domain.work import Silent
from mofang.make.compress.pick import Wish
from mofang.make.compress.propose import Can, Tried, propose
from mofang.make.compress.seldom import Limited, Seldom
from mofang.make.compress.step import Distil, Half, Int4, Int8, Lower, Optimise, Prune, Steps, Student, Thin, Tune, told
from mofang.make.recipe import Dense

WISH = Wish(0.005)


def _search(can: Can, outcome: dict[str, float | None], default: float = 0.0) -> list[Steps]:
    """Follow a search whose candidates lose what ``outcome`` says of them; None: they could not be made."""
    tried: list[Tried] = []
    while (steps := propose(can, tried, WISH)) is not None:
        drop = outcome.get(told(steps), default)
        tried.append(Tried(steps, None, "no") if drop is None else Tried(steps, comparison(drop, 0.5, 0.5, 0.5)))
        assert len(tried) < 60
    assert len({each.steps for each in tried}) == len(tried)
    return [each.steps for each in tried]


def test_cheap_steps_come_before_training() -> None:
    steps = _search(Can(network=True, calibration=True), {})
    first = next(at for at, each in enumerate(steps) if isinstance(each[0], Prune))
    assert {type(each[0]) for each in steps[:first]} == {Int8, Int4, Half, Optimise}
    assert all(isinstance(each[0], Prune) for each in steps[first:])


def test_without_rows_nothing_needs_them_and_files_are_not_pruned() -> None:
    assert _search(Can(), {}) == [(Int8("dynamic"),), (Int4(),), (Half(),), (Optimise(),)]


def test_layers_stay_in_float_only_as_long_as_integers_lose_too_much() -> None:
    kept = "int8 static minmax equalised, 1 layer in float"
    lost = {f"int8 static {name}": 0.05 for name in ("entropy", "percentile")}
    lost |= {"int8 static minmax": 0.02, "int8 static minmax equalised": 0.01}
    steps = list(map(told, _search(Can(calibration=True), {**lost, kept: 0.001})))
    assert kept in steps
    assert not [each for each in steps if "2 layers" in each]
    steps = list(map(told, _search(Can(calibration=True), {**lost, kept: 0.01})))
    assert "int8 static minmax equalised, 2 layers in float" in steps
    assert not [each for each in map(told, _search(Can(calibration=True), {})) if "in float" in each]


def test_channels_are_equalised_only_where_integers_lose_too_much() -> None:
    assert not [each for each in map(told, _search(Can(calibration=True), {})) if "equalised" in each]
    worse = {"int8 static minmax": 0.02, "int8 static minmax equalised": 0.03}
    steps = list(map(told, _search(Can(calibration=True), worse)))
    assert "int8 static minmax equalised" in steps
    assert "int8 static minmax, 1 layer in float" in steps  # what lost more is not gone on with
    assert "int8 static minmax equalised, 1 layer in float" not in steps


def test_the_best_calibration_ends_what_is_pruned() -> None:
    lost = {"int8 static minmax": 0.004, "int8 static percentile": 0.003}
    steps = _search(Can(network=True, calibration=True, epochs=2), lost)
    assert (Prune(0.5), Distil(2), Int8("static", "entropy")) in steps


def test_a_teacher_that_was_named_teaches_every_network() -> None:
    can = Can(network=True, epochs=2, students=(Student(Dense()),), teacher="upstream:other/oracle")
    taught = [step for each in _search(can, {}) for step in each if isinstance(step, Distil)]
    assert len(taught) > 2
    assert {step.teacher for step in taught} == {"upstream:other/oracle"}


def test_the_best_is_taught_again_with_hints_unless_another_teaches() -> None:
    for teacher, hinted in (("", 1), ("big@1", 0)):
        steps = _search(Can(network=True, graph=False, epochs=2, teacher=teacher), {})
        found = [step for each in steps for step in each if isinstance(step, Distil) and step.hints]
        assert len(found) == hinted
        assert any(isinstance(step, Tune) for each in steps for step in each)


def test_the_share_to_thin_closes_in_on_the_most_that_is_allowed() -> None:
    def drop(share: float) -> float:
        return 0.0 if share <= 0.6 else 0.05

    shares = [share / 100 for share in range(1, 100)]
    outcome = {told((Thin(share),)): drop(share) for share in shares}
    found = [each[0].share for each in _search(Can(trees=True, graph=False), outcome) if isinstance(each[0], Thin)]
    good, bad = (max(s for s in found if s <= 0.6), min(s for s in found if s > 0.6))
    assert bad - good < 0.06
    assert len(found) < 8


def test_the_same_measurements_give_the_same_proposals() -> None:
    outcome = {"int8 static minmax": 0.02, "int8 dynamic": None}
    can = Can(network=True, calibration=True)
    assert _search(can, outcome) == _search(can, outcome)


def test_what_takes_longer_than_there_is_time_is_ended() -> None:
    limited = Limited(Silent())
    limited.report("train", 0.5)
    limited.until = time.monotonic() - 1
    with pytest.raises(NoVariant, match="time of the search was up"):
        limited.report("train", 0.6)


def test_many_reports_become_few() -> None:
    class Counted:
        count = 0

        def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
            self.count += 1

    counted = Counted()
    seldom = Seldom(counted, 3600)
    for _ in range(100):
        seldom.report("evaluate", 0.5)
    assert counted.count == 0
    often = Seldom(counted, 0)
    often.report("evaluate", 0.5)
    assert counted.count == 1


def test_a_language_model_is_lowered_and_its_ends_kept_wider_where_the_engine_takes_the_type() -> None:
    can = Can(graph=False, widths=("q5_0", "q4_0"))
    lost: dict[str, float | None] = {"gguf q5_0": None}  # which the engine cannot load
    assert _search(can, lost) == [(Lower("q4_0"),), (Lower("q4_0", "q8_0"),), (Lower("q5_0"),)]
    assert (Lower("q8_0"),) in _search(Can(graph=False, widths=("q8_0", "q4_0")), {})
