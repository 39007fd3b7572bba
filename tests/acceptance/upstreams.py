"""A server with an endpoint whose model is that of another server, which a script speaks for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import Server, starting


@contextmanager
def another(**options: object) -> Iterator[tuple[str, str]]:
    """Start another server; give its URL and its key."""
    program, pipe = Path(__file__).parents[1] / "chat_server.py", subprocess.PIPE
    command = [sys.executable, str(program), json.dumps({"engine": {"context": 2000}, **options})]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as running:
        assert running.stdout is not None
        port, key = running.stdout.readline().split()
        yield f"http://127.0.0.1:{port}/v1", key
        running.communicate("", timeout=20)


@contextmanager
def serving(folder: Path, url: str, key: str) -> Iterator[Server]:
    """Start a server with an endpoint ``mini`` whose model is that of another."""
    file, described = folder / "upstreams.toml", folder / "upstream.json"
    file.write_text(f'[other]\nbase_url = "{url}"\nkey_env = "OTHER_KEY"\n')
    described.write_text(json.dumps({"upstream": "other", "model": "smol"}))
    with starting(folder) as start:
        server = start(MOFANG_UPSTREAMS=str(file), OTHER_KEY=key)
        job = server.client.jobs.wait(server.client.register.push("mini", [described], engine="upstream").id)
        server.client.deploy.roll_out("mini", f"mini@{job.result['version']}")
        yield server
