"""Forks settlers that fold until they are killed: quicker than starting Python for each of them.

For every line on stdin one settler, which prints its pid when it begins, and "dead" when it has been killed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mofang.base.storage.database import Database
from mofang.sell.meter.settler import Settler
from mofang.sell.meter.store import UsageStore


def fold_for_ever(folder: Path) -> None:
    store = UsageStore(Database(f"sqlite:///{folder / 'ledger.db'}"))
    settler = Settler(folder / "journal", store, chunk_records=20)
    store.count()
    print(os.getpid(), flush=True)
    while True:
        settler.fold()


for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        fold_for_ever(Path(sys.argv[1]))
    os.waitpid(child, 0)
    print("dead", flush=True)
