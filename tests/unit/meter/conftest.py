from __future__ import annotations

import pytest

from mofang.base.storage.database import Database
from mofang.sell.meter.store import UsageStore


@pytest.fixture
def store(database: Database) -> UsageStore:
    """An empty ledger."""
    return UsageStore(database)
