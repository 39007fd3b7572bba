"""A gateway's HTTP server before a scripted model, as a program: prints its port, and runs until its input ends."""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
from pathlib import Path

from mofang.surface.server.exchange import Whole
from mofang.surface.server.listener import HttpServer
from stream_bench import KEY, Bench


async def serve() -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), context=2000)
        await bench.start()
        http = HttpServer(lambda head: Whole(bench.api.respond))
        listener = socket.create_server(("127.0.0.1", 0))
        await http.serve(listener)
        print(listener.getsockname()[1], KEY.text, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await http.close()
        await bench.close()


if __name__ == "__main__":
    asyncio.run(serve())
