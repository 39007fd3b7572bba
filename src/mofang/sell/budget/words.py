"""What gateways and the controller say to each other about budgets. Totals only grow: the larger one is the newer."""

from __future__ import annotations

import msgspec


class Account(msgspec.Struct, array_like=True, frozen=True):
    """Gateway to controller: how it stands with one budget in one month."""

    budget: str
    start: int
    returned: int  # given back so far, in all
    charged: int  # on record so far, in all
    reserved: int  # held for requests under way
    need: int  # units that its first waiting request lacks, beyond what it has
    waiting: int  # units that all waiting requests lack
    asked: int  # number of its last question
    answered: int  # number of the last one it knows the answer of
    acknowledged: int  # number of the last recall it obeyed


class Accounts(msgspec.Struct, array_like=True, frozen=True):
    """Gateway to controller: all its accounts. ``holder`` is this life of the gateway: the writer of its journal."""

    holder: str
    items: list[Account] = []


class Lease(msgspec.Struct, array_like=True, frozen=True):
    """Controller to gateway: what it has been lent of one budget in one month."""

    budget: str
    start: int
    granted: int  # in all
    answered: int  # number of the last question that was decided: there is no more than this
    recall: int  # number of the last recall: give back what is not in use
