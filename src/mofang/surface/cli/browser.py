"""Signing in with the browser: it goes to the provider, and comes back to a port of this machine that is open for that.

`mofang login --oidc` calls it (RFC 8252, section 7.3: loopback redirection).
"""

from __future__ import annotations

import webbrowser
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import click

from mofang.base.domain.errors import DeadlineExceeded, SignInFailed

if TYPE_CHECKING:
    from mofang.surface.sdk.users import Users, UserSession

WAIT_SECONDS = 300.0
_DONE = b"<!doctype html><title>Mofang</title><p>You can close this window and go back to the terminal.</p>"


def sign_in_by_browser(users: Users, project: str | None, is_live: bool) -> UserSession:
    """Send the browser off, wait until it is back, and open the session. Raises SignInFailed or DeadlineExceeded."""
    with _Return() as back:
        begun = users.begin_oidc(f"http://127.0.0.1:{back.server_port}/")
        click.echo(f"sign in with the browser: {begun.url}", err=True)
        if is_live:
            webbrowser.open(begun.url)
        told = back.wait()
    if "code" not in told:
        raise SignInFailed(f"the provider sent the browser back without a code: {told.get('error', 'no reason given')}")
    return users.finish_oidc(begun.ticket, told.get("state", ""), told["code"], project=project)


class _Return(HTTPServer):
    """Listens on a free port of this machine for the one request that brings the browser back."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.told: dict[str, str] | None = None
        self.timeout = WAIT_SECONDS

    def wait(self) -> dict[str, str]:
        """Return what the browser brought."""
        while self.told is None:
            self.handle_request()
            if self.told is None and self.timed_out:
                raise DeadlineExceeded("nobody has signed in with the browser", hint="begin again")
        return self.told

    timed_out = False

    def handle_timeout(self) -> None:
        """Nobody came."""
        self.timed_out = True


class _Handler(BaseHTTPRequestHandler):
    server: _Return

    def do_GET(self) -> None:
        """Take what the browser brings; whatever else it asks (an icon) is not there."""
        place = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(place.query).items()}
        if place.path != "/" or not query:
            self.send_error(404)
            return
        self.server.told = query
        self.send_response(200)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("referrer-policy", "no-referrer")
        self.end_headers()
        self.wfile.write(_DONE)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the address has the code in it."""
