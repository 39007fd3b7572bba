"""A stand: an engine in a process of its own, as a replica is, that can be timed beside others in turns.

What is measured is what a worker computes with: one model loaded, alone in its process, with its threads, so that its
resident memory can be told too.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TypeVar

import msgspec
import numpy as np

from mofang.base.domain.errors import EngineFailed
from mofang.base.domain.tensors import Array

Rows = dict[str, Array]
_Message = TypeVar("_Message")


class Packed(msgspec.Struct, array_like=True):
    """An array on the pipe: dtype, shape, and its bytes, or its elements if they are bytes themselves."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes
    elements: list[bytes] = []


class Load(msgspec.Struct):
    """Which artifact to load."""

    engine: str
    folder: str
    options: dict[str, int | str]


class Ready(msgspec.Struct):
    """The artifact is loaded."""

    resident_bytes: int


class Ask(msgspec.Struct, tag=True):
    """Compute the input of a ``number`` so many ``times``; ``rows`` are sent with the first question alone."""

    number: int
    times: int
    rows: dict[str, Packed] = {}


class Speak(msgspec.Struct, tag=True):
    """Go on from all ``prompts`` (tokens) at once, for so many ``tokens`` each, always with the likeliest."""

    prompts: list[list[int]]
    tokens: int


class Spoken(msgspec.Struct):
    """Nanoseconds until the first token was there and until the last was, and how many all prompts got."""

    first_ns: int
    all_ns: int
    tokens: int
    resident_bytes: int


class Times(msgspec.Struct):
    """Nanoseconds of each time."""

    taken: list[int]
    resident_bytes: int


class Stand:
    """One engine in its process. Close it."""

    def __init__(self, engine: str, folder: Path, options: Mapping[str, int | str]) -> None:
        """Start the process and load the artifact. Raises EngineFailed if it dies over it."""
        command = [sys.executable, "-P", "-m", "mofang.make.compress.standwork"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._asks, self._answers = self._process.stdin, self._process.stdout
        self._known: dict[int, int] = {}
        self._times = decoder(Times)
        try:
            send(self._asks, Load(engine, str(folder), dict(options)))
            self.resident_bytes = self._receive(decoder(Ready)).resident_bytes
        except BaseException:
            self.close()
            raise

    def time(self, rows: Rows, times: int = 1) -> list[int]:
        """Return the nanoseconds that ``rows`` took, each of ``times``. The same ``rows`` are sent over once."""
        number = id(rows)
        packed = {} if number in self._known else {name: pack(array) for name, array in rows.items()}
        send(self._asks, Ask(number, times, packed))
        self._known[number] = number
        found = self._receive(self._times)
        self.resident_bytes = found.resident_bytes
        return found.taken

    def speak(self, prompts: Sequence[Sequence[int]], tokens: int) -> Spoken:
        """Have a language model go on from ``prompts`` at once, by so many ``tokens`` each or until it has no more."""
        send(self._asks, Speak([[*prompt] for prompt in prompts], tokens))
        found = self._receive(decoder(Spoken))
        self.resident_bytes = found.resident_bytes
        return found

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._asks, self._answers):
            with suppress(OSError):
                pipe.close()

    def _receive(self, kind: msgspec.msgpack.Decoder[_Message]) -> _Message:
        found = receive(self._answers, kind)
        if found is None:
            raise EngineFailed(f"the process of the engine ended with status {self._process.wait()}")
        return found


def decoder(kind: type[_Message]) -> msgspec.msgpack.Decoder[_Message]:
    """Return what reads messages of one kind."""
    return msgspec.msgpack.Decoder(kind)


def send(pipe: IO[bytes], message: msgspec.Struct) -> None:
    """Write one message: its length in four bytes, and MessagePack. Raises EngineFailed if nobody reads any more."""
    data = msgspec.msgpack.encode(message)
    try:
        pipe.write(len(data).to_bytes(4, "little") + data)
        pipe.flush()
    except BrokenPipeError as error:
        raise EngineFailed("the process of the engine has ended") from error


def receive(pipe: IO[bytes], kind: msgspec.msgpack.Decoder[_Message]) -> _Message | None:
    """Read one message; None at the end of the pipe."""
    head = pipe.read(4)
    size = int.from_bytes(head, "little")
    data = pipe.read(size) if len(head) == 4 else b""
    return kind.decode(data) if data and len(data) == size else None


def pack(array: Array) -> Packed:
    """Make an array ready for the pipe."""
    if array.dtype == object:
        return Packed("O", array.shape, b"", [*array.ravel().tolist()])
    return Packed(array.dtype.str, array.shape, np.ascontiguousarray(array).tobytes())


def unpack(packed: Packed) -> Array:
    """Return the array again."""
    if packed.dtype == "O":
        found = np.empty(len(packed.elements), np.object_)
        found[:] = packed.elements
        return found.reshape(packed.shape)
    return np.frombuffer(packed.data, np.dtype(packed.dtype)).reshape(packed.shape)
