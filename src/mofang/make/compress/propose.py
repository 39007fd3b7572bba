"""What to try next: a pure function of what can be done, what is wished for, and what was measured so far.

Cheap techniques come first: what is written anew in a second is measured before anything is trained. What was found
steers what is tried: the best calibration goes with pruning, channels are equalised and layers kept in float only if
the whole loses too much, and the share to prune closes in on the most that the wish allows. The same measurements give
the same proposals, so that a search that was killed goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from mofang.make.compress.compare import Comparison
from mofang.make.compress.pick import Wish, complaints, price
from mofang.make.compress.step import (
    Calibration,
    Distil,
    Half,
    Int4,
    Int8,
    Lower,
    Optimise,
    Prune,
    Step,
    Steps,
    Student,
    Thin,
    Tune,
    Width,
    told,
)

_SHARES = (0.5, 0.75, 0.3, 0.85)
_THINNED = (0.5, 0.75, 0.9)
_WIDTHS: tuple[Width, ...] = ("q8_0", "q4_0", "q5_0", "q4_1", "q5_1")
_ENDS: Width = "q8_0"  # of embedding and output
_FLOAT_LAYERS = (1, 2, 4, 8)
_CALIBRATIONS: tuple[Calibration, ...] = ("minmax", "entropy", "percentile")
_ROWS_SEEN, _MOST_EPOCHS = 120_000, 20  # in training after pruning
_FROM_NOTHING = 8  # times the epochs of a pruned network
_MOSTLY = 0.9  # of the loss of a student compares with its teacher
_HINTS = 12.0  # 3,000 for the mean over the pairs of 256 rows, as Tung and Mori (2019) weigh it
_CLOSE = 0.06  # shares nearer than this are not worth telling apart
_HOPELESS = 0.1  # quality that a variant may lose and still be worth refining, where no limit is given


@dataclass(frozen=True, slots=True)
class Can:
    """What applies to a version: whether there is a network to train, trees to thin, a graph, rows to calibrate on.

    ``widths``: in which types the weights of a language model could be.
    """

    network: bool = False
    trees: bool = False
    graph: bool = True
    calibration: bool = False
    epochs: float = 3.0  # of training after pruning
    students: tuple[Student, ...] = ()  # smaller networks that could learn from it
    widths: tuple[Width, ...] = ()
    teacher: str = ""  # whom to learn from instead of the original


@dataclass(frozen=True, slots=True)
class Tried:
    """Steps that were taken, and what came of them: a comparison, or why there is none."""

    steps: Steps
    found: Comparison | None
    refusal: str = ""

    def __str__(self) -> str:
        return told(self.steps)

    @property
    def comparison(self) -> Comparison:
        """The comparison of a candidate that has one."""
        assert self.found is not None
        return self.found


def measured(tried: Sequence[Tried]) -> list[Tried]:
    """Return those of which there is a comparison."""
    return [each for each in tried if each.found is not None]


def propose(can: Can, tried: Sequence[Tried], wish: Wish) -> Steps | None:
    """Return the steps to take next; None if there is nothing left to try."""
    known = {each.steps for each in tried}
    return next((steps for steps in _ideas(can, _Known(tried, wish)) if steps not in known), None)


def epochs(rows: int) -> float:
    """Return how long to train after pruning: the fewer rows there are, the more often each is seen."""
    return float(min(max(_ROWS_SEEN // rows, 1), _MOST_EPOCHS))


class _Known:
    """What was measured so far, asked in the words of a search."""

    def __init__(self, tried: Sequence[Tried], wish: Wish) -> None:
        self._found = {each.steps: each.found for each in tried}
        self._wish = wish

    def has(self, steps: Steps) -> bool:
        return steps in self._found

    def made(self, steps: Steps) -> bool:
        """Whether there is such a variant."""
        return self._found.get(steps) is not None

    def works(self, steps: Steps) -> bool:
        """Whether there is such a variant, and it loses no more than allowed."""
        found = self._found.get(steps)
        return found is not None and found.drop <= (_HOPELESS if self._wish.max_drop is None else self._wish.max_drop)

    def loses_less(self, steps: Steps, others: Steps) -> bool:
        """Whether there is such a variant, and it loses less than another, or there is no other."""
        found, other = self._found.get(steps), self._found.get(others)
        return found is not None and (other is None or found.drop < other.drop)

    def calibration(self) -> Calibration | None:
        """The calibration that lost least in the whole graph, once all were tried; None if none applies."""
        drops = [
            (found.drop, each)
            for each in _CALIBRATIONS
            if (found := self._found.get((Int8("static", each),))) is not None
        ]
        return min(drops, key=lambda each: each[0])[1] if drops else None

    def best(self) -> Steps:
        """The steps that are accepted and gain most; none if there are none yet."""
        good = {
            steps: price(found, self._wish.objective)
            for steps, found in self._found.items()
            if found is not None and not complaints(found, self._wish)
        }
        return min(good, key=lambda steps: good[steps]) if good else ()


def _ideas(can: Can, known: _Known) -> Iterator[Steps]:
    """Give all ideas in their order; one that was tried is passed over, and what it gave steers those that follow."""
    yield from _lower(can.widths, known)
    if can.graph:
        yield from _post_training(can, known)
    if can.trees:
        yield from _closing_in(known, _THINNED, lambda share: ((Thin(share),),))
    if can.students:
        yield from _students(can, known)
    if can.network:
        last = _last(can, known)
        yield from _closing_in(known, _SHARES, lambda share: _shrunk(share, can, last))
        yield from _finer(known, can)


def _lower(widths: Sequence[Width], known: _Known) -> Iterator[Steps]:
    """Try the safest and the smallest first; where an engine takes a type, the ends in more bits as well."""
    for width in (width for width in _WIDTHS if width in widths):
        yield (Lower(width),)
        if width != _ENDS and known.made((Lower(width),)):
            yield (Lower(width, _ENDS),)


def _post_training(can: Can, known: _Known) -> Iterator[Steps]:
    yield (Int8("dynamic"),)
    if can.calibration:
        for calibration in _CALIBRATIONS:
            yield (Int8("static", calibration),)
            if calibration == _CALIBRATIONS[0]:
                yield from _repaired(known, Int8("static", calibration))
        best = known.calibration()
        if best not in (None, _CALIBRATIONS[0]) and not known.best():
            yield from _repaired(known, Int8("static", best))
    yield from _in_float(known, (), Int8("dynamic")) if can.calibration else ()
    yield (Int4(),)
    yield (Half(),)
    yield (Optimise(),)


def _repaired(known: _Known, step: Int8) -> Iterator[Steps]:
    """Equalise channels, then keep layers in float, as long as integers lose too much."""
    equalised = msgspec.structs.replace(step, equalised=True)
    if known.has((step,)) and not known.works((step,)):
        yield (equalised,)
    yield from _in_float(known, (), equalised if known.loses_less((equalised,), (step,)) else step)


def _in_float(known: _Known, before: Steps, step: Int8) -> Iterator[Steps]:
    """Keep more and more layers in float, as long as what is there loses too much."""
    last = (*before, step)
    for count in _FLOAT_LAYERS:
        if not known.has(last) or known.works(last):
            return
        last = (*before, msgspec.structs.replace(step, in_float=count))
        yield last


def _last(can: Can, known: _Known) -> Step | None:
    """Return what integers to end with, as the whole graph showed."""
    calibration = known.calibration() if can.calibration else None
    if calibration is not None:
        return Int8("static", calibration)
    return Int8("dynamic") if known.has((Int8("dynamic"),)) and known.works((Int8("dynamic"),)) else None


def _shrunk(share: float, can: Can, last: Step | None) -> tuple[Steps, ...]:
    """Return what to try of one share: trained by the original, and then with integers."""
    taught: Steps = (Prune(share), Distil(can.epochs, teacher=can.teacher))
    return (taught, (*taught, last)) if last else (taught,)


def _students(can: Can, known: _Known) -> Iterator[Steps]:
    """Teach smaller networks from the beginning: for longer than one that was pruned, since they are cheap to train."""
    for student in can.students:
        taught: Steps = (student, Distil(_FROM_NOTHING * can.epochs, soft=_MOSTLY, teacher=can.teacher))
        yield taught
        if can.calibration:
            yield (*taught, Int8("static", known.calibration() or "minmax"))
        else:
            yield (*taught, Int8("dynamic"))


def _closing_in(known: _Known, shares: Sequence[float], make: Callable[[float], tuple[Steps, ...]]) -> Iterator[Steps]:
    """Try ``shares``, then those between the largest that works and the smallest beyond it that does not."""
    for share in shares:
        yield from make(share)
    tried = list(shares)
    while True:
        good = [share for share in tried if known.works(make(share)[-1])]
        bad = [share for share in tried if share not in good and known.has(make(share)[-1])]
        least, most = (
            max(good, default=0.0),
            min((share for share in bad if share > max(good, default=0.0)), default=1.0),
        )
        if most - least < _CLOSE:
            return
        tried.append(round((least + most) / 2, 2))
        yield from make(tried[-1])
        if not known.has(make(tried[-1])[-1]):
            return


def _finer(known: _Known, can: Can) -> Iterator[Steps]:
    """Vary the best: labels alone instead of the teacher, longer training, and hints if the original teaches."""
    best = known.best()
    taught = next((at for at, step in enumerate(best) if isinstance(step, Distil)), None)
    if taught is None:
        return
    yield (*best[:taught], Tune(can.epochs), *best[taught + 1 :])
    yield (*best[:taught], Distil(2 * can.epochs, teacher=can.teacher), *best[taught + 1 :])
    if not can.teacher:  # of another only answers are known
        yield (*best[:taught], msgspec.structs.replace(best[taught], hints=_HINTS), *best[taught + 1 :])
