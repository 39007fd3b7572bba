"""Data over HTTP from a real server: whole, resumed, redirected, too large, changed, and never from the inside."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mofang.base.domain.errors import DatasetUnavailable, InvalidDataset, InvalidRecipe
from mofang.base.domain.work import Silent
from mofang.base.storage.blobs import DiskBlobs
from mofang.make.prepare.http import fetch
from mofang.make.prepare.prepare import prepare
from mofang.make.recipe import Prepare, parse_recipe

ROWS = "".join(f"{n},{n % 3},{n % 2}\n" for n in range(20_000))
CONTENT = f"a,b,target\n{ROWS}".encode()
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Shop(BaseHTTPRequestHandler):
    """Serves CONTENT; /breaks sends half of what was asked for, /moved leads on, /changes has another tag each time."""

    protocol_version = "HTTP/1.1"
    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("range", "")))
        path = self.path.partition("?")[0]
        if path == "/missing.csv":
            self.send_error(404)
        elif path in ("/moved.csv", "/loop.csv", "/inside.csv"):
            self.send_response(302)
            onward = {"/moved.csv": "/rows.csv", "/loop.csv": "/loop.csv", "/inside.csv": "file:///etc/passwd"}
            self.send_header("location", onward[path])
            self.send_header("content-length", "0")
            self.end_headers()
        else:
            self._rows(path)

    def _rows(self, path: str) -> None:
        tag = f'"{len(self.asked)}"' if path == "/changes.csv" else '"one"'
        begin = self.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0]
        start = int(begin) if self.headers.get("if-range", tag) == tag else 0
        rest = CONTENT[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("content-range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("etag", tag)
        self.send_header("content-length", str(len(rest)))
        self.end_headers()
        breaks = path in ("/breaks.csv", "/changes.csv") and len(self.asked) < 3
        self.wfile.write(rest[: len(rest) // 2] if breaks else rest)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def shop() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    asked: list[tuple[str, str]] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Shop,), {"asked": asked}))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_table_is_fetched_and_told_by_its_content(tmp_path: Path) -> None:
    with shop() as (url, asked):
        spec = Prepare(source=f"{url}/moved.csv?key=secret#sha256={DIGEST}", target="target")
        dataset = prepare(spec, DiskBlobs(tmp_path), Silent(), tmp_path, internal=True)
    assert [path for path, _ in asked] == ["/moved.csv?key=secret", "/rows.csv"]
    assert sum(split.rows for split in dataset.splits.values()) == 20_000
    assert dataset.source == f"{url}/moved.csv"  # what a query holds is nobody's business


@pytest.mark.parametrize(("path", "whole"), [("/breaks.csv", False), ("/changes.csv", True)])
def test_what_breaks_off_is_gone_on_with_unless_it_has_changed(tmp_path: Path, path: str, whole: bool) -> None:
    with shop() as (url, asked):
        file = fetch(f"{url}{path}#sha256={DIGEST}", tmp_path, Silent(), internal=True)
    assert file.read_bytes() == CONTENT
    assert len(asked) == 3
    first = int(asked[1][1].removeprefix("bytes=").removesuffix("-"))
    assert 0 < first <= len(CONTENT) // 2
    assert (asked[2][1] == asked[1][1]) is whole or asked[2][1] > asked[1][1]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/missing.csv", "answered 404"),
        ("/loop.csv", "more than 5 redirects"),
        ("/inside.csv", "is no URL of data"),
        (f"/rows.csv#sha256={'0' * 64}", f"its SHA-256 is {DIGEST}"),
    ],
)
def test_what_cannot_be_fetched_says_why(tmp_path: Path, path: str, why: str) -> None:
    with shop() as (url, _), pytest.raises((DatasetUnavailable, InvalidDataset)) as refused:
        fetch(f"{url}{path}", tmp_path, Silent(), internal=True)
    assert why in refused.value.message


def test_a_file_over_the_limit_is_not_read_on(tmp_path: Path) -> None:
    with shop() as (url, _), pytest.raises(InvalidDataset, match="more than 1,000 bytes"):
        fetch(f"{url}/rows.csv", tmp_path, Silent(), internal=True, most_bytes=1_000)
    assert (tmp_path / "fetched.csv").stat().st_size <= 1_000


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "169.254.169.254", "10.0.0.1",
     "0.0.0.0", "[fe80::1]", "192.168.1.1", "[64:ff9b::7f00:1]"],
)  # fmt: skip
def test_addresses_of_the_inside_are_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(DatasetUnavailable, match=r"not on the open Internet|cannot be resolved"):
        fetch(f"http://{host}/rows.csv", tmp_path, Silent(), internal=False)


@pytest.mark.parametrize("source", ["http://me:word@host/x.csv", "https:/x.csv", "s3://bucket", "http://host"])
def test_a_recipe_names_a_whole_address(source: str) -> None:
    text = f'name = "x"\n[prepare]\nsource = "{source}"\n[train]\nalgorithm = "decision_tree"\n'
    with pytest.raises(InvalidRecipe, match="must be"):
        parse_recipe(text, "x.toml")
