"""System shared memory: tensors that stay on the machine, instead of going through a socket.

A client on the same machine makes a region (a file in ``/dev/shm``), registers it, and then sends where a tensor lies
in it instead of the tensor. Regions belong to the project that registered them. Registrations are files in ``folder``,
so that every gateway knows them. Bytes are read and written with system calls, not mapped: a client that cuts a region
short gets an error, where a mapping would end the gateway.

Whoever may register reaches all shared memory of the user this server runs as. So this is off unless the owner of the
machine says otherwise, and only for clients on it.

Source: the system shared memory extension of the Open Inference Protocol, as Triton serves it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from hashlib import blake2b
from ipaddress import ip_address
from pathlib import Path

import msgspec
import numpy as np

from mofang.base.domain.access import Principal
from mofang.base.domain.errors import Forbidden, InvalidRequest
from mofang.base.domain.tensors import Array, Datatype
from mofang.surface.wire.raw import decode_raw, encode_raw

_HOME = Path("/dev/shm")  # noqa: S108 (where POSIX shared memory is)
_KEY = re.compile(r"/?[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}")
_MOST_REGIONS = 1000  # of one project
_MOST_BYTES = 1 << 40


class Region(msgspec.Struct, frozen=True):
    """A registered region: ``byte_size`` bytes from ``offset`` of the shared memory called ``key``."""

    name: str
    key: str
    offset: int
    byte_size: int


class Place(msgspec.Struct, frozen=True):
    """Where a tensor lies: ``size`` bytes at ``offset`` of a region."""

    region: str
    size: int
    offset: int = 0


def place_of(parameters: object) -> Place | None:
    """Return the place that a tensor's parameters name, if they do. Raises InvalidRequest."""
    if not isinstance(parameters, dict) or "shared_memory_region" not in parameters:
        return None
    try:
        return msgspec.convert(
            {
                "region": parameters["shared_memory_region"],
                "size": parameters.get("shared_memory_byte_size"),
                "offset": parameters.get("shared_memory_offset", 0),
            },
            Place,
        )
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"not a place in shared memory: {error}") from None


class Regions:
    """The regions of all projects; ``folder`` None: none are served."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def extensions(self) -> tuple[str, ...]:
        """What of the protocol is served here."""
        return () if self._folder is None else ("system_shared_memory",)

    def of(self, principal: Principal, client: str) -> Memory:
        """Return what ``principal``, connected from ``client``, reaches. Raises Forbidden, InvalidRequest."""
        if self._folder is None:
            hint = "send the data in the request; the owner of the machine may set MOFANG_SHARED_MEMORY"
            raise InvalidRequest("shared memory is not served", hint=hint)
        if client and not _is_local(client):
            raise Forbidden("shared memory is for clients on the same machine")
        return Memory(self._folder / blake2b(principal.project.encode(), digest_size=16).hexdigest())


class Memory:
    """The regions of one project."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def register(self, region: Region) -> None:
        """Take a region. Raises InvalidRequest if there is no such memory, or the name is taken."""
        if not _KEY.fullmatch(region.key):
            raise InvalidRequest(f"{region.key[:80]!r} is no key of shared memory", hint="e.g. /my_tensors")
        if not 0 < region.byte_size <= _MOST_BYTES or not 0 <= region.offset <= _MOST_BYTES:
            raise InvalidRequest(f"a region has 1 to {_MOST_BYTES} bytes, not {region.byte_size} at {region.offset}")
        memory = _open(region)
        try:
            size = os.fstat(memory).st_size
        finally:
            os.close(memory)
        if size < region.offset + region.byte_size:
            end = region.offset + region.byte_size
            raise InvalidRequest(f"shared memory {region.key!r} has {size} bytes, the region would end at {end}")
        self._folder.mkdir(exist_ok=True, mode=0o700)
        if len(list(self._folder.iterdir())) >= _MOST_REGIONS:
            raise InvalidRequest(f"a project has at most {_MOST_REGIONS} regions", hint="unregister some")
        try:
            with self._path(region.name).open("xb") as file:
                file.write(msgspec.json.encode(region))
        except FileExistsError:
            raise InvalidRequest(f"a region {region.name[:80]!r} is registered already") from None

    def unregister(self, name: str = "") -> None:
        """Forget a region, or all of them; one that is not registered is forgotten already."""
        for region in self.list() if not name else (self._find(name),):
            if region is not None:
                self._path(region.name).unlink(missing_ok=True)

    def list(self, name: str = "") -> list[Region]:
        """Return the regions, or the one of that name. Raises InvalidRequest if it is not registered."""
        if name:
            return [self._get(name)]
        paths = self._folder.iterdir() if self._folder.exists() else ()
        found = (_read(path) for path in sorted(paths))
        return [region for region in found if region is not None]

    def load(self, name: str, datatype: Datatype, shape: Sequence[int], place: Place) -> Array:
        """Return the tensor that lies at ``place``. Raises InvalidRequest, TensorShape or TensorData."""
        region = self._inside(place)
        data = bytearray(place.size)
        memory = _open(region)
        try:
            count = os.preadv(memory, [data], region.offset + place.offset)
        finally:
            os.close(memory)
        if count != place.size:
            raise InvalidRequest(f"shared memory {region.key!r} is shorter than it was when it was registered")
        return decode_raw(name, datatype, shape, memoryview(data))

    def store(self, name: str, array: Array, place: Place) -> int:
        """Write a tensor to ``place`` and return its bytes. Raises InvalidRequest if it does not fit."""
        data = (
            encode_raw(array) if array.dtype == object else np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        )
        region = self._inside(place)
        if len(data) > place.size:
            raise InvalidRequest(f"output {name!r} has {len(data)} bytes, its place in shared memory {place.size}")
        memory = _open(region)
        try:
            if os.fstat(memory).st_size < region.offset + place.offset + len(data):
                raise InvalidRequest(f"shared memory {region.key!r} is shorter than it was when it was registered")
            os.pwrite(memory, data, region.offset + place.offset)
        finally:
            os.close(memory)
        return len(data)

    def check(self, place: Place) -> None:
        """Raise InvalidRequest unless ``place`` is inside of a registered region."""
        self._inside(place)

    def _inside(self, place: Place) -> Region:
        region = self._get(place.region)
        if place.size < 0 or not 0 <= place.offset <= region.byte_size - place.size:
            end = place.offset + place.size
            raise InvalidRequest(f"region {place.region!r} has {region.byte_size} bytes, the tensor would end at {end}")
        return region

    def _get(self, name: str) -> Region:
        region = self._find(name)
        if region is None:
            raise InvalidRequest(f"no region {name[:80]!r} is registered")
        return region

    def _find(self, name: str) -> Region | None:
        return _read(self._path(name))

    def _path(self, name: str) -> Path:
        return self._folder / blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _is_local(client: str) -> bool:
    try:
        return ip_address(client.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _read(path: Path) -> Region | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Region)
    except (FileNotFoundError, msgspec.DecodeError):  # not there, or just being written
        return None


def _open(region: Region) -> int:
    try:
        return os.open(_HOME / region.key.removeprefix("/"), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidRequest(f"shared memory {region.key!r} cannot be opened: {error.strerror}") from None
