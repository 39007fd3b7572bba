"""Padding: requests of several lengths in one batch, answered as if each were alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs import masked_mean, save
from mofang.base.domain.deployment import ReplicaLimits
from mofang.base.domain.errors import MofangError, PaddingRefused
from mofang.base.domain.inference import Answer, Call
from mofang.base.domain.tensors import Array, Signature, TensorSpec
from mofang.base.engines.catalog import load_engine
from mofang.base.engines.onnx import OnnxEngine
from mofang.base.placement.padding import Padding, bucket, prove
from mofang.base.placement.replica import Replica
from mofang.base.placement.thread import open_replica

PAD: Mapping[str, int | str] = {"ids": 0, "mask": "mask"}


class Watched(OnnxEngine):
    """Remembers the shapes of batches."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, {})
        self.batches: list[tuple[int, ...]] = []

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.batches.append(inputs["ids"].shape)
        return super().infer(inputs)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return Watched(save(masked_mean(), tmp_path_factory.mktemp("encoder")))


def asked(numbers: np.random.Generator, rows: int, length: int) -> Call:
    ids = numbers.integers(1, 50, (rows, length))
    return Call("r", "t", {"ids": ids, "mask": np.ones_like(ids)}, rows, time.monotonic() + 30)


def answered(engine: OnnxEngine, calls: list[Call]) -> list[Answer]:
    """Compute what one turn of the event loop brought."""

    async def main() -> list[Answer]:
        replica = Replica(engine, ReplicaLimits(), padding=prove(engine, PAD))
        return list(await asyncio.gather(*map(replica.submit, calls)))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 40)), min_size=1, max_size=20), st.integers(0, 99))
def test_answers_are_those_of_requests_that_come_alone(
    encoder: Watched, sizes: list[tuple[int, int]], seed: int
) -> None:
    numbers = np.random.default_rng(seed)
    calls = [asked(numbers, *size) for size in sizes]
    for call, answer in zip(calls, answered(encoder, calls), strict=True):
        for name, array in encoder.infer(call.inputs).items():
            np.testing.assert_allclose(answer.outputs[name], array, rtol=1e-4, atol=1e-5)


def test_close_lengths_share_a_batch_and_others_do_not(encoder: Watched) -> None:
    numbers = np.random.default_rng(0)
    lengths = [5, 6, 5, 13, 16, 14, 40]
    encoder.batches.clear()
    answers = answered(encoder, [asked(numbers, 1, length) for length in lengths])
    assert encoder.batches[-3:] == [(3, 6), (3, 16), (1, 40)]
    assert [answer.batch_rows for answer in answers] == [3, 3, 3, 3, 3, 3, 1]
    assert [answer.outputs["steps"].shape for answer in answers] == [(1, length, 3) for length in lengths]


@given(st.integers(1, 100_000), st.integers(1, 100_000))
def test_no_more_than_a_third_of_a_batch_is_padding(one: int, other: int) -> None:
    if bucket(one) == bucket(other):
        assert min(one, other) * 3 > max(one, other) * 2 - 3
        assert max(one, other) <= bucket(one)


def test_a_model_that_does_not_heed_its_mask_is_refused(tmp_path: Path) -> None:
    folder = save(masked_mean(heeds=False), tmp_path)
    with pytest.raises(PaddingRefused, match="output 'mean' is another for 5 steps that are padded to 8"):
        open_replica(load_engine, "onnx", folder, ReplicaLimits(pad=PAD))


def test_requests_whose_inputs_have_several_lengths_are_not_padded(encoder: Watched) -> None:
    numbers = np.random.default_rng(0)
    odd = asked(numbers, 1, 5)
    odd = Call("r", "t", {**odd.inputs, "mask": np.ones((1, 4), np.int64)}, 1, time.monotonic() + 30)
    fine = [asked(numbers, 1, 5), asked(numbers, 1, 6)]

    async def main() -> None:
        replica = Replica(encoder, ReplicaLimits(), padding=prove(encoder, PAD))
        outcomes = await asyncio.gather(*map(replica.submit, [fine[0], odd, fine[1]]), return_exceptions=True)
        assert [isinstance(outcome, MofangError) for outcome in outcomes] == [False, True, False]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


IDS = TensorSpec("ids", "INT64", (-1, -1))


@pytest.mark.parametrize(
    ("inputs", "values", "words"),
    [
        ((IDS,), {"tokens": 0}, "no input 'tokens'"),
        ((IDS, TensorSpec("mask", "INT64", (-1, -1))), {"ids": 0}, "'mask' of m is open too"),
        ((TensorSpec("ids", "UINT8", (-1, -1)),), {"ids": 256}, "256 is none"),
        ((IDS,), {"ids": "zero"}, "a whole number or 'mask', not 'zero'"),
        ((TensorSpec("x", "FP32", (-1, 4)),), {"x": 0}, "one dimension that is open"),
        ((TensorSpec("x", "FP32", (-1, -1, -1)),), {"x": 0}, "one dimension that is open"),
        ((TensorSpec("x", "BYTES", (-1, -1)),), {"x": 0}, "and numbers"),
        ((TensorSpec("ids", "INT64", (1, -1)),), {"ids": 0}, "never computed together"),
    ],
)
def test_what_cannot_be_padded_is_said(inputs: tuple[TensorSpec, ...], values: dict[str, int], words: str) -> None:
    with pytest.raises(PaddingRefused, match=words):
        Padding(Signature(inputs, (TensorSpec("y", "FP32", (-1, 2)),)), values, "m")
