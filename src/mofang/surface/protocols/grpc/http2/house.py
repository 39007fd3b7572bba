"""What the connections of one gRPC server share, and the bounds they keep."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from mofang.surface.protocols.grpc.http2.stream import Method


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one gRPC server. Seconds are absolute: a byte now and then does not extend them."""

    message_bytes: int = 64 << 20  # of one message, also after decompression
    held_messages: int = 4  # so many of that size may be half received on one connection
    streams: int = 1024  # calls at once on one connection
    calls: int = 4096  # calls at once
    connections: int = 10_000
    address_connections: int = 1000  # from one remote address
    idle_frames: int = 4096  # that ask for nothing, between two sweeps; more is a flood
    resets: int = 512  # calls that a client takes back between two sweeps
    head_seconds: float = 10.0  # for the preface, and for a frame or a head that has begun
    body_seconds: float = 12.0  # for a message that has begun, and
    body_rate: int = 64 << 10  # bytes a second more for what has arrived
    write_seconds: float = 30.0  # for a peer that does not read
    idle_seconds: float = 300.0  # without a call
    age_seconds: float = 3600.0  # then the client is asked to connect anew
    grace_seconds: float = 300.0  # for the calls of a connection that ends
    ping_seconds: float = 60.0  # of silence, before we ask whether somebody is there
    pong_seconds: float = 20.0  # for the answer
    sweep_seconds: float = 0.25


class Member(Protocol):
    """A connection, as its house sees it."""

    def check(self, now: float) -> None:
        """Enforce the deadlines."""

    def drain(self) -> None:
        """End as soon as no call runs; a call that is on its way now is still taken."""

    def abort(self) -> None:
        """Drop the connection and what runs for it."""


@dataclass(slots=True)
class House:
    """What the connections of one server share."""

    methods: Mapping[str, Method]
    limits: Limits
    loop: asyncio.AbstractEventLoop
    draining: bool = False
    calls: int = 0
    connections: set[Member] = field(default_factory=set)
    addresses: Counter[str] = field(default_factory=Counter)
    empty: asyncio.Event = field(default_factory=asyncio.Event)  # the last connection is gone

    def enter(self, member: Member, address: str) -> bool:
        """Count a new connection; False if it has to go again."""
        full = len(self.connections) >= self.limits.connections
        if self.draining or full or self.addresses[address] >= self.limits.address_connections:
            return False
        self.connections.add(member)
        self.addresses[address] += 1
        return True

    def leave(self, member: Member, address: str) -> None:
        """A connection is gone."""
        if member in self.connections:
            self.connections.remove(member)
            self.addresses[address] -= 1
            if not self.addresses[address]:
                del self.addresses[address]
        if not self.connections:
            self.empty.set()
