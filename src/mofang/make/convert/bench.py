"""The bench: a process of its own, locked in, where a model of another framework is opened and converted.

Called by the push job. What a stranger made is opened nowhere else: there the process can read the frameworks and the
pushed files, write into one folder, and nothing more (``sandbox.py``). If a framework crashes over a damaged file, or
the file runs a program, it happens there. What comes back is treated as hostile again: a folder of files that is
looked into like any pushed one, and a few words that are checked here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec

from mofang.base.domain.errors import ConversionFailed, Internal, catalog
from mofang.base.domain.tensors import Datatype
from mofang.base.domain.work import Progress
from mofang.make.convert.formats import FormatName

_MOST_LINE_BYTES = 1 << 20
_LOG_BYTES = 4000
_SHARE_BEFORE = 0.2  # of the whole work, done when the bench begins


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the one who pushes says about a model, where its file does not."""

    allow_pickle: bool = False
    architecture: str = ""  # of bare weights: which network they are for
    code: str = ""  # of a network that is in no package: the Python file that ``architecture`` names
    input_shape: tuple[int, ...] = ()  # of a model whose file does not say: without the batch
    labels: tuple[str, ...] = ()  # of the classes, in order
    rename: dict[str, str] = field(default_factory=dict)  # inputs and outputs: from, to
    meanings: dict[str, str] = field(default_factory=dict)  # of inputs and outputs, by their new names
    datatypes: dict[str, Datatype] = field(default_factory=dict)  # the same
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)  # of inputs, by their new names; -1: still open

    @property
    def changes_ends(self) -> bool:
        """Whether the graph must be written again."""
        return bool(self.rename or self.datatypes or self.shapes)


@dataclass(frozen=True, slots=True)
class Made:
    """What the bench left in its folder: an artifact of ``engine``, and how it was proven.

    ``why_native`` says why it is no ONNX, where it is none. ``packages``: what opened and converted it.
    """

    engine: str
    labels: tuple[str, ...] = ()
    proof: dict[str, Any] = field(default_factory=dict)
    why_native: str = ""
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """What the bench is asked: open ``source``, which is of ``format``, and write an artifact into ``target``."""

    format: FormatName
    source: Path
    target: Path
    wishes: Wishes
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Said:
    """One line from the bench: how far it is, what it made, or why it did not."""

    message: str = ""
    fraction: float = 0.0
    made: Made | None = None
    code: str = ""
    hint: str = ""


def make_apart(task: Task, progress: Progress, python: Path = Path(sys.executable)) -> Made:
    """Have ``task`` done on a bench, by the interpreter ``python``, and return what was made there.

    Raises what the opening module raised (ConversionFailed, ParityFailed, InvalidModel, ExtraMissing, SandboxMissing),
    and ConversionFailed if the process died over the file, or JobCancelled.
    """
    with _process(task, python) as (process, lines, log):
        for line in lines:
            said = _decode(line)
            if said.made is not None:
                return said.made
            if said.code:
                known = catalog().get(said.code, Internal)
                raise known(said.message[:2000], hint=said.hint[:500] or None)
            progress.report(
                "convert", _SHARE_BEFORE + (1 - _SHARE_BEFORE) * min(max(said.fraction, 0), 1), said.message[:500]
            )
        status = process.wait()
    raise ConversionFailed(
        f"the process that opened the file {_end(status)}{_last_words(log)}",
        hint="the file is damaged, or needs more memory than a model of its size should; export it again, best as ONNX",
    )


@contextmanager
def _process(task: Task, python: Path) -> Iterator[tuple[subprocess.Popen[bytes], Iterator[bytes], Path]]:
    ours, theirs = os.pipe()
    task.target.mkdir(parents=True, exist_ok=True)
    room = task.target.parent / "room"  # home and temporary folder, thrown away with what the file left there
    room.mkdir()
    log = task.target.parent / "bench.log"
    asked = msgspec.json.encode(task, enc_hook=str).decode()
    command = [str(python), "-P", "-m", "mofang.make.convert.benchwork", str(theirs), str(room), asked]
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "env": _environment(room), "cwd": room}
    with log.open("wb") as out, os.fdopen(ours, "rb") as said:
        process = subprocess.Popen(command, stdout=out, stderr=out, pass_fds=[theirs], **streams)
        os.close(theirs)
        try:
            yield process, _lines(said), log
        finally:
            process.kill()
            process.wait()


def _environment(room: Path) -> dict[str, str]:
    """Return the variables of the bench: none of the server's, which hold the address of the database."""
    kept = {name: os.environ[name] for name in ("LANG", "LD_LIBRARY_PATH") if name in os.environ}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    own = {
        "HOME": str(room),
        "TMPDIR": str(room),
        "PATH": "/usr/bin:/bin",
        "KERAS_BACKEND": "torch",
        "HF_HUB_OFFLINE": "1",
    }
    return {**kept, **threads, **own, "TORCHINDUCTOR_CACHE_DIR": str(room), "USER": "bench", "LOGNAME": "bench"}


def _lines(said: IO[bytes]) -> Iterator[bytes]:
    while line := said.readline(_MOST_LINE_BYTES):
        yield line


def _decode(line: bytes) -> Said:
    try:
        return msgspec.json.decode(line, type=Said)
    except msgspec.MsgspecError as error:
        raise ConversionFailed("the process that opened the file said something else than it should") from error


def _end(status: int) -> str:
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"


def _last_words(log: Path) -> str:
    text = log.read_bytes()[-_LOG_BYTES:].decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""
