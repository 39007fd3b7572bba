"""What runs on the bench: reads its task, locks itself in, opens the model and says what became of it.

Started by ``bench.make_apart`` with the number of the pipe to talk into and a folder to work in. Everything that could
be said wrongly is said by the parent again: this process may be anybody's by the time it answers.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import warnings
from pathlib import Path

import msgspec

from mofang.base.domain.errors import ConversionFailed, MofangError, SandboxMissing
from mofang.make.convert.bench import Said, Task
from mofang.make.convert.catalog import opener
from mofang.make.convert.formats import FormatName
from mofang.make.convert.sandbox import confine, frameworks

_PR_SET_PDEATHSIG = 1
_RUN: frozenset[FormatName] = frozenset(
    {
        "pickle",
        "skops",
        "mlflow",
        "keras",
        "keras.h5",
        "torch.export",
        "torchscript",
        "torch.state",
        "savedmodel",
        "mindir",
    }
)
"""Formats whose files name what is to be run: a pickle anything, the others what their loaders let through."""


class _Pipe:
    """A Progress that tells the parent."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
        self.say(Said(message, fraction))

    def say(self, said: Said) -> None:
        os.write(self._descriptor, msgspec.json.encode(said) + b"\n")


def main() -> int:
    """Do one task."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    pipe, room = _Pipe(int(sys.argv[1])), Path(sys.argv[2])
    task = msgspec.json.decode(sys.argv[3], type=Task, dec_hook=lambda kind, value: kind(value))
    warnings.simplefilter("ignore")  # of frameworks about the versions of other frameworks' files
    try:
        _lock_in(task, room)
        pipe.say(Said(made=opener(task.format)(task.source, task.target, task.wishes, pipe)))
    except MofangError as error:
        pipe.say(Said(error.message, code=error.code, hint=error.hint))
    except MemoryError:
        pipe.say(_failed(f"opening the file takes more than {task.memory_bytes >> 20:,} MiB of memory"))
    except Exception as error:  # frameworks raise anything over a damaged file
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        pipe.say(_failed(f"the file cannot be opened: {type(error).__name__}: {first[:300]}"))
    return 0


def _failed(message: str) -> Said:
    return Said(message, code=ConversionFailed.code, hint="export the model again, best as ONNX")


def _lock_in(task: Task, room: Path) -> None:
    """Confine this process to the frameworks and its task.

    A file that runs what its maker wrote, or comes with code that does, is opened locked in or not at all. The loaders
    of other formats run nothing that is in a file; there the sandbox is a second wall, and a machine that has none
    converts without it.
    """
    try:
        confine([*frameworks(), task.source], (room, task.target), task.memory_bytes)
    except SandboxMissing:
        if task.format in _RUN or task.wishes.code:
            raise


if __name__ == "__main__":
    sys.exit(main())
