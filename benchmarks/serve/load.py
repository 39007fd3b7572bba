"""The load: ``clients`` connections that ask again as soon as they are answered, from a core of their own.

Over HTTP: wrk if it is installed (``apt-get install wrk``); else an asyncio client, which is slower than a good server
and then measures itself: fit to see that everything works, not to compare. Over gRPC: h2load (``apt-get install
nghttp2-client``).
"""

from __future__ import annotations

import asyncio
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_SLOW = "note: wrk is not installed (apt-get install wrk); the asyncio load generator bounds what can be measured\n"


@dataclass(frozen=True)
class Shot:
    """What one slice of load saw."""

    rate: float  # answers a second
    p50_ms: float
    errors: int


def generator() -> str:
    """Return the name of the load generator, and warn if it is the slow one."""
    if shutil.which("wrk"):
        return subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout.split("[")[0].strip()
    sys.stderr.write(_SLOW)
    return "asyncio (slow)"


PATH = "/v2/models/tiny/infer"


def shoot(
    cores: str, port: int, headers: dict[str, str], body: bytes, clients: int, seconds: float, path: str = PATH
) -> Shot:
    """Load 127.0.0.1:``port`` for ``seconds`` from ``cores``, which are written as taskset takes them."""
    if not shutil.which("wrk"):
        return asyncio.run(_shoot_slowly(port, headers, body, clients, seconds, path))
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write('wrk.method = "POST"\n')
        script.writelines(f'wrk.headers["{name}"] = "{value}"\n' for name, value in headers.items())
        script.write('wrk.body = "' + "".join(f"\\{byte:03d}" for byte in body) + '"\n')
        script.flush()
        url = f"http://127.0.0.1:{port}{path}"
        threads = 1 + cores.count(",")  # so that one of them does not bound what two servers give
        command = ["taskset", "-c", cores, "wrk", f"-t{threads}", f"-c{clients}", f"-d{seconds:g}s", "--latency"]
        command.append("--timeout=30s")  # of a slow model 64 clients wait longer than wrk's two seconds
        done = subprocess.run([*command, "-s", script.name, url], capture_output=True, text=True, check=True)
    return _read(done.stdout)


def shoot_grpc(cores: str, port: int, headers: dict[str, str], message: bytes, clients: int, seconds: float) -> Shot:
    """Load gRPC's ModelInfer on 127.0.0.1:``port``, one call at a time on each connection."""
    with tempfile.TemporaryDirectory() as scratch:
        data, log = Path(scratch) / "message", Path(scratch) / "log"
        data.write_bytes(message)
        fields = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
        url = f"http://127.0.0.1:{port}/inference.GRPCInferenceService/ModelInfer"
        command = [
            "taskset",
            "-c",
            cores,
            "h2load",
            "-t1",
            f"-c{clients}",
            "-m1",
            f"-D{seconds:g}",
            "-d",
            str(data),
        ]
        done = subprocess.run(
            [*command, f"--log-file={log}", *fields, url], capture_output=True, text=True, check=True
        ).stdout
        times = [int(line.split("\t")[2]) / 1e3 for line in log.read_text().splitlines()]
    failed = re.search(r"(\d+) failed, (\d+) errored", done)
    errors = sum(map(int, failed.groups())) if failed else 1
    return Shot(len(times) / seconds, statistics.median(times) if times else 0.0, errors)


def _read(said: str) -> Shot:
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    p50 = re.search(r"50%\s+([\d.]+)(us|ms|s)", said)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    if rate is None or p50 is None:
        raise RuntimeError(f"wrk said something else: {said}")
    errors = int(refused[1]) if refused else 0
    errors += sum(map(int, broken.groups())) if broken else 0
    return Shot(float(rate[1]), float(p50[1]) * _UNITS[p50[2]], errors)


async def _shoot_slowly(
    port: int, headers: dict[str, str], body: bytes, clients: int, seconds: float, path: str
) -> Shot:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\nhost: bench\r\n{lines}content-length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    until, times, errors = time.perf_counter() + seconds, [], 0

    async def ask() -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (began := time.perf_counter()) < until:
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            errors += not answer.startswith(b"HTTP/1.1 200")
            await reader.readexactly(int(re.search(rb"(?i)content-length: (\d+)", answer)[1]))  # type: ignore[index]
            times.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*[ask() for _ in range(clients)])
    return Shot(len(times) / seconds, statistics.median(times) * 1e3, errors)
