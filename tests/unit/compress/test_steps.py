import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mofang.make.compress.step import (
    Distil,
    Half,
    Int4,
    Int8,
    Optimise,
    Prune,
    Steps,
    Student,
    Thin,
    Tune,
    fingerprint,
    named,
    packed,
    told,
    unpacked,
)  # fmt: skip
from mofang.make.recipe import Cnn, Dense

_SHARES = st.floats(0.01, 0.99)
_EPOCHS = st.floats(0.1, 1000)
_STEPS = st.lists(
    st.one_of(
        st.builds(Prune, _SHARES, st.sampled_from(["channels", "weights"])),
        st.builds(Tune, _EPOCHS),
        st.builds(Distil, _EPOCHS, st.floats(0.1, 100), st.floats(0, 1)),
        st.builds(Thin, _SHARES),
        st.builds(Int8, st.sampled_from(["static", "dynamic"]), st.just("entropy"), st.integers(0, 1000)),
        st.builds(Int4, st.sampled_from([16, 32, 64, 128, 256])),
        st.sampled_from([Student(Dense(hidden=(8, 4))), Student(Cnn(channels=(4,), hidden=()))]),
        st.sampled_from([Half(), Optimise()]),
    ),
    max_size=5,
).map(tuple)


def test_steps_are_told_in_one_line() -> None:
    assert (
        told((Prune(0.5), Distil(4), Int8("static", "entropy"))) == "prune 50% → distil 4 epochs → int8 static entropy"
    )
    assert told((Tune(1), Int8(in_float=2))) == "tune 1 epoch → int8 static minmax, 2 layers in float"
    assert told((Student(Dense(hidden=(8, 4))), Distil(2, hints=1, teacher="a@1"))) == (
        "student dense hidden 8,4 → distil 2 epochs with hints from a@1"
    )
    assert told(()) == "as it is"
    assert named((Int8("dynamic"),)) == "int8-dynamic"


@given(_STEPS)
def test_steps_come_back_from_what_is_stored(steps: Steps) -> None:
    assert unpacked(packed(steps)) == steps
    assert fingerprint(unpacked(packed(steps))) == fingerprint(steps)
    assert re.fullmatch(r"[a-z0-9](?:[a-z0-9.-]{0,38}[a-z0-9])?", named(steps))


def test_steps_nobody_knows_are_refused() -> None:
    for text in ('[{"technique":"shrink"}]', '[{"technique":"prune","share":1.5}]', '[{"technique":"prune","x":1}]'):
        with pytest.raises(msgspec.ValidationError):
            unpacked(text)
