"""What a protocol needs from the inference path, and no more.

``mofang.run.serve`` has the real one; tests bring a fake. Protocols call :meth:`Lane.authenticate` before anything
but the health of the server, and never look behind this interface.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mofang.base.domain.access import Principal
from mofang.base.domain.deployment import Route
from mofang.base.domain.errors import InvalidRequest, LoadedByDeploying, MofangError
from mofang.base.domain.inference import InferRequest, InferResponse
from mofang.base.domain.names import check_name
from mofang.run.serve.party import Party

DEFAULT_TIMEOUT_SECONDS = 30.0  # for callers who name no deadline
MAX_TIMEOUT_SECONDS = 3600.0
_MAX_TIMEOUT_MS = int(MAX_TIMEOUT_SECONDS * 1000)


class Passage(Protocol):
    """A request being answered."""

    def cancel(self) -> None:
        """Drop it if it has not ended; nobody is told then."""


class Lane(Protocol):
    """One way from a parsed request to an answer."""

    @property
    def ready(self) -> bool:
        """Whether the server takes requests: it has a snapshot and is not shutting down."""

    def names(self, principal: Principal) -> list[str]:
        """Return the names of the endpoints that are there for the principal."""

    def is_ready(self, principal: Principal, endpoint: str, version: str = "") -> bool:
        """Tell whether the endpoint (in that version, if one is given) can answer now."""

    def route(self, principal: Principal, endpoint: str, version: str = "") -> Route:
        """Return where a request would go; raise EndpointNotFound."""

    def statistics(self, principal: Principal, endpoint: str = "", version: str = "") -> list[dict[str, Any]]:
        """Return the statistics extension's entries of an endpoint, or of all; raise EndpointNotFound."""

    def authenticate(self, authorization: str | None, peer: str = "", forwarded_for: str | None = None) -> Principal:
        """Return the holder of the key in an ``Authorization`` value, who is connected from the address ``peer``.

        ``forwarded_for`` is what proxies said. Raises Unauthenticated, or OutOfNetwork.
        """

    async def infer(
        self, request: InferRequest, principal: Principal, *, request_id: str, deadline: float, input_bytes: int
    ) -> InferResponse:
        """Answer ``request`` by ``deadline`` (``time.monotonic()``); cancelling the call drops it."""

    def start(
        self,
        request: InferRequest,
        principal: Principal,
        *,
        request_id: str,
        deadline: float,
        input_bytes: int,
        told: Callable[[InferResponse | Exception], None],
    ) -> Passage:
        """The same without a task: raise at once, or call ``told`` later, once."""

    def refused(
        self,
        error: MofangError,
        request_id: str,
        endpoint: str,
        principal: Principal | None = None,
        input_bytes: int = 0,
    ) -> None:
        """Tell whoever looks at requests of one that was refused before the lane heard of it.

        Of what the lane itself refused they know already: then this does nothing.
        """


class PartyLane(Lane, Protocol):
    """A lane that lets requests of one turn travel together."""

    def recognise(self, endpoint: str, authorization: str | None, peer: str, forwarded_for: str | None) -> Principal:
        """Return the holder of a key for whom the endpoint is there; raise Unauthenticated or EndpointNotFound."""

    def party(self, endpoint: str, version: str, timeout_seconds: float) -> Party | None:
        """Return room for them, or None."""


def check_target(endpoint: str, version: str) -> None:
    """Raise InvalidName or InvalidRequest unless these can be the name of an endpoint and a version ("": any)."""
    check_name("endpoint", endpoint)
    if version and not (version.isascii() and version.isdecimal() and len(version) <= 18):
        raise InvalidRequest(f"{version[:40]!r} is no version; versions are numbers")


def deadline_seconds(headers: Mapping[str, str], usual: float) -> float:
    """Return how long the answer is worth waiting for; ``usual`` if the caller does not say. Raises InvalidRequest."""
    text = headers.get("x-request-timeout-ms")
    if text is None:
        return usual
    if not (text.isascii() and text.isdecimal() and len(text) <= 7 and 0 < int(text) <= _MAX_TIMEOUT_MS):
        raise InvalidRequest(f"x-request-timeout-ms is {text[:40]!r}; it takes 1 to {_MAX_TIMEOUT_MS}")
    return int(text) / 1000


def refuse_loading(model: str) -> LoadedByDeploying:
    """Return why the repository extension's load and unload are not served."""
    return LoadedByDeploying(f"model {model[:80]!r} is loaded and unloaded by deploying, not over this protocol")


def tell_refused(
    lane: Lane,
    error: Exception,
    request_id: str,
    endpoint: str,
    input_bytes: int,
    holder: Callable[[], Principal],
) -> None:
    """Tell :meth:`Lane.refused` of a request, and who asked if ``holder`` knows."""
    if isinstance(error, MofangError) and not error.seen:
        try:
            principal = holder()
        except MofangError:
            principal = None
        lane.refused(error, request_id, endpoint, principal, input_bytes)
