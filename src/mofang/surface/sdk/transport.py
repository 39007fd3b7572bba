"""One HTTP connection pool to a server: sends requests, decodes answers into nouns, rebuilds errors.

Every stage of the client uses it; it knows neither stages nor tensors. What goes wrong on the way becomes an error
of the one tree: a refused connection is ServerNotRunning, a timeout DeadlineExceeded, and a problem document the very
class that was raised on the server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from mofang.base.domain.errors import (
    DeadlineExceeded,
    Internal,
    MofangError,
    ServerNotRunning,
    catalog,
)

T = TypeVar("T")
Body = bytes | Iterable[bytes]
API = "/api/v1"


class Transport:
    """A keyed connection pool to one server; safe to share between threads."""

    def __init__(
        self, url: str, key: str, *, timeout_seconds: float = 60.0, http: httpx.BaseTransport | None = None
    ) -> None:
        self.url = url
        self.key = key
        self.timeout_seconds = timeout_seconds
        base, uds = ("http://mofang", url.removeprefix("unix://")) if url.startswith("unix://") else (url, None)
        limits, is_safe = httpx.Limits(max_keepalive_connections=16), base.startswith("https:")
        self._client = httpx.Client(
            base_url=base,
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=timeout_seconds,
            # Without TLS there is nothing to verify, and loading the certificates takes longer than a request.
            transport=http or httpx.HTTPTransport(uds=uds, limits=limits, verify=is_safe),
        )

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def get(self, path: str, kind: type[T], query: Mapping[str, Any] | None = None, *, wait_seconds: float = 0.0) -> T:
        """GET ``/api/v1`` + ``path`` as a ``kind``; queries that are None are left out."""
        params = {name: value for name, value in (query or {}).items() if value is not None}
        if wait_seconds:
            params["wait"] = wait_seconds
        timeout = self.timeout_seconds + wait_seconds
        return decode(self.send("GET", API + path, params=params, timeout_seconds=timeout), kind)

    def text(self, path: str) -> str:
        """GET a document that is not JSON."""
        return self.send("GET", API + path).text

    def call(self, method: str, path: str, kind: type[T], body: Mapping[str, Any] | None = None) -> T:
        """Send a JSON ``body`` and return the answer as a ``kind``."""
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"content-type": "application/json"}
        return decode(self.send(method, API + path, content=content, headers=headers), kind)

    @contextmanager
    def stream(
        self, method: str, path: str, content: bytes, headers: Mapping[str, str], timeout_seconds: float
    ) -> Iterator[httpx.Response]:
        """Send one request and yield its answer, to be read as it comes; raise as :meth:`send`."""
        try:
            with self._client.stream(
                method, path, content=content, headers=headers, timeout=timeout_seconds
            ) as response:
                if not response.is_success:
                    response.read()
                    raise error_of(response)
                yield response
        except httpx.ConnectError as error:
            raise ServerNotRunning(f"no server answers at {self.url}") from error
        except httpx.TimeoutException as error:
            raise DeadlineExceeded(f"{self.url} did not answer {method} {path} in time") from error
        except httpx.HTTPError as error:
            raise ServerNotRunning(f"{self.url} broke off: {error}") from error

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        content: Body | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> httpx.Response:
        """Send one request and return its answer if it is a good one; raise the error it carries otherwise."""
        try:
            response = self._client.request(
                method,
                path,
                params=params,
                content=content,
                headers=headers,
                timeout=self.timeout_seconds if timeout_seconds is None else timeout_seconds,
            )
        except httpx.ConnectError as error:
            raise ServerNotRunning(f"no server answers at {self.url}") from error
        except httpx.TimeoutException as error:
            raise DeadlineExceeded(f"{self.url} did not answer {method} {path} in time") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServerNotRunning(f"{self.url} cannot be reached: {error}") from error
        if response.is_success:
            return response
        raise error_of(response)


def decode(response: httpx.Response, kind: type[T]) -> T:
    """Decode the JSON of ``response`` as a ``kind``; fields this client does not know are ignored."""
    try:
        return msgspec.json.decode(response.content, type=kind)
    except msgspec.MsgspecError as error:
        hint = "client and server may be of different versions; `mofang status` shows the server's"
        raise Internal(f"{response.url} answered what this client cannot read: {error}", hint=hint) from error


def error_of(response: httpx.Response) -> MofangError:
    """Rebuild the error an answer carries: a problem document, or the error body of an inference protocol."""
    try:
        body = response.json()
    except ValueError:
        body = None
    fields = body if isinstance(body, dict) else {}
    if isinstance(fields.get("error"), dict):  # the OpenAI API's
        said = fields["error"]
        code = "endpoint.not_found" if said.get("code") == "model_not_found" else said.get("code")
        fields = {"code": code, "error": said.get("message"), "hint": ""}  # the message ends with it
    detail = str(fields.get("detail") or fields.get("error") or f"the server answered {response.status_code}")
    retry = response.headers.get("retry-after", "")
    return rebuild(
        str(fields.get("code", "")),
        detail,
        fields.get("hint"),
        retry_after_seconds=int(retry) if retry.isdecimal() else None,
    )


def rebuild(code: str, message: str, hint: str | None = None, *, retry_after_seconds: int | None = None) -> MofangError:
    """Make the error that ``code`` stands for; Internal if this client does not know it."""
    cls = catalog().get(code, Internal)
    return cls(message, hint=hint, retry_after_seconds=retry_after_seconds)


def segment(value: object) -> str:
    """Quote ``value`` as one segment of a path: a name with a slash stays one name, and is refused as such."""
    quoted = quote(str(value), safe="")
    return quoted.replace(".", "%2E") if quoted in {".", ".."} else quoted
