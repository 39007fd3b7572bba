"""Data from a web server: fetched once into a file, resumed where it broke off, held to a size and to its digest.

The server fetches what a stranger's recipe names, so the address is resolved here, checked, and asked by number:
neither a name nor a redirect can lead to the inside. ``#sha256=HEX`` after the URL says what the bytes must be.
"""

from __future__ import annotations

import hashlib
import socket
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import httpx

from mofang.base.domain.errors import DatasetUnavailable, InvalidDataset
from mofang.base.domain.work import Progress
from mofang.base.identity.addresses import reachable

MOST_BYTES = 100 << 30
_TRIES, _PAUSE_SECONDS, _MOST_REDIRECTS = 5, 0.2, 5
_TIMEOUT_SECONDS = 30.0
_REPORT_BYTES = 8 << 20


def fetch(source: str, scratch: Path, progress: Progress, internal: bool, most_bytes: int = MOST_BYTES) -> Path:
    """Fetch ``source`` into ``scratch`` and return the file. Raises DatasetUnavailable or InvalidDataset."""
    text, _, wanted = source.partition("#sha256=")
    url = _parsed(text)
    path = scratch / ("fetched" + PurePosixPath(url.path).suffix[:10])
    with path.open("wb") as file, httpx.Client(trust_env=False, timeout=_TIMEOUT_SECONDS) as client:
        _Download(client, file, progress, internal, most_bytes).run(url)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if wanted and found != wanted.lower():
        raise InvalidDataset(
            f"{_plain(url)} is not what the recipe names: its SHA-256 is {found}, not {wanted}",
            hint="look whether the data was changed, and correct the digest in the recipe if that is right",
        )
    progress.report("prepare", 0.3, f"fetched {path.stat().st_size:,} bytes, sha256={found}")
    return path


@dataclass(slots=True)
class _Download:
    client: httpx.Client
    file: BinaryIO
    progress: Progress
    internal: bool
    most_bytes: int
    mark: str = ""  # the strong ETag of what is in the file so far; without one it cannot be gone on with

    def run(self, url: httpx.URL) -> None:
        """Fetch, and go on after what breaks off."""
        for failures in range(1, _TRIES + 1):
            try:
                self._follow(url)
                return
            except httpx.TransportError as error:
                if failures == _TRIES:
                    raise DatasetUnavailable(f"{_plain(url)} broke off {failures} times: {error}") from error
                said = f"{_plain(url)} broke off at {self.file.tell():,} bytes; going on"
                self.progress.report("prepare", 0.1, said)
                time.sleep(_PAUSE_SECONDS * 2**failures)

    def _follow(self, url: httpx.URL) -> None:
        for _ in range(_MOST_REDIRECTS + 1):
            have = self.file.tell() if self.mark else 0
            answer = self._ask(url, have)
            try:
                if answer.has_redirect_location:
                    url = _parsed(str(url.join(answer.headers["location"])))
                    continue
                if answer.status_code not in (200, 206):
                    raise DatasetUnavailable(f"{_plain(url)} answered {answer.status_code}")
                goes_on = answer.headers.get("content-range", "").startswith(f"bytes {have}-")
                self.file.seek(have if answer.status_code == 206 and goes_on else 0)
                self.file.truncate()
                tag = answer.headers.get("etag", "")
                self.mark = "" if tag.startswith("W/") else tag  # a weak one does not vouch for single bytes
                self._write(answer, url)
            finally:
                answer.close()
            return
        raise DatasetUnavailable(f"{_plain(url)} was reached over more than {_MOST_REDIRECTS} redirects")

    def _ask(self, url: httpx.URL, have: int) -> httpx.Response:
        headers = {"host": url.netloc.decode("ascii"), "accept-encoding": "identity"}
        if have:
            headers |= {"range": f"bytes={have}-", "if-range": self.mark}
        numbered = url.copy_with(host=_resolved(url, self.internal))
        asked = self.client.build_request("GET", numbered, headers=headers, extensions={"sni_hostname": url.host})
        return self.client.send(asked, stream=True)

    def _write(self, answer: httpx.Response, url: httpx.URL) -> None:
        announced = answer.headers.get("content-length", "")
        told = self.file.tell()
        whole = told + (int(announced) if announced.isdecimal() else 0)
        if whole > self.most_bytes:
            raise _too_large(url, self.most_bytes)
        for piece in answer.iter_raw():
            if self.file.tell() + len(piece) > self.most_bytes:
                raise _too_large(url, self.most_bytes)
            self.file.write(piece)
            if self.file.tell() - told >= _REPORT_BYTES:
                told = self.file.tell()
                share = min(told / whole, 1.0) if announced else 0.5
                self.progress.report("prepare", 0.3 * share, f"fetching {_plain(url)}", bytes=told)


def _too_large(url: httpx.URL, most_bytes: int) -> InvalidDataset:
    return InvalidDataset(f"{_plain(url)} has more than {most_bytes:,} bytes, the limit", hint="fetch less of it")


def _parsed(url: str) -> httpx.URL:
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidDataset(f"{url!r} is no URL: {error}") from None
    if found.scheme not in ("http", "https") or not found.host or found.userinfo:
        raise InvalidDataset(f"{url!r} is no URL of data", hint="write https://HOST/PATH, without a password")
    return found.copy_with(fragment=None)


def _resolved(url: httpx.URL, internal: bool) -> str:
    """Return an address of the URL's host; raise DatasetUnavailable if it has none, or one that is not public."""
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise DatasetUnavailable(f"{url.host!r} cannot be resolved: {error}") from error
    address = reachable(found, internal=internal)
    if address is None:
        raise DatasetUnavailable(
            f"{url.host!r} is not on the open Internet",
            hint="the owner of the server can allow it: MOFANG_SOURCES_INTERNAL=true",
        )
    return address


def _plain(url: httpx.URL) -> str:
    return str(url.copy_with(query=None))  # a query may hold a key
