"""How gateways and workers talk over a Unix socket: a codec without I/O. What they say is in ``headers.py``.

A frame is ``magic, length of the frame, length of the header`` (12 bytes, little-endian), a msgpack header, and the raw
bytes of its tensors; header and tensors are padded to 8 bytes, so that arrays can be read in place. BYTES tensors are
a length (4 bytes, little-endian) and the bytes, for each element, as in the Open Inference Protocol. There is no
pickle: whatever arrives becomes frames of those sorts or a :class:`FrameError`.

A large tensor may lie in memory that both ends see (``shared.py``): its table names a descriptor, and no bytes follow.

Calls (or answers) whose tensors differ in nothing but their rows cross in a bundle: one frame, their tensors joined
along the first axis. The reader takes it apart again, so that whoever reads meets calls and answers only.

Deadlines cross as they are: ``time.monotonic()`` is one clock for all processes of a machine.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
import numpy as np

from mofang.base.domain.inference import Answer, Call
from mofang.base.domain.tensors import NUMPY, Array, datatype_of
from mofang.base.placement.headers import Arrive, Ask, Bundle, Embark, Header, Table, Tell
from mofang.base.placement.party import Party
from mofang.base.placement.shared import NotShared, Sharer

MAGIC = b"MFG1"
MAX_FRAME_BYTES = 1 << 30
COPIED_BYTES = 1 << 15  # a tensor up to this size is copied into its frame; a larger one is written from where it is
_PREFIX = struct.Struct("<4sII")
_ALIGN = 8
_PADDINGS = tuple(bytes(length) for length in range(_ALIGN))

Buffer = bytes | memoryview


class FrameError(Exception):
    """What arrived is no frame; the connection it came over cannot be used any more."""


Frame = tuple[Header, dict[str, Array]]
_WITH_TENSORS = (Ask, Tell, Embark, Arrive)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Header | Bundle] = msgspec.msgpack.Decoder(Header | Bundle)


# --- writing ----------------------------------------------------------------------------------------------------------


def encode(header: Header) -> bytes:
    """Return the frame of a header that has no tensors."""
    return b"".join(_frame(header, []))


def encode_call(number: int, call: Call, sharer: Sharer | None = None) -> list[Buffer]:
    """Return the frame of ``call`` in pieces to be written one after the other."""
    tables, bodies = _bodies(call.inputs, sharer)
    return _frame(_ask(number, call, tables), bodies)


def encode_calls(calls: Sequence[tuple[int, Call]]) -> list[Buffer]:
    """Return the frame of several calls whose inputs are of one :func:`form`."""
    return _bundle([_ask(number, call, []) for number, call in calls], [call.inputs for _, call in calls])


def encode_answer(number: int, answer: Answer, sharer: Sharer | None = None) -> list[Buffer]:
    """Return the frame of ``answer`` in pieces to be written one after the other."""
    tables, bodies = _bodies(answer.outputs, sharer)
    return _frame(_tell(number, answer, tables), bodies)


def encode_answers(answers: Sequence[tuple[int, Answer]]) -> list[Buffer]:
    """Return the frame of several answers whose outputs are of one :func:`form`."""
    return _bundle([_tell(number, answer, []) for number, answer in answers], [each.outputs for _, each in answers])


def encode_party(number: int, party: Party, sharer: Sharer | None = None) -> list[Buffer]:
    """Return the frame of a party whose calls have the numbers from ``number`` on."""
    tables, bodies = _bodies(party.inputs, sharer)
    tenants, rows, priorities = list(party.tenants), list(party.rows_of), dict(party.priorities)
    return _frame(Embark(number, party.deadline, tenants, rows, tables, priorities), bodies)


def encode_arrival(number: int, answer: Answer, sharer: Sharer | None = None) -> list[Buffer]:
    """Return the frame of the answer to a party."""
    tables, bodies = _bodies(answer.outputs, sharer)
    return _frame(Arrive(number, answer.compute_us, answer.queue_us, answer.batch_rows, tables), bodies)


def form(arrays: Mapping[str, Array]) -> object:
    """Return a value that is equal for tensors that can be joined in a bundle; None for those that cannot."""
    parts: list[object] = []
    rows = -1
    for name, array in arrays.items():
        shape, dtype = array.shape, array.dtype
        if not shape or dtype.hasobject or array.nbytes > COPIED_BYTES or (rows >= 0 and shape[0] != rows):
            return None
        rows = shape[0]
        parts += (name, dtype, shape[1:])
    return parts or None


def _ask(number: int, call: Call, tables: list[Table]) -> Ask:
    return Ask(number, call.request_id, call.tenant, call.rows, call.deadline, call.priority, tables, call.weight)


def _tell(number: int, answer: Answer, tables: list[Table]) -> Tell:
    return Tell(number, answer.compute_us, answer.queue_us, answer.batch_rows, dict(answer.extras), tables)


def _bundle(members: list[Ask | Tell], tensors: list[Mapping[str, Array]]) -> list[Buffer]:
    names = list(tensors[0])
    joined = {name: np.concatenate([each[name] for each in tensors]) for name in names}
    tables, bodies = _bodies(joined)
    return _frame(Bundle(members, [len(each[names[0]]) for each in tensors], tables), bodies)


def _frame(header: Header | Bundle, bodies: list[Buffer]) -> list[Buffer]:
    encoded = _encoder.encode(header)
    pieces: list[Buffer] = [encoded, _padding(_PREFIX.size + len(encoded))]
    for body in bodies:
        pieces += (body, _padding(len(body)))
    length = _PREFIX.size + sum(map(len, pieces))
    if length > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {length} bytes is over the limit of {MAX_FRAME_BYTES}")
    return [_PREFIX.pack(MAGIC, length, len(encoded)), *pieces]


def _bodies(arrays: Mapping[str, Array], sharer: Sharer | None = None) -> tuple[list[Table], list[Buffer]]:
    tables: list[Table] = []
    bodies: list[Buffer] = []
    for name, array in arrays.items():
        body = _body(array)
        shared = sharer.offer(body) if sharer is not None and isinstance(body, memoryview) else -1
        tables.append(Table(name, datatype_of(array), array.shape, len(body), shared))
        if shared < 0:
            bodies.append(body)
    return tables, bodies


def _body(array: Array) -> Buffer:
    if array.dtype.hasobject:
        texts: list[bytes] = array.ravel().tolist()
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    if array.nbytes <= COPIED_BYTES:
        return array.tobytes()
    return np.ascontiguousarray(array).data.cast("B")


def _padding(length: int) -> bytes:
    return _PADDINGS[-length % _ALIGN]


# --- reading ----------------------------------------------------------------------------------------------------------


class FrameReader:
    """Cuts a stream of bytes into frames. One that arrives in pieces is put together with one copy.

    Without a ``sharer``, no tensor can be shared.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_frame_bytes = max_frame_bytes
        self.sharer: Sharer | None = None
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = _PREFIX.size

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take in ``data`` and yield the frames it completes. Raises FrameError; the reader is of no use then."""
        if self._have:
            self._pieces.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._pieces)
        offset = length = 0
        view = memoryview(data)
        while offset < len(data) and (length := self._length(data, offset)) and offset + length <= len(data):
            yield from _decode(view[offset : offset + length], self.sharer)
            offset += length
            length = 0
        self._pieces = [data[offset:]]
        self._have = len(data) - offset
        self._need = length or _PREFIX.size

    def _length(self, data: bytes, offset: int) -> int:
        """Return the length of the frame that begins at ``offset``; 0 if that has not arrived yet."""
        if len(data) - offset < _PREFIX.size:
            return 0
        magic, length, header = _PREFIX.unpack_from(data, offset)
        if magic != MAGIC or length % _ALIGN or length < _PREFIX.size + header or length > self._max_frame_bytes:
            raise FrameError(f"no frame begins with {data[offset : offset + _PREFIX.size]!r}")
        return int(length)


def _decode(frame: memoryview, sharer: Sharer | None) -> Iterable[Frame]:
    length = _PREFIX.unpack_from(frame)[2]
    end = _PREFIX.size + length
    try:
        header = _decoder.decode(frame[_PREFIX.size : end])
        if isinstance(header, Bundle):
            return _taken_apart(header, _arrays(header.tables, frame, end + -end % _ALIGN, sharer))
        tables = header.tables if isinstance(header, _WITH_TENSORS) else []
        return ((header, _arrays(tables, frame, end + -end % _ALIGN, sharer)),)
    except (msgspec.MsgspecError, NotShared, ValueError, OverflowError, struct.error) as error:
        raise FrameError(f"a frame cannot be read: {error}") from error


def _taken_apart(bundle: Bundle, joined: dict[str, Array]) -> list[Frame]:
    total = sum(bundle.rows)
    if len(bundle.rows) != len(bundle.members) or any(not a.ndim or len(a) != total for a in joined.values()):
        raise FrameError("the parts of a bundle are not the whole")
    items = list(joined.items())
    frames: list[Frame] = []
    start = 0
    for member, rows in zip(bundle.members, bundle.rows, strict=True):
        end = start + rows
        frames.append((member, {name: array[start:end] for name, array in items}))
        start = end
    return frames


def _arrays(tables: list[Table], frame: memoryview, offset: int, sharer: Sharer | None) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for table in tables:
        if table.shared >= 0:
            if sharer is None:
                raise FrameError(f"tensor {table.name!r} is shared, and cannot be")
            arrays[table.name] = _array(table, sharer.map(table.shared, table.size_bytes), 0)
            continue
        if table.size_bytes < 0 or offset + table.size_bytes > len(frame):
            raise FrameError(f"tensor {table.name!r} reaches over the end of its frame")
        arrays[table.name] = _array(table, frame, offset)
        offset += table.size_bytes + -table.size_bytes % _ALIGN
    return arrays


def _array(table: Table, content: memoryview, offset: int) -> Array:
    if table.datatype == "BYTES":
        return _texts(content[offset : offset + table.size_bytes]).reshape(table.shape)
    dtype = NUMPY[table.datatype]
    if math.prod(table.shape) * dtype.itemsize != table.size_bytes:
        raise FrameError(f"tensor {table.name!r} has not as many bytes as its shape")
    return np.ndarray(table.shape, dtype, content, offset)


def _texts(body: memoryview) -> Array:
    texts: list[bytes] = []
    offset = 0
    while offset < len(body):
        (length,) = struct.unpack_from("<I", body, offset)
        offset += 4
        if offset + length > len(body):
            raise FrameError("a text reaches over the end of its tensor")
        texts.append(bytes(body[offset : offset + length]))
        offset += length
    array = np.empty(len(texts), dtype=np.object_)
    array[:] = texts
    return array
