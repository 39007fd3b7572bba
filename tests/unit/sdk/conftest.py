from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mofang import Client
from mofang.surface.api.app import create_app
from platforms import Direct, House, open_house


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path) as house:
        yield house


@pytest.fixture
def client(home: House) -> Iterator[Client]:
    with Client("http://mofang", home.admin_key, transport=Direct(create_app(home.platform))) as client:
        yield client
