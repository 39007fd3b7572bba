"""A33: a key's text is nowhere on disk; revoking, expiring, scoping and rotating one holds in every gateway."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from nets import scaled

from mofang import Client
from mofang.base.domain.errors import ExpiredKey, Forbidden, OutOfScope, UnknownKey
from servers import Server, wait_until

X = np.ones((1, 4), np.float32)
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
PATH = "/v2/models/scale/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"), "--gateways", "2")
    model = scaled(tmp_path_factory.mktemp("models"), 2)
    running.serve("scale", model)
    running.serve("other", model)
    yield running
    running.close()


def connections(server: Server, key: str) -> list[httpx.Client]:
    """Open connections that have asked, until both gateways have answered on some of them."""
    opened: list[httpx.Client] = []

    def spread() -> bool:
        web = httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {key}"}, timeout=10)
        assert web.post(PATH, json=BODY).status_code == 200
        opened.append(web)
        page = httpx.get(f"{server.url}/metrics", headers={"authorization": f"Bearer {server.key}"}).text
        return len(set(re.findall(r'mofang_serve_seconds_count\{gateway="([^"]+)",endpoint="scale"', page))) == 2

    wait_until(spread, 15, "both gateways have answered")
    return opened


def test_a_revoked_key_is_refused_by_every_gateway_within_a_second(server: Server) -> None:
    key = server.client.identity.create_key("default")
    opened = connections(server, key.key)
    began = time.monotonic()
    server.client.identity.revoke_key(key.id)
    took = time.monotonic() - began
    answers = [web.post(PATH, json=BODY) for web in opened]
    for web in opened:
        web.close()
    assert took < 1.0
    assert [(each.status_code, each.json()["code"]) for each in answers] == [(401, "key.unknown")] * len(answers)
    with Client(server.url, key.key, grpc=server.grpc) as client, pytest.raises(UnknownKey):
        client.serve.predict("scale", {"x": X}, protocol="grpc")


def test_a_key_expires_by_itself(server: Server) -> None:
    key = server.client.identity.create_key("default", expires_in_seconds=1)
    with Client(server.url, key.key, grpc=server.grpc) as client:
        client.serve.predict("scale", {"x": X})

        def refused() -> bool:
            try:
                client.serve.predict("scale", {"x": X})
            except ExpiredKey:
                return True
            return False

        wait_until(refused, 2.0)


def test_a_key_asks_what_it_was_made_for(server: Server) -> None:
    key = server.client.identity.create_key("default", endpoints=["scale"])
    with Client(server.url, key.key, grpc=server.grpc) as client:
        for protocol in ("rest", "grpc"):
            client.serve.predict("scale", {"x": X}, protocol=protocol)  # type: ignore[arg-type]
            with pytest.raises(OutOfScope, match="may ask scale, not 'other'"):
                client.serve.predict("other", {"x": X}, protocol=protocol)  # type: ignore[arg-type]


def test_a_key_comes_from_its_networks_and_uses_its_verbs(server: Server) -> None:
    here = server.client.identity.create_key("default", role="developer", networks=["127.0.0.0/8", "::1"])
    there = server.client.identity.create_key("default", role="developer", networks=["192.0.2.0/24"])
    narrow = server.client.identity.create_key("default", role="developer", verbs=["read"])
    for key, code in ((here, None), (there, "key.network"), (narrow, "key.forbidden")):
        headers = {"authorization": f"Bearer {key.key}", "x-forwarded-for": "192.0.2.7"}  # which nobody believes
        asked = httpx.post(server.url + PATH, json=BODY, headers=headers)
        listed = httpx.get(f"{server.url}/api/v1/models", headers=headers)
        assert (asked.status_code, asked.json().get("code")) == (403 if code else 200, code)
        assert listed.status_code == (403 if code == "key.network" else 200)
        with Client(server.url, key.key, grpc=server.grpc) as client:
            if code is None:
                client.serve.predict("scale", {"x": X}, protocol="grpc")
            else:
                with pytest.raises(Forbidden) as refused:
                    client.serve.predict("scale", {"x": X}, protocol="grpc")
                assert refused.value.code == code


def test_a_session_is_a_key_of_a_person_and_ends_as_fast(server: Server) -> None:
    code = server.client.users.create("ada@acme.com", "developer", project="default").code
    with Client(server.url) as visitor:
        visitor.users.redeem_code("ada@acme.com", code, "correct horse battery")
        opened = visitor.users.sign_in("ada@acme.com", "correct horse battery")
    asking = connections(server, opened.token)
    began = time.monotonic()
    server.client.users.disable("ada@acme.com")
    took = time.monotonic() - began
    answers = [web.post(PATH, json=BODY) for web in asking]
    for web in asking:
        web.close()
    assert took < 1.0
    assert {each.status_code for each in answers} == {401}


def test_rotation_overlaps_and_the_last_use_is_shown(server: Server) -> None:
    before = time.time_ns() // 1000
    old = server.client.identity.create_key("default", endpoints=["scale"])
    new = server.client.identity.rotate_key(old.id, overlap_seconds=2)
    with (
        Client(server.url, old.key, grpc=server.grpc) as leaving,
        Client(server.url, new.key, grpc=server.grpc) as coming,
    ):
        leaving.serve.predict("scale", {"x": X})
        coming.serve.predict("scale", {"x": X})

        def ended() -> bool:
            try:
                leaving.serve.predict("scale", {"x": X})
            except ExpiredKey:
                return True
            return False

        wait_until(ended, 3.0)
        coming.serve.predict("scale", {"x": X})

    def used() -> int:
        return {key.id: key.last_used_at for key in server.client.identity.list_keys()}[new.id] or 0

    wait_until(lambda: used() > before, 5.0)
    assert used() < time.time_ns() // 1000


def test_no_key_is_written_anywhere(server: Server) -> None:
    made = [server.client.identity.create_key("default") for _ in range(3)]
    made.append(server.client.identity.rotate_key(made[0].id))
    texts = [key.key for key in made]
    damaged = texts[0][:-1] + ("0" if texts[0][-1] != "0" else "1")
    for text in (*texts, damaged):
        with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {text}"}) as web:
            web.post(PATH, json=BODY)
            web.post("/v2/models/nothing/infer", json=BODY)
            web.get("/api/v1/keys")
            web.get(f"/api/v1/nothing/{text}")
    server.client.identity.revoke_key(made[1].id)
    secrets = [text[14:46].encode() for text in (*texts, server.key)]
    holders = {
        str(path.relative_to(server.data)): [index for index, secret in enumerate(secrets) if secret in content]
        for path in server.data.rglob("*")
        if path.is_file() and (content := _read(path))
    }
    found = {name: indices for name, indices in holders.items() if indices}
    assert {"mofang.db", "mofang.db-wal"} <= holders.keys(), "these at least must have been searched"
    assert found == {"admin.key": [len(secrets) - 1]}
    assert (server.data / "admin.key").stat().st_mode & 0o777 == 0o600


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # gone between listing and reading
        return b""
