"""The server and the command line of the tests of frameworks, with the real vLLM behind the engine ``vllm``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "frameworks")]

from language_folders import smollm2  # noqa: E402
from openai import OpenAI  # noqa: E402

from servers import Server  # noqa: E402

PYTHON = ROOT / ".cache" / "vllm" / "bin" / "python"
COMMAND = (
    f"{PYTHON} -m vllm.entrypoints.openai.api_server --model {{folder}} --host 127.0.0.1"
    " --port {port} --served-model-name {model} --max-num-seqs {slots} --max-model-len {context}"
    " --enable-prompt-tokens-details --enforce-eager"
)
ENVIRON = {"MOFANG_VLLM": COMMAND, "VLLM_CPU_KVCACHE_SPACE": "1"}  # GiB


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with SmolLM2 deployed behind ``smol``, computed by vLLM."""
    server = Server(tmp_path_factory.mktemp("server"), environ=ENVIRON)
    try:
        client = server.client
        files = sorted(path for path in smollm2().iterdir() if path.is_file())
        client.jobs.wait(client.register.push("smol", files, engine="vllm").id)
        client.deploy.roll_out("smol", options={"slots": "4", "context": "1024", "patience": "900"})
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def client(vllm: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{vllm.url}/v1", api_key=vllm.key, timeout=300, max_retries=0) as asking:
        yield asking
