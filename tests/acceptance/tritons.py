"""What tests share that speak through tritonclient."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

import tritonclient.grpc.aio as triton_grpc
import tritonclient.http.aio as triton_http

from mofang.base.domain.tensors import datatype_of
from servers import Server

Asked = Callable[[Any, dict[str, str]], Awaitable[Any]]


def key(server: Server) -> dict[str, str]:
    """Return headers with the owner's key: new for each call, since tritonclient writes into what it is given."""
    return {"authorization": f"Bearer {server.key}"}


def run(server: Server, protocol: str, ask: Asked) -> Any:
    """Ask by one of the two clients."""

    async def scenario() -> Any:
        module, address = (triton_http, web(server)) if protocol == "http" else (triton_grpc, server.grpc)
        async with module.InferenceServerClient(address) as client:
            return await ask(client, key(server))

    return asyncio.run(scenario())


def web(server: Server) -> str:
    """Return where HTTP is spoken, as tritonclient wants to be told."""
    return server.url.removeprefix("http://")


def tensors(module: ModuleType, binary: bool | None = None, **arrays: Any) -> list[Any]:
    """Inputs as a module of tritonclient has them."""
    made = []
    for name, array in arrays.items():
        made.append(module.InferInput(name, list(array.shape), datatype_of(array)))
        made[-1].set_data_from_numpy(array, **({} if binary is None else {"binary_data": binary}))
    return made
