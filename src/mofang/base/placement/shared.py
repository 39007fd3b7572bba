"""Large tensors between two processes of a machine, in memory that both see: one copy into it, and none out of it.

The sender copies a tensor into a memory file, seals it, and names its descriptor in a frame. The receiver opens that
descriptor of the sender's, maps it, and says so; then the sender closes it. The memory goes when nobody maps it any
more, however the two processes end: a kill leaves nothing behind.

The receiver need not trust the sender. It opens descriptors of the process at the other end of its connection only, and
maps nothing but what is sealed: that is nobody's file, and can neither shrink nor change once it is mapped.

Sources: the manual pages memfd_create(2), fcntl(2) under "File Sealing", proc(5) under ``/proc/pid/fd``, unix(7).
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import mmap
import os
import socket
import struct
import sys
import weakref
from collections.abc import Iterable

from mofang.base.storage.files import write_all

SHARED_BYTES = 1 << 18
"""A tensor from this size on is shared; for smaller ones the calls of the system cost more than two copies."""
_MOST = 16  # that the other end has not mapped yet: it does not read, and what comes now waits on the socket
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_FAILED = ctypes.c_void_p(-1).value
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_longlong]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class NotShared(Exception):
    """What the other end named is no tensor of its own."""


class Sharer:
    """One end of a connection to the process ``peer``. It ``offers`` if that process can open its descriptors."""

    def __init__(self, peer: int, *, offers: bool) -> None:
        self._peer = peer
        self._offered: set[int] = set()
        self._mapped: list[int] = []
        self.offers = offers

    def offer(self, body: memoryview) -> int:
        """Copy ``body`` and return the descriptor to name in its frame; -1 if it is to be sent on the socket."""
        if not self.offers or body.nbytes < SHARED_BYTES or len(self._offered) >= _MOST:
            return -1
        try:
            return self._copied(body)
        except OSError:  # no memory for it, or no descriptor: the socket still works
            return -1

    def withdraw(self, descriptors: Iterable[int]) -> None:
        """Close what the other end has mapped."""
        for descriptor in descriptors:
            if descriptor in self._offered:
                self._offered.remove(descriptor)
                os.close(descriptor)

    def map(self, descriptor: int, size_bytes: int) -> memoryview:
        """Return what the other end has offered; raise NotShared if it has not, or not so much."""
        if size_bytes <= 0:
            raise NotShared(f"{size_bytes} bytes are not shared")
        try:
            opened = os.open(f"/proc/{self._peer}/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NotShared(f"descriptor {descriptor} of process {self._peer} cannot be opened: {error}") from error
        try:
            if fcntl.fcntl(opened, fcntl.F_GET_SEALS) != _SEALS or os.fstat(opened).st_size != size_bytes:
                raise NotShared(f"descriptor {descriptor} of process {self._peer} is not sealed, or of another size")
            body = _map(opened, size_bytes)
        except OSError as error:  # no memory file, or no room to map it
            raise NotShared(f"descriptor {descriptor} of process {self._peer} cannot be mapped: {error}") from error
        finally:
            os.close(opened)
        self._mapped.append(descriptor)
        return body

    def mapped(self) -> list[int]:
        """Return what was mapped since this was asked last; the other end is to be told."""
        mapped, self._mapped = self._mapped, []
        return mapped

    def close(self) -> None:
        """The connection is gone, and nobody will open what is offered."""
        self.withdraw(list(self._offered))

    def _copied(self, body: memoryview) -> int:
        descriptor = os.memfd_create("tensor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            write_all(descriptor, body)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        except OSError:
            os.close(descriptor)
            raise
        self._offered.add(descriptor)
        return descriptor


if sys.platform == "linux":
    _SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def _map(descriptor: int, size_bytes: int) -> memoryview:
    """Map a file to be read, as long as the result is used. Python's ``mmap`` would keep a descriptor open as long."""
    address = _libc.mmap(None, size_bytes, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    body = (ctypes.c_ubyte * size_bytes).from_address(address)
    weakref.finalize(body, _libc.munmap, address, size_bytes).atexit = False
    return memoryview(body).cast("B").toreadonly()


def sharer(transport: asyncio.BaseTransport, *, offers: bool) -> Sharer | None:
    """Return what shares with the process at the other end of a Unix socket; None where memory cannot be shared so."""
    if sys.platform != "linux":
        return None
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as end:
        credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    peer: int = _CREDENTIALS.unpack(credentials)[0]
    return Sharer(peer, offers=offers) if peer else None  # 0: a process of another container
