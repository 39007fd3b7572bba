"""The client: ``mofang.Client(url, key)``, one attribute per stage of a model's life.

Used by people's programs, by the command line and by notebooks. Knows the nouns and the wire, nothing of the server.
"""

from __future__ import annotations

import os
from types import TracebackType

import httpx

from mofang.surface.sdk.audit import Audit
from mofang.surface.sdk.bill import Bill
from mofang.surface.sdk.budget import Budget
from mofang.surface.sdk.chat import Chat
from mofang.surface.sdk.compress import Compress
from mofang.surface.sdk.deploy import Deploy
from mofang.surface.sdk.evaluate import Evaluate
from mofang.surface.sdk.export import Export
from mofang.surface.sdk.identity import Identity
from mofang.surface.sdk.jobs import Jobs
from mofang.surface.sdk.meter import Meter
from mofang.surface.sdk.operate import Operate
from mofang.surface.sdk.prepare import Prepare
from mofang.surface.sdk.register import Register
from mofang.surface.sdk.serve import Serve
from mofang.surface.sdk.train import Train
from mofang.surface.sdk.transport import Transport
from mofang.surface.sdk.users import Users

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_GRPC_PORT = 8081


class Client:
    """A connection to a Mofang server.

    ``url`` is ``http(s)://HOST:PORT`` or ``unix:///PATH``; left out, ``MOFANG_URL`` or the server of this machine.
    ``key`` is an API key; left out, ``MOFANG_API_KEY``. ``grpc`` is the HOST:PORT for predictions over gRPC; left out,
    ``MOFANG_GRPC`` or port 8081 of the same host. ``transport`` replaces the network, for tests.

    Every method raises :class:`~mofang.base.domain.errors.MofangError` and nothing else for what the server refuses.
    """

    def __init__(
        self,
        url: str = "",
        key: str = "",
        *,
        grpc: str = "",
        timeout_seconds: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = (url or os.environ.get("MOFANG_URL") or DEFAULT_URL).rstrip("/")
        host = httpx.URL(self.url).host or "127.0.0.1"
        default = f"[{host}]:{DEFAULT_GRPC_PORT}" if ":" in host else f"{host}:{DEFAULT_GRPC_PORT}"
        self.grpc = grpc or os.environ.get("MOFANG_GRPC") or default
        key = key or os.environ.get("MOFANG_API_KEY", "")
        self._wire = wire = Transport(self.url, key, timeout_seconds=timeout_seconds, http=transport)
        self.jobs = Jobs(wire)
        self.prepare = Prepare(wire, self.jobs)
        self.train = Train(wire, self.jobs)
        self.evaluate = Evaluate(wire, self.jobs)
        self.register = Register(wire, self.jobs)
        self.compress = Compress(wire, self.jobs, self.register)
        self.export = Export(wire, self.jobs)
        self.deploy = Deploy(wire)
        self.serve = Serve(wire, self.grpc)
        self.chat = Chat(wire)
        self.meter = Meter(wire)
        self.budget = Budget(wire)
        self.bill = Bill(wire)
        self.identity = Identity(wire)
        self.users = Users(wire)
        self.audit = Audit(wire)
        self.operate = Operate(wire)

    def close(self) -> None:
        """Close every connection."""
        self.serve.close()
        self._wire.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
