"""The codec: what goes in comes out, however the stream is cut; what is no frame is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from mofang.base.domain.errors import MofangError, Overloaded, ReplicaLost
from mofang.base.domain.inference import Answer, Call
from mofang.base.domain.tensors import NUMPY, Array, Signature, TensorSpec
from mofang.base.placement.frames import (
    COPIED_BYTES,
    MAGIC,
    Frame,
    FrameError,
    FrameReader,
    encode,
    encode_answer,
    encode_answers,
    encode_call,
    encode_calls,
    form,
)
from mofang.base.placement.headers import Ask, Fault, Forget, Hello, Refuse, Tell

numeric = st.sampled_from([dtype for name, dtype in NUMPY.items() if name != "BYTES"]).flatmap(
    lambda dtype: nps.arrays(dtype, nps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
texts = st.lists(st.binary(max_size=9), max_size=6).map(lambda each: np.array([*each, None], dtype=object)[:-1])
tensors = st.dictionaries(st.text(max_size=5), numeric | texts, max_size=3)


def same(one: dict[str, Array], other: dict[str, Array]) -> bool:
    return list(one) == list(other) and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and (one[name].tolist() == other[name].tolist() or one[name].tobytes() == other[name].tobytes())
        for name in one
    )


def read(stream: bytes, cuts: list[int]) -> list[Frame]:
    reader = FrameReader()
    frames: list[Frame] = []
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        frames += reader.feed(stream[start:end])
    return frames


@given(st.lists(tensors, min_size=1, max_size=4), st.lists(st.integers(0), max_size=8))
def test_calls_and_answers_cross_however_the_stream_is_cut(sets: list[dict[str, Array]], cuts: list[int]) -> None:
    pieces: list[bytes] = []
    for number, each in enumerate(sets):
        pieces += map(bytes, encode_call(number, Call("request", "tenant", each, 3, 12.5, -1)))
        pieces += map(bytes, encode_answer(number, Answer(each, 5, 6, 7, {"tokens": 8})))
    frames = read(b"".join(pieces), cuts)
    assert len(frames) == 2 * len(sets)
    for number, each in enumerate(sets):
        (ask, inputs), (tell, outputs) = frames[2 * number : 2 * number + 2]
        assert isinstance(ask, Ask)
        assert (ask.id, ask.request_id, ask.tenant, ask.rows, ask.deadline, ask.priority) == (
            number, "request", "tenant", 3, 12.5, -1,
        )  # fmt: skip
        assert isinstance(tell, Tell)
        assert (tell.id, tell.compute_us, tell.queue_us, tell.batch_rows, tell.extras) == (
            number,
            5,
            6,
            7,
            {"tokens": 8},
        )
        assert same(inputs, each)
        assert same(outputs, each)


@given(st.data(), st.lists(st.integers(0), max_size=8))
def test_what_differs_in_its_rows_crosses_in_one_frame(data: st.DataObject, cuts: list[int]) -> None:
    dtypes = data.draw(st.dictionaries(st.text(max_size=5), numeric.map(lambda array: array.dtype), min_size=1))
    tail = data.draw(nps.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    sets = [
        {name: data.draw(nps.arrays(dtype, (rows, *tail))) for name, dtype in dtypes.items()}
        for rows in data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=5))
    ]
    assert len({str(form(each)) for each in sets}) == 1
    calls = [(number, Call("r", "t", each, 1 + number, 1.5, 2)) for number, each in enumerate(sets)]
    answers = [(number, Answer(each, 5, 6, 7, {"tokens": number})) for number, each in enumerate(sets)]
    stream = b"".join(map(bytes, encode_calls(calls) + encode_answers(answers)))
    assert stream.count(MAGIC) == 2
    frames = read(stream, cuts)
    for (number, each), (ask, inputs) in zip(enumerate(sets), frames[: len(sets)], strict=True):
        assert isinstance(ask, Ask)
        assert (ask.id, ask.rows, ask.deadline, ask.priority) == (number, 1 + number, 1.5, 2)
        assert same(inputs, each)
    for (number, each), (tell, outputs) in zip(enumerate(sets), frames[len(sets) :], strict=True):
        assert isinstance(tell, Tell)
        assert (tell.id, tell.extras) == (number, {"tokens": number})
        assert same(outputs, each)


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"x": np.float32(1).reshape(())},
        {"t": np.array([b"a"], dtype=object)},
        {"x": np.zeros((2, 1)), "y": np.zeros((3, 1))},
        {"x": np.zeros((1, COPIED_BYTES))},
    ],
    ids=["none", "no rows", "texts", "rows differ", "large"],
)
def test_what_cannot_be_joined_has_no_form(arrays: dict[str, Array]) -> None:
    assert form(arrays) is None


@given(st.binary(max_size=300), st.lists(st.integers(0), max_size=4))
def test_noise_is_refused_or_waited_for(noise: bytes, cuts: list[int]) -> None:
    try:
        assert read(noise, cuts) == []
    except FrameError:
        return


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_frame_is_refused_or_read_and_raises_nothing_else(data: st.DataObject) -> None:
    inputs = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "t": np.array([b"ab", b""], dtype=object)}
    call = Call("r", "t", inputs, 2, 1.0)
    bundled = Call("r", "t", {"x": inputs["x"]}, 2, 1.0)
    pieces = encode_calls([(1, bundled), (2, bundled)]) if data.draw(st.booleans()) else encode_call(1, call)
    stream = bytearray(b"".join(map(bytes, pieces)))
    for _ in range(data.draw(st.integers(1, 3))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    try:
        list(FrameReader().feed(bytes(stream)))
    except FrameError:
        return


def test_a_large_tensor_is_not_copied_on_its_way_out() -> None:
    large = np.arange(COPIED_BYTES, dtype=np.float32).reshape(2, -1)
    pieces = encode_call(1, Call("r", "t", {"x": large}, 2, 1.0))
    (body,) = [piece for piece in pieces if isinstance(piece, memoryview)]
    assert np.shares_memory(np.frombuffer(body, np.float32), large)
    ((_, tensors),) = read(b"".join(map(bytes, pieces)), [5, 70_000])
    assert np.array_equal(tensors["x"], large)


def test_a_tensor_that_is_not_contiguous_crosses() -> None:
    turned = np.arange(2 * COPIED_BYTES, dtype=np.float32).reshape(2, -1).T
    ((_, tensors),) = read(b"".join(map(bytes, encode_call(1, Call("r", "t", {"x": turned}, 1, 1.0)))), [])
    assert np.array_equal(tensors["x"], turned)


def test_a_frame_over_the_limit_is_refused_before_it_arrives() -> None:
    stream = b"".join(map(bytes, encode_call(1, Call("r", "t", {"x": np.zeros(1000)}, 1, 1.0))))
    with pytest.raises(FrameError):
        list(FrameReader(max_frame_bytes=4096).feed(stream[:12]))


@pytest.mark.parametrize("error", [ReplicaLost("gone"), Overloaded("full", hint="later", retry_after_seconds=3)])
def test_errors_cross_as_themselves(error: MofangError) -> None:
    ((header, _),) = read(encode(Refuse(9, Fault.of(error))), [])
    assert isinstance(header, Refuse)
    rebuilt = header.fault.error()
    assert type(rebuilt) is type(error)
    assert (rebuilt.message, rebuilt.hint) == (error.message, error.hint)
    assert rebuilt.retry_after_seconds == error.retry_after_seconds


def test_greetings_and_cancellations_cross() -> None:
    spec = TensorSpec("x", "FP32", (-1, 2))
    greeting = Hello("ready", signature=Signature((spec,), (spec,)))
    frames = read(encode(greeting) + encode(Forget([1, 2])), [])
    assert [header for header, _ in frames] == [greeting, Forget([1, 2])]
