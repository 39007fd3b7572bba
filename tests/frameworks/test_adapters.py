"""LoRA adapters by request: pushed as versions, laid over a base with its deployment, asked, metered as variants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from language_folders import in_gguf, lora, question, tiny_llama

import tinylm
from mofang.base.domain.errors import MofangError, NotFound
from mofang.base.domain.names import now_us
from mofang.base.engines.gguf import read_gguf
from mofang.base.engines.ggufadapter import write_adapter
from servers import Server, wait_until

PRICES = """
currency = "EUR"

[[price]]
endpoint = "*"
meter = "requests"
per = 1
amount = "0.001"

[[price]]
endpoint = "*"
variant = "terse"
meter = "requests"
per = 1
amount = "0.005"
"""

HOUR_US = 3_600_000_000

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # peft and transformers are not always in step


@pytest.mark.timeout(300)
def test_a_request_names_the_adapter_it_wants(server: Server, mofang: Any, tmp_path: Path) -> None:
    base = tiny_llama(tmp_path)
    mofang("push", "terse", str(lora(base, tmp_path / "terse", 1)))
    mofang("push", "tiny", str(base))
    server.client.bill.set_prices(PRICES)
    mofang("deploy", "tiny", "--option", "threads=1", "--option", "cache_mb=64", "--adapter", "terse=terse@1")
    headers = {"authorization": f"Bearer {server.consumer()}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
        listed = {each["id"]: each for each in client.get("/v1/models").json()["data"]}
        assert listed.keys() >= {"tiny", "tiny:terse"}
        assert listed["tiny:terse"]["parent"] == "tiny"
        assert client.get("/v1/models/tiny:terse").json()["id"] == "tiny:terse"

        def ask(model: str) -> float:
            asked = {"model": model, "prompt": "one two", "max_tokens": 8, "temperature": 0, "logprobs": 1}
            answer = client.post("/v1/completions", json=asked).json()
            assert answer["model"] == model
            return round(answer["choices"][0]["logprobs"]["token_logprobs"][0], 3)

        assert ask("tiny") != ask("tiny:terse")
        gone = client.post("/v1/completions", json={"model": "tiny:rude", "prompt": "one"})
        assert (gone.status_code, gone.json()["error"]["type"]) == (404, "invalid_request_error")

    def metered() -> bool:
        rows = server.client.meter.usage(["endpoint", "variant"]).items
        found = {row.by["variant"]: row.quantities["requests"] for row in rows if row.by["endpoint"] == "tiny"}
        return found == {"original": 1, "terse": 1}

    wait_until(metered, 60, "the usage of each")
    hour = now_us() // HOUR_US * HOUR_US
    invoice = server.client.bill.create_invoice(start=hour - HOUR_US, end=hour + HOUR_US)
    charged = {line.parts[0].digest: line.amount_micros for line in invoice.lines}
    alone = server.client.register.get_version("tiny@1").digest
    assert charged.pop(alone) == 1_000
    both = server.client.register.get_version("tiny@1+terse")
    assert charged == {both.digest: 5_000}  # of the variant that answered, which names what it was made of
    assert server.client.register.find_versions(both.digest) == [both]
    adapter = server.client.register.get_version("terse@1").digest
    assert (both.lineage.parent, both.lineage.adapter) == (alone, adapter)
    server.client.deploy.roll_out("tiny", options={"slots": 2}, wait=False)
    [newest, before] = server.client.deploy.get_endpoint("tiny").revisions
    assert newest.adapters == before.adapters  # they stay
    assert newest.adapters["terse"].version == "terse@1"
    with pytest.raises(MofangError, match="no model of its own") as orphan:
        server.client.deploy.roll_out("terse")
    described = tmp_path / "upstream.json"
    described.write_text('{"upstream": "other", "model": "x"}')
    mofang("push", "elsewhere", str(described), "--engine", "upstream")
    with pytest.raises(MofangError, match="computes no adapter by request") as elsewhere:
        server.client.deploy.roll_out("elsewhere", adapters={"terse": "terse"})
    assert {orphan.value.code, elsewhere.value.code} == {"engine.adapter"}


@pytest.mark.timeout(300)
def test_llama_cpp_computes_the_adapter_that_a_request_names(server: Server, mofang: Any, tmp_path: Path) -> None:
    tinylm.write(tmp_path / "base", ["the river flows to the sea"], "llama")
    base = in_gguf(tmp_path / "base", tmp_path / "gguf") / "model.gguf"
    laid = {name: lora(tmp_path / "base", tmp_path / name, seed) for seed, name in enumerate(("brief", "raw"), 1)}
    written = tmp_path / "raw.gguf"
    write_adapter(laid["raw"], read_gguf(base), written)
    mofang("push", "brief", str(laid["brief"]))
    mofang("push", "raw", str(written))  # as llama.cpp has it
    mofang("push", "little", str(base), "--engine", "llamacpp")
    limits = ("--option", "threads=1", "--option", "cache_mb=64", "--option", "slots=2")
    mofang("deploy", "little", *limits, "--adapter", "brief=brief@1", "--adapter", "raw=raw")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.consumer()) as client:
        assert {each.id for each in client.models.list()} >= {"little", "little:brief", "little:raw"}
        for name in ("", "brief", "raw"):
            tokens, wanted = question(tmp_path / "base", laid.get(name))
            model = f"little:{name}".rstrip(":")
            asked: dict[str, Any] = {"prompt": tokens, "max_tokens": 2, "temperature": 0, "logprobs": 1}
            told = client.completions.create(model=model, **asked)
            assert told.model == model
            assert told.choices[0].logprobs.token_logprobs[0] == pytest.approx(wanted, abs=0.03)
            pieces = client.completions.create(model=model, stream=True, **asked)
            assert "".join(piece.choices[0].text for piece in pieces) == told.choices[0].text
        with pytest.raises(openai.NotFoundError, match="it has: brief, raw"):
            client.completions.create(model="little:rude", prompt="the", max_tokens=2)
    digests = {name: server.client.register.get_version(f"little@1+{name}").digest for name in laid}
    digests["original"] = server.client.register.get_version("little@1").digest

    def metered() -> bool:
        rows = server.client.meter.usage(["endpoint", "variant", "digest"]).items
        found = {row.by["variant"]: row.by["digest"] for row in rows if row.by["endpoint"] == "little"}
        return found == digests

    wait_until(metered, 60, "the usage of each, under the digest that answered")


def test_openvino_refuses_an_adapter_in_words(server: Server, mofang: Any, tmp_path: Path) -> None:
    base = tiny_llama(tmp_path)
    mofang("push", "curt", str(lora(base, tmp_path / "curt", 1)))
    tinylm.write(tmp_path / "other", ["the river flows to the sea"], "llama")
    mofang("push", "brisk", str(in_gguf(tmp_path / "other", tmp_path / "gguf") / "model.gguf"), "--engine", "openvino")
    with pytest.raises(MofangError, match="engine 'openvino' computes no adapter by request") as refused:
        server.client.deploy.roll_out("brisk", adapters={"curt": "curt"})
    assert refused.value.code == "engine.adapter"
    assert "--engine llamacpp" in refused.value.hint
    with pytest.raises(NotFound):
        server.client.deploy.get_endpoint("brisk")  # nothing was begun
