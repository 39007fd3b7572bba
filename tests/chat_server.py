"""A gateway's HTTP server before a scripted model, as a program: prints its port, and runs until its input ends.

An argument is JSON: ``engine``, what the model is made with, ``limits`` of the server, and ``tells``: whether it tells
in a stream how many tokens were used. ``/counts`` tells how it stands.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from mofang.surface.protocols.http import HttpRequest, HttpResponse, HttpStream, RequestHead
from mofang.surface.server.exchange import Limits, Whole
from mofang.surface.server.listener import HttpServer
from stream_bench import KEY, Bench


async def serve(engine: dict[str, Any], limits: dict[str, Any], *, tells: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), **engine)
        await bench.start()

        async def counts(request: HttpRequest, request_id: str) -> HttpResponse:
            told = {
                "connections": http.connections,
                "streams": len(bench.engine.streams),
                "output_tokens": [record.quantities["output_tokens"] for record in bench.records],
            }
            return HttpResponse(200, [("content-type", "application/json")], json.dumps(told).encode())

        async def silent(request: HttpRequest, request_id: str) -> HttpResponse | HttpStream:
            """Answer without telling what was used, as many servers do."""
            asked = json.loads(request.body)
            asked.pop("stream_options", None)
            return await bench.api.respond(
                msgspec.structs.replace(request, body=json.dumps(asked).encode()), request_id
            )

        def choose(head: RequestHead) -> Whole:
            respond = bench.api.respond if tells else silent
            return Whole(counts if head.path == "/counts" else respond)

        http = HttpServer(choose, Limits(**limits))
        listener = socket.create_server(("127.0.0.1", 0))
        await http.serve(listener)
        print(listener.getsockname()[1], KEY.text, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await http.close()
        await bench.close()


if __name__ == "__main__":
    asked = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    asyncio.run(serve(asked.get("engine", {"context": 2000}), asked.get("limits", {}), tells=asked.get("tells", True)))
