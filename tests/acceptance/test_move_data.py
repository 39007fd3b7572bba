"""The data directory is one folder: stopped, copied and started elsewhere, everything is as it was."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from nets import scaled

from mofang import Client
from mofang.base.domain.names import now_us
from servers import Server

ROW = np.ones((1, 4), np.float32)
HOUR_US = 3_600_000_000
PRICES = """
currency = "EUR"

[[price]]
endpoint = "*"
meter = "rows"
per = 1
amount = "0.003"
"""


def state(client: Client) -> dict[str, object]:
    """All that a move must keep."""
    return {
        "models": client.register.list_models(),
        "versions": client.register.list_versions("scale"),
        "endpoints": client.deploy.list_endpoints(),
        "revisions": client.deploy.get_endpoint("scale").revisions,
        "rollouts": client.deploy.get_endpoint("scale").rollouts,
        "tenants": client.identity.list_tenants(),
        "projects": client.identity.list_projects(),
        "keys": [(key.id, key.project, key.role, key.revoked_at) for key in client.identity.list_keys()],
        "jobs": client.jobs.list(),
        "events": [*client.meter.events()],
        "usage": client.meter.usage(["endpoint", "digest", "project", "key_id"]).items,
        "books": client.bill.list_prices(),
        "invoices": client.bill.list_invoices(),
        "audit": client.audit.verify(),
    }


def test_a_copied_directory_is_the_same_server(start_server: Callable[..., Server], tmp_path: Path) -> None:
    old = start_server()
    client = old.client
    old.serve("scale", scaled(tmp_path / "one", 1))
    old.serve("scale", scaled(tmp_path / "two", 2))
    client.deploy.roll_out("near", "scale@2", placement="thread")
    client.register.promote("scale", 1, "champion")
    client.deploy.roll_back("scale")
    client.identity.create_tenant("acme")
    client.identity.create_project("shop", "acme")
    kept = client.identity.create_key("shop").key
    revoked = client.identity.create_key("shop")
    client.bill.set_prices(PRICES)
    with Client(old.url, kept, grpc=old.grpc) as shop:
        for count in range(1, 6):
            shop.serve.predict("scale", {"x": np.ones((count, 4), np.float32)}, protocol="grpc")
        shop.serve.predict("near", {"x": ROW})
    client.identity.revoke_key(revoked.id)
    start = now_us() // HOUR_US * HOUR_US
    invoice = client.bill.create_invoice("acme", start=start - HOUR_US, end=start + HOUR_US)
    assert invoice.total_micros == 16 * 3000
    before = state(client)
    assert old.terminate() == 0
    moved = shutil.copytree(old.data, tmp_path / "a longer place, ἀλλοῦ" / "data")
    shutil.rmtree(old.data)

    new = Server(moved)
    try:
        assert state(new.client) == before
        assert new.client.bill.verify_invoice(invoice.id).matches
        assert new.key == old.key
        with Client(new.url, kept, grpc=new.grpc) as shop:
            for endpoint, factor, version in (("scale", 1, 1), ("near", 2, 2)):
                for protocol in ("rest", "grpc"):
                    answer = shop.serve.predict(endpoint, {"x": ROW}, protocol=protocol)  # type: ignore[arg-type]
                    assert np.array_equal(answer.outputs["y"], ROW * factor)
                    assert answer.version == version
        requests = [event for event in new.client.meter.events(project="shop") if event.meter == "requests"]
        assert len({event.request_id for event in requests}) == 6 + 4
    finally:
        new.close()
