"""A server of the OpenAI API before a scripted model, as the engine ``vllm`` starts one: on a port, with a key.

Arguments: the port, and ``--fail`` to end before it listens. The key is in VLLM_API_KEY.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from mofang.surface.protocols.http import HttpRequest, HttpResponse, RequestHead
from mofang.surface.server.exchange import Limits, Whole
from mofang.surface.server.listener import HttpServer
from stream_bench import KEY, Bench

CONTEXT = 2000


async def serve(port: int, key: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), context=CONTEXT)
        await bench.start()

        async def answer(request: HttpRequest, request_id: str) -> Any:
            if request.headers.get("authorization") != f"Bearer {key}":
                return HttpResponse(401, [], b"{}")
            if request.path == "/v1/models":
                body = json.dumps({"data": [{"id": "model", "max_model_len": CONTEXT}]}).encode()
                return HttpResponse(200, [("content-type", "application/json")], body)
            asked = {**json.loads(request.body), "model": "smol"}
            headers = {**request.headers, "authorization": f"Bearer {KEY.text}"}
            ours = msgspec.structs.replace(request, headers=headers, body=json.dumps(asked).encode())
            return await bench.api.respond(ours, request_id)

        def choose(head: RequestHead) -> Whole:
            return Whole(answer)

        http = HttpServer(choose, Limits())
        await http.serve(socket.create_server(("127.0.0.1", port)))
        await asyncio.Event().wait()  # until it is ended


if __name__ == "__main__":
    if "--fail" in sys.argv:
        sys.exit(7)
    asyncio.run(serve(int(sys.argv[1]), os.environ["VLLM_API_KEY"]))
