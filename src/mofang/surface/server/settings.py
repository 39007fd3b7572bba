"""Settings of a server: read once, frozen, each with its unit and reason. Given on the command line or as MOFANG_*."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mofang.base.domain.errors import InvalidNetwork, InvalidSettings
from mofang.base.identity.addresses import check_network
from mofang.base.users.rules import parse_rules

DURABILITIES = ("process", "power")
_SWITCH = {"true": True, "1": True, "false": False, "0": False}


def default_data() -> Path:
    """Return the user's data directory for Mofang (XDG base directories)."""
    home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(home) / "mofang"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a server can be told; every field can also be set as ``MOFANG_<FIELD>``."""

    data: Path = field(default_factory=default_data)
    """Folder that holds everything: database, models, journal, keys. Back it up, move it, start it again."""
    http: str = "127.0.0.1:8080"
    """HOST:PORT of HTTP: inference, control API, metrics. Loopback by default: sharing is a decision."""
    grpc: str = "127.0.0.1:8081"
    """HOST:PORT of gRPC."""
    database: str = ""
    """SQLAlchemy URL of the database; empty: SQLite in the data directory."""
    gateways: int = 1
    """Gateway processes sharing the ports; one uses one core for parsing and protocol."""
    jobs: int = 1
    """Jobs (training, compression) that run at once; each may use all cores."""
    engine_threads: int = 0
    """Threads of one replica's engine inside one call. 0: one, but all cores where the first load of a model that has
    one replica, in a process of its own, measures that they make it faster by a third; more replicas scale better."""
    upstreams: str = ""
    """File (TOML) of the servers whose models may be offered here: for each `base_url`, and `key_file` or `key_env`."""
    vllm: str = ""
    """How the engine `vllm` starts its server: words with {folder}, {port}, {model}, {slots}, {context}; empty: as is
    usual. The server must take the key in VLLM_API_KEY."""
    on_demand_bytes: int = 1 << 30
    """Memory that workers loaded on demand (`mofang deploy NAME --on-demand`) may hold together, in bytes; beyond it
    those are unloaded that were not asked for longest."""
    nurseries: int = 1
    """Engines, those of most models loaded on demand, for which a process waits that has imported them and has workers
    born of it: a model then loads a third of a second sooner, and takes some 25 MB less. Each holds some 35 MB, counted
    with the others; 0: none."""
    worker_bytes: int = 0
    """Memory that one worker of a model of tensors may take, in bytes; it is then locked in as well: no file but its
    model's, no connection, no other process; it starts a third of a second later. 0: neither. For models of
    strangers; language models run as they are."""
    body_bytes: int = 64 << 20
    """Largest inference body, in bytes."""
    connections: int = 10_000
    """HTTP connections a gateway keeps; fewer where a process may not open so many files."""
    address_connections: int = 1000
    """HTTP connections from one remote address; raise it behind a reverse proxy that opens more."""
    upload_bytes: int = 8 << 30
    """Largest upload (one file of a model), in bytes."""
    trusted_proxies: str = ""
    """Networks (CIDR), separated by commas, of reverse proxies whose `X-Forwarded-For` is believed; empty: of none."""
    session_seconds: int = 12 * 3600
    """How long somebody who signed in stays so; then she signs in again."""
    oidc_issuer: str = ""
    """URL of the OpenID Connect provider that may say who people are, exactly as it calls itself; empty: none."""
    oidc_client: str = "mofang"
    """Our client id at that provider."""
    oidc_secret_file: str = ""
    """File with our client secret, read by the controller alone; empty: a public client, which PKCE protects."""
    oidc_roles: str = ""
    """Which roles the provider's claims give, e.g. `groups=ml-* -> developer@tenant:acme; email=ada@a.org -> owner`."""
    sources: str = "/usr/share/datasets"
    """Folders, separated by colons, whose files recipes of developers may read as data; admins' may read any."""
    sources_internal: bool = False
    """Whether `http:` and `https:` sources may be on addresses that are not public (this machine, private networks)."""
    durability: str = "process"
    """When an answer may leave: its usage is with the kernel (`process`: survives kill -9), or on the disk (`power`:
    survives a power cut too, and each answer waits for a sync it shares with others)."""
    idempotency_seconds: int = 86_400
    """How long the answer to a request with an Idempotency-Key is kept for those who send it again."""
    idempotency_bytes: int = 1 << 30
    """Disk that kept answers may take; the oldest give way."""
    webhooks_internal: bool = False
    """Whether webhooks may be on addresses that are not public (this machine, private networks)."""
    grace_hours: int = 1
    """Hours after the end of a period before its invoice can be issued, so that usage on its way still gets into it."""
    audit_heads: str = ""
    """File that signed heads of the audit log are appended to; empty: in the data directory. On another disk, best one
    that only takes appends, it shows if the log was cut or rewritten as a whole."""
    audit_webhook: str = ""
    """URL that each new head is posted to as well, as JSON; empty: none."""
    shared_memory: bool = False
    """Whether clients on this machine may send tensors through shared memory. Whoever has a key then reaches
    all POSIX shared memory of the user this server runs as."""
    access_share: float = 0.0
    """Share of requests to infer, 0 to 1, with a line in the access log: ids, digest, outcome, times, no payload."""
    traces: str = ""
    """URL of an OpenTelemetry collector that takes spans (OTLP over HTTP), as `http://127.0.0.1:4318/v1/traces`; empty:
    none. Needs the extra `telemetry`."""
    traces_share: float = 0.0
    """Share of requests, 0 to 1, that begin a trace; one that belongs to a trace (`traceparent`) does as that does."""
    drain_seconds: float = 30.0
    """How long a stopping server waits for requests in flight."""

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **given: Any) -> Settings:
        """Take what is ``given`` (None: not given), then MOFANG_*, then the defaults; raise InvalidSettings."""
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        for spec in fields(cls):
            text = environ.get(f"MOFANG_{spec.name.upper()}")
            if text and spec.name not in values:
                values[spec.name] = _read(spec.name, str(spec.type), text)
        settings = cls(**{**values, "data": Path(values.get("data", default_data())).expanduser().absolute()})
        settings.check()
        return settings

    def check(self) -> None:
        """Raise InvalidSettings if a value cannot be."""
        for name in ("http", "grpc"):
            split_address(name, getattr(self, name))
        if self.durability not in DURABILITIES:
            raise InvalidSettings(f"durability is {' or '.join(DURABILITIES)}, not {self.durability!r}")
        bounds = {"gateways": (1, 64), "jobs": (1, 64), "engine_threads": (0, 256)}
        bounds |= {"connections": (1, 1_000_000), "address_connections": (1, 1_000_000)}
        bounds |= {"body_bytes": (1, 2**31 - 1), "upload_bytes": (1, 2**53), "drain_seconds": (0, 3600)}
        bounds |= {"idempotency_seconds": (1, 10**8), "idempotency_bytes": (0, 2**53)}
        bounds |= {"on_demand_bytes": (0, 2**53), "nurseries": (0, 64), "worker_bytes": (0, 2**53)}
        bounds |= {"access_share": (0, 1), "traces_share": (0, 1)}
        bounds |= {"session_seconds": (60, 366 * 86_400), "grace_hours": (0, 10_000)}
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidSettings(f"{name} is {low} to {high}, not {value}")
        if self.traces and not self.traces.startswith(("http://", "https://")):
            raise InvalidSettings(f"traces is the URL of a collector, not {self.traces!r}")
        if self.traces_share and not self.traces:
            raise InvalidSettings("traces_share without traces: say where spans are to be sent")
        parse_rules(self.oidc_roles)
        try:
            _ = self.proxies
        except InvalidNetwork as error:
            raise InvalidSettings(f"trusted_proxies: {error.message}", hint=error.hint) from error

    @property
    def proxies(self) -> tuple[str, ...]:
        """The networks of trusted proxies."""
        return tuple(check_network(text) for text in self.trusted_proxies.split(",") if text.strip())

    @property
    def engine_options(self) -> dict[str, dict[str, int | str]]:
        """What engines are told when they load, by engine; one that is not here is told nothing."""
        return {"onnx": {"threads": self.engine_threads or 1}, "upstream": {"file": self.upstreams},
                "vllm": {"command": self.vllm}}  # fmt: skip

    @property
    def database_url(self) -> str:
        """The database's URL, SQLite in the data directory unless another was given."""
        return self.database or f"sqlite:///{self.data / 'mofang.db'}"


def split_address(name: str, text: str) -> tuple[str, int]:
    """Split HOST:PORT ([v6]:PORT too); raise InvalidSettings."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 0 <= int(port) <= 65535 or not host:
        raise InvalidSettings(f"{name} is HOST:PORT, not {text!r}", hint="e.g. 127.0.0.1:8080; port 0 takes a free one")
    return host.strip("[]"), int(port)


def _read(name: str, kind: str, text: str) -> Any:
    readers: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "Path": Path, "bool": _switch}
    try:
        return readers.get(kind, str)(text)
    except ValueError:
        raise InvalidSettings(f"MOFANG_{name.upper()} is {text!r}, which is no {kind}") from None


def _switch(text: str) -> bool:
    if text.lower() not in _SWITCH:
        raise ValueError(text)
    return _SWITCH[text.lower()]
