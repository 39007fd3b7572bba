"""What gateways and workers say to each other: the headers of their frames, which ``frames.py`` writes and reads."""

from __future__ import annotations

import functools
from typing import Annotated, Literal

import msgspec

from mofang.base.domain.deployment import Calibration
from mofang.base.domain.errors import Internal, MofangError, catalog
from mofang.base.domain.generation import Delta, Occupancy, Order, Profile
from mofang.base.domain.tensors import Datatype, Signature

State = Literal["loading", "ready", "failed", "draining"]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class Table(msgspec.Struct, array_like=True, frozen=True):
    """Where one tensor is: the tensors of a frame follow each other in the order of their tables.

    One that is shared does not: it is what the sender's descriptor ``shared`` names.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    size_bytes: int
    shared: int = -1


class Fault(msgspec.Struct, array_like=True, frozen=True):
    """A MofangError on the wire."""

    code: str
    message: str
    hint: str
    retry_after_seconds: int | None

    @classmethod
    def of(cls, error: MofangError) -> Fault:
        """Take ``error`` apart."""
        return cls(error.code, error.message, error.hint, error.retry_after_seconds)

    def error(self) -> MofangError:
        """Put the error together again; one of an unknown code becomes Internal."""
        kind = _classes().get(self.code, Internal)
        return kind(self.message, hint=self.hint, retry_after_seconds=self.retry_after_seconds)


class Ask(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """Gateway to worker: compute this. ``id`` is the gateway's, unique on its connection."""

    id: int
    request_id: str
    tenant: str
    rows: Positive
    deadline: float
    priority: int
    tables: list[Table]
    weight: float = 1.0


class Forget(msgspec.Struct, array_like=True, tag=2, frozen=True):
    """Gateway to worker: nobody waits for these any more."""

    ids: list[int]


class Tell(msgspec.Struct, array_like=True, tag=3, frozen=True):
    """Worker to gateway: the answer."""

    id: int
    compute_us: int
    queue_us: int
    batch_rows: int
    extras: dict[str, int]
    tables: list[Table]


class Refuse(msgspec.Struct, array_like=True, tag=4, frozen=True):
    """Worker to gateway: there is no answer, and why."""

    id: int
    fault: Fault


class Hello(msgspec.Struct, array_like=True, tag=5, frozen=True):
    """Worker to gateway: how it stands; first on every connection, and again when it changes."""

    state: State
    fault: Fault | None = None
    signature: Signature | None = None
    profile: Profile | None = None  # of a language model
    calibration: Calibration | None = None  # if it was measured by this load
    maps: bool = False  # whether tensors may be shared with it


class Bundle(msgspec.Struct, array_like=True, tag=6, frozen=True):
    """Several Asks or Tells, without tables of their own; ``rows`` are the parts they have in each joined tensor."""

    members: list[Ask | Tell]
    rows: list[Annotated[int, msgspec.Meta(ge=0)]]
    tables: list[Table]


class Begin(msgspec.Struct, array_like=True, tag=7, frozen=True):
    """Gateway to worker of a language model: say something. ``id`` as in :class:`Ask`."""

    id: int
    order: Order


class Begun(msgspec.Struct, array_like=True, tag=8, frozen=True):
    """Worker to gateway: the order is good; its prompt has so many tokens, and its answer so many at most.

    It waits for its turn; one that is ``held`` for a :class:`Proceed` first.
    """

    id: int
    input_tokens: int
    output_tokens: int


class Deltas(msgspec.Struct, array_like=True, tag=9, frozen=True):
    """Worker to gateway: what one step added to all streams of the gateway; each names its Begin's ``id``."""

    deltas: list[Delta]


class Embark(msgspec.Struct, array_like=True, tag=10, frozen=True):
    """Gateway to worker: compute these calls as one if nobody else waits; they have the ids from ``id`` on."""

    id: int
    deadline: float
    tenants: list[tuple[str, float, Positive]]  # each with its weight, and how many of the next calls are its
    rows: list[Positive]
    tables: list[Table]
    priorities: dict[int, int] = {}  # of calls that have another than 0, by their places


class Arrive(msgspec.Struct, array_like=True, tag=11, frozen=True):
    """Worker to gateway: the answer to all calls of an :class:`Embark`."""

    id: int
    compute_us: int
    queue_us: int
    batch_rows: int
    tables: list[Table]


class Apart(msgspec.Struct, array_like=True, tag=12, frozen=True):
    """Worker to gateway: the calls of an :class:`Embark` will be answered one by one."""

    id: int


class Occupied(msgspec.Struct, array_like=True, tag=13, frozen=True):
    """Worker to gateway: how full a language model is; when streams came or went, and now and then."""

    occupancy: Occupancy


class Proceed(msgspec.Struct, array_like=True, tag=14, frozen=True):
    """Gateway to worker of a language model: these were held, and may be computed."""

    ids: list[int]


class Mapped(msgspec.Struct, array_like=True, tag=15, frozen=True):
    """Either way: these descriptors of yours are mapped, and can be closed."""

    descriptors: list[int]


Header = (
    Ask
    | Forget
    | Tell
    | Refuse
    | Hello
    | Begin
    | Begun
    | Deltas
    | Embark
    | Arrive
    | Apart
    | Occupied
    | Proceed
    | Mapped
)


@functools.cache
def _classes() -> dict[str, type[MofangError]]:
    return catalog()
