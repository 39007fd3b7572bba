"""Which tariffs gateways need: of everybody who has a budget in money, for everything that is served. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mofang.base.domain.access import KeyEntry
from mofang.base.domain.budget import Budget, Tariff
from mofang.base.domain.deployment import Revision

Price = Callable[[str, Revision], Tariff | None]
"""From a tenant and what she asks to the prices in force now; None: there are none."""


def tariffs_of(
    budgets: Iterable[Budget], keys: Iterable[KeyEntry], revisions: Iterable[Revision], price: Price
) -> dict[str, Tariff]:
    """Return the tariffs of a Snapshot, by ``TENANT ENDPOINT/REVISION[:ADAPTER]``."""
    bound = {(budget.scope, budget.name) for budget in budgets if budget.is_money}
    if not bound:
        return {}
    tenants = {
        key.tenant
        for key in keys
        if not bound.isdisjoint({("key", key.id), ("project", key.project), ("tenant", key.tenant)})
    }
    served = [form for revision in revisions for form in revision.forms]
    found = {f"{tenant} {form.priced_as}": price(tenant, form) for tenant in sorted(tenants) for form in served}
    return {name: tariff for name, tariff in found.items() if tariff is not None}
