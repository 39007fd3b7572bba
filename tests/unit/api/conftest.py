from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from mofang.surface.api.app import create_app
from platforms import House, open_house, serving

Ask = Callable[[str], httpx.Client]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path) as house:
        yield house


@pytest.fixture
def ask(house: House) -> Iterator[Ask]:
    """Gives a client for a key ("": anonymous); all ask one running server."""
    with ExitStack() as stack:
        url = stack.enter_context(serving(create_app(house.platform)))

        def with_key(key: str) -> httpx.Client:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            return stack.enter_context(httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=30))

        yield with_key


@pytest.fixture
def admin(ask: Ask, house: House) -> httpx.Client:
    return ask(house.admin_key)
