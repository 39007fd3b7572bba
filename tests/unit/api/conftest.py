from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from mofang.surface.api.app import create_app
from platforms import Direct, House, open_house, serving

Ask = Callable[[str], httpx.Client]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path) as house:
        yield house


@pytest.fixture
def ask(house: House) -> Iterator[Ask]:
    """Gives a client for a key ("": anonymous); all ask one app, in this process."""
    direct = Direct(create_app(house.platform))

    def with_key(key: str) -> httpx.Client:
        return _client("http://mofang", key, direct)

    yield with_key
    direct.close()


@pytest.fixture
def remote(house: House) -> Iterator[httpx.Client]:
    """A client with the admin's key that asks a server over a real connection."""
    with serving(create_app(house.platform)) as url, _client(url, house.admin_key) as client:
        yield client


def _client(url: str, key: str, transport: httpx.BaseTransport | None = None) -> httpx.Client:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=30, transport=transport)


@pytest.fixture
def admin(ask: Ask, house: House) -> httpx.Client:
    return ask(house.admin_key)
