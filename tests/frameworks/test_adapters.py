"""LoRA adapters by request: pushed as versions, laid over a base with its deployment, asked, metered as variants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from language_folders import lora, tiny_llama

from mofang.base.domain.errors import MofangError
from mofang.base.domain.names import now_us
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
    assert [*charged.values()] == [5_000]  # under a digest of its own
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
