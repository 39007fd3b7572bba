"""Tensors in memory that both ends see: what is offered arrives, and nothing else is ever mapped."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mofang.base.domain.inference import Call
from mofang.base.placement.frames import FrameError, FrameReader, encode_call
from mofang.base.placement.headers import Ask
from mofang.base.placement.shared import SHARED_BYTES, NotShared, Sharer

BODY = memoryview(np.random.default_rng(7).bytes(SHARED_BYTES + 8))
ALL = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def end(*, offers: bool = True) -> Sharer:
    return Sharer(os.getpid(), offers=offers)


def test_what_is_offered_is_there_after_it_was_withdrawn() -> None:
    before = descriptors()
    sender, receiver = end(), end()
    number = sender.offer(BODY)
    body = receiver.map(number, BODY.nbytes)
    assert receiver.mapped() == [number]
    assert receiver.mapped() == []
    sender.withdraw([number, number, 0])
    assert descriptors() == before
    assert body == BODY
    assert body.readonly


def test_small_tensors_and_those_for_who_cannot_map_are_not_shared() -> None:
    assert end().offer(BODY[: SHARED_BYTES - 1]) == -1
    assert end(offers=False).offer(BODY) == -1


def test_who_does_not_map_is_offered_no_more_and_all_is_closed_with_the_connection() -> None:
    before = descriptors()
    sender = end()
    offered = [sender.offer(BODY) for _ in range(100)]
    assert offered.index(-1) == len(descriptors() - before) == 16
    sender.withdraw(offered[:1])
    assert sender.offer(BODY) >= 0
    sender.close()
    assert descriptors() == before


def memory(size: int, seals: int) -> int:
    number = os.memfd_create("t", os.MFD_ALLOW_SEALING)
    os.write(number, bytes(size))
    fcntl.fcntl(number, fcntl.F_ADD_SEALS, seals)
    return number


@pytest.mark.parametrize(
    "made",
    [
        lambda folder: memory(8, ALL & ~fcntl.F_SEAL_SHRINK),
        lambda folder: memory(8, ALL & ~fcntl.F_SEAL_WRITE),
        lambda folder: memory(7, ALL),
        lambda folder: memory(9, ALL),
        lambda folder: os.open(folder / "a file", os.O_RDWR | os.O_CREAT),
        lambda folder: os.pipe()[0],
        lambda folder: 1 << 20,
        lambda folder: -1,
    ],
    ids=["may shrink", "may change", "too small", "too large", "a file", "a pipe", "not open", "none"],
)
def test_nothing_is_mapped_but_what_is_sealed(made: Callable[[Path], int], tmp_path: Path) -> None:
    number = made(tmp_path)
    before = descriptors()
    receiver = end()
    with pytest.raises(NotShared):
        receiver.map(number, 8)
    assert receiver.mapped() == []
    assert descriptors() == before
    if 2 < number < 1 << 20:
        os.close(number)


def test_a_large_tensor_of_a_frame_is_shared_and_small_ones_beside_it_are_not() -> None:
    inputs = {
        "a": np.arange(3, dtype=np.int64),
        "b": np.arange(SHARED_BYTES, dtype=np.float32).reshape(2, -1),
        "c": np.array([b"text"], dtype=object),
    }
    sender = end()
    stream = b"".join(map(bytes, encode_call(1, Call("r", "t", inputs, 2, 1.0), sender)))
    assert len(stream) < 500
    with pytest.raises(FrameError, match="cannot be"):
        list(FrameReader().feed(stream))
    reader = FrameReader()
    reader.sharer = end()
    ((ask, read),) = reader.feed(stream)
    assert isinstance(ask, Ask)
    assert all(np.array_equal(read[name], inputs[name]) for name in inputs)
    sender.close()
    with pytest.raises(FrameError):
        list(reader.feed(stream))  # it is closed
