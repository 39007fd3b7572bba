from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mofang import Client
from mofang.surface.api.app import create_app
from platforms import House, open_house, serving


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path) as house:
        yield house


@pytest.fixture
def client(home: House) -> Iterator[Client]:
    with serving(create_app(home.platform)) as url, Client(url, home.admin_key) as client:
        yield client
