"""A real OpenID Connect provider in a process of its own, and a browser that signs people in there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

_PROGRAM = """
import json, sys
from oidc_provider_mock import User, run_server_in_thread
people = [User(sub=sub, claims=claims) for sub, claims in json.loads(sys.argv[1]).items()]
with run_server_in_thread(user_claims=people, require_nonce=True) as server:
    print(server.server_port, flush=True)
    sys.stdin.read()
"""


@contextmanager
def running_provider(people: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Run a provider that knows ``people``, their claims by subject; yield its issuer."""
    command = [sys.executable, "-W", "ignore", "-c", _PROGRAM, json.dumps(people)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=quiet, text=True) as process:
        assert process.stdout is not None
        yield f"http://localhost:{int(process.stdout.readline())}"
        process.communicate()


def browse(url: str, sub: str) -> str:
    """Sign in as ``sub`` at the provider; return where it sends the browser."""
    answer = httpx.post(url, data={"sub": sub}, follow_redirects=False)
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]


def brought_back(location: str) -> dict[str, str]:
    """Return what the browser comes back with."""
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
