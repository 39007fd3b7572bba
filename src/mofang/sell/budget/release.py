"""What a gateway held of budgets when it died becomes free, once all it had put on record is in the ledger.

A lease has no other time limit. Time proves nothing: a process that was stopped for an hour can still write the record
of an answer it had computed. The lock it holds on its announcement is gone when it is, however it ends.
"""

from __future__ import annotations

from pathlib import Path

from mofang.base.storage.journal import forget, is_gone, writers
from mofang.sell.budget.store import BudgetStore


def release_dead(folder: Path, store: BudgetStore) -> None:
    """Release the leases of every writer of the journal in ``folder`` that is gone and whose segments are folded."""
    for holder in store.holders() | writers(folder):
        if is_gone(folder, holder):
            store.release(holder)
            forget(folder, holder)
