"""What belongs to whom, as every store uses it."""

from __future__ import annotations

import contextvars
import threading

import pytest

from mofang.base.domain.access import EVERYTHING, Scope
from mofang.base.domain.errors import JobNotFound
from mofang.base.jobs.store import JobStore
from mofang.base.storage.database import Database
from mofang.base.storage.owners import Owners, owner

SHOP, LAB = Scope("acme", "shop"), Scope("acme", "lab")
TENANT, OTHER = Scope("acme", "shop", "tenant"), Scope("other", "shop2", "tenant")


def test_a_thing_is_seen_by_its_project_its_tenant_and_the_platform(database: Database) -> None:
    jobs = JobStore(database)
    with database.acting(SHOP):
        job = jobs.submit("train", {}, "ada")
    for scope, sees in ((SHOP, True), (LAB, False), (TENANT, True), (OTHER, False), (EVERYTHING, True)):
        with database.acting(scope):
            assert [each.id for each in jobs.list()] == ([job.id] if sees else [])
            for look in (jobs.get, jobs.events, jobs.request_cancel):
                if not sees:
                    with pytest.raises(JobNotFound, match=f"there is no job '{job.id}'"):
                        look(job.id)
    assert jobs.owner(job.id) == SHOP


def test_content_belongs_to_everyone_who_has_brought_it(database: Database) -> None:
    owners = Owners(database)
    for scope in (SHOP, SHOP, LAB):
        with database.acting(scope):
            owners.claim("upload", "abc")
    for scope, has in ((SHOP, True), (LAB, True), (OTHER, False)):
        with database.acting(scope):
            assert owners.has("upload", "abc") is has
            assert not owners.has("upload", "other")
    with database.read() as connection:
        assert owner(connection, "upload", "abc") == LAB  # the first by name
        assert owner(connection, "upload", "other") is None


def test_who_acts_is_known_in_this_thread_only_and_ends_with_the_block(database: Database) -> None:
    seen: list[Scope] = []
    with database.acting(SHOP):
        fresh = threading.Thread(target=contextvars.Context().run, args=(lambda: seen.append(database.scope),))
        fresh.start()
        fresh.join()
        with database.acting(LAB):
            assert database.scope == LAB
        assert database.scope == SHOP
    assert (seen, database.scope) == ([EVERYTHING], EVERYTHING)
