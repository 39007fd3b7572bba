from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mofang.base.domain.access import AccessLimits, LimitScope
from mofang.base.domain.errors import (
    ExpiredKey,
    InvalidName,
    InvalidRequest,
    KeyEnded,
    KeyNotFound,
    ProjectExists,
    ProjectNotFound,
    TenantExists,
    TenantNotFound,
    UnknownKey,
)
from mofang.base.domain.names import now_us
from mofang.base.identity.keys import authenticate, parse_key
from mofang.base.identity.store import IdentityStore
from mofang.base.storage.database import Database


@pytest.fixture
def identity(database: Database) -> IdentityStore:
    store = IdentityStore(database)
    store.bootstrap()
    return store


def test_the_first_start_makes_an_admin_key_once(database: Database) -> None:
    store = IdentityStore(database)
    text = store.bootstrap()
    principal = authenticate(text, store.entries(), now_us())
    assert (principal.role, principal.project, principal.tenant) == ("owner", "platform", "default")
    assert [project.name for project in store.list_projects()] == ["default", "platform"]
    assert store.bootstrap() is None
    assert len(store.list_keys()) == 1


def test_a_first_start_that_fails_is_a_first_start_again(database: Database) -> None:
    store = IdentityStore(database)

    def start() -> None:
        with database.write():
            store.bootstrap()
            raise OSError("the key could not be kept")

    with pytest.raises(OSError, match="kept"):
        start()
    assert store.bootstrap() is not None


def test_names_are_taken_once(identity: IdentityStore) -> None:
    identity.create_tenant("acme")
    identity.create_project("vision", "acme")
    with pytest.raises(TenantExists):
        identity.create_tenant("acme")
    with pytest.raises(ProjectExists):
        identity.create_project("vision")
    assert [tenant.name for tenant in identity.list_tenants()] == ["acme", "default"]
    assert identity.get_project("vision").tenant == "acme"


def test_a_name_taken_inside_a_transaction_does_not_spoil_it(identity: IdentityStore, database: Database) -> None:
    with database.write():
        with pytest.raises(TenantExists):
            identity.create_tenant("default")
        identity.create_tenant("acme")
    assert [tenant.name for tenant in identity.list_tenants()] == ["acme", "default"]


def test_names_are_checked(identity: IdentityStore) -> None:
    with pytest.raises(InvalidName):
        identity.create_tenant("../acme")
    with pytest.raises(InvalidName):
        identity.create_project("a b")


def test_what_is_not_there_is_named(identity: IdentityStore) -> None:
    with pytest.raises(TenantNotFound, match="'nobody'"):
        identity.create_project("vision", "nobody")
    with pytest.raises(ProjectNotFound, match="'nothing'"):
        identity.create_key("nothing")
    with pytest.raises(KeyNotFound, match="'none'"):
        identity.revoke_key("none")
    with pytest.raises(KeyNotFound, match="'none'"):
        identity.get_key("none")


def test_a_role_that_does_not_exist(identity: IdentityStore) -> None:
    role: Any = "king"
    with pytest.raises(InvalidRequest, match="'king'"):
        identity.create_key("default", role)


def test_a_key_is_listed_without_its_secret(identity: IdentityStore) -> None:
    key, text = identity.create_key("default", "developer", "laptop", expires_at=5)
    assert (key.name, key.tenant, key.role, key.expires_at) == ("laptop", "default", "developer", 5)
    assert identity.get_key(key.id) == key
    assert identity.list_keys("default") == [key]
    assert parse_key(text)[1] not in repr(identity.list_keys())


def test_a_revoked_key_is_gone_from_the_entries_and_stays_listed(identity: IdentityStore) -> None:
    key, text = identity.create_key("default")
    assert authenticate(text, identity.entries(), now_us()).key_id == key.id
    revoked = identity.revoke_key(key.id)
    assert revoked.revoked_at is not None
    assert identity.revoke_key(key.id) == revoked
    with pytest.raises(UnknownKey):
        authenticate(text, identity.entries(), now_us())
    assert identity.list_keys("default") == [revoked]


def test_no_secret_reaches_the_disk(identity: IdentityStore, tmp_path: Path) -> None:
    _, text = identity.create_key("default")
    secret = parse_key(text)[1].encode()
    assert all(secret not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_limits_replace_those_before_and_can_be_taken_back(identity: IdentityStore) -> None:
    key, _ = identity.create_key("default")
    first = identity.set_limits(AccessLimits("project", "default", requests_per_minute=600, concurrency=8))
    second = identity.set_limits(AccessLimits("key", key.id, payload_bytes=1000))
    assert identity.list_limits() == [second, first]
    changed = identity.set_limits(AccessLimits("project", "default", rows_per_minute=10))
    assert identity.list_limits() == [second, changed]
    identity.set_limits(AccessLimits("project", "default"))
    assert identity.list_limits() == [second]


@pytest.mark.parametrize(
    ("scope", "error"), [("key", KeyNotFound), ("project", ProjectNotFound), ("tenant", TenantNotFound)]
)
def test_only_what_exists_can_be_limited(identity: IdentityStore, scope: LimitScope, error: type[Exception]) -> None:
    with pytest.raises(error):
        identity.set_limits(AccessLimits(scope, "nobody", concurrency=1))
    assert identity.list_limits() == []


def test_a_key_carries_its_scope_to_whoever_authenticates_it(identity: IdentityStore) -> None:
    key, text = identity.create_key("default", endpoints=["faces", "digits", "faces"])
    assert key.endpoints == ("digits", "faces")
    assert identity.get_key(key.id) == key
    principal = authenticate(text, identity.entries(), now_us())
    assert principal.may_ask("digits")
    assert not principal.may_ask("digit")
    everything, _ = identity.create_key("default")
    assert everything.endpoints == ()
    with pytest.raises(InvalidName):
        identity.create_key("default", endpoints=["a,b"])


def test_rotation_keeps_role_scope_limits_and_length_of_life(identity: IdentityStore) -> None:
    day = 86_400_000_000
    old, old_text = identity.create_key("default", "developer", "ci", now_us() + 30 * day, ["digits"])
    identity.set_limits(AccessLimits("key", old.id, requests_per_minute=60))
    new, new_text = identity.rotate_key(old.id, day)
    assert (new.name, new.role, new.project, new.endpoints) == ("ci", "developer", "default", ("digits",))
    assert new.expires_at is not None
    assert old.expires_at is not None
    assert new.expires_at - new.created_at == pytest.approx(old.expires_at - old.created_at, abs=1_000_000)
    limits = [AccessLimits("key", each, requests_per_minute=60) for each in sorted((old.id, new.id))]
    assert identity.list_limits() == limits
    now = now_us()
    assert authenticate(old_text, identity.entries(), now).key_id == old.id
    with pytest.raises(ExpiredKey):
        authenticate(old_text, identity.entries(), now + day)
    assert authenticate(new_text, identity.entries(), now + day).key_id == new.id


def test_rotation_never_lengthens_the_life_of_the_old_key(identity: IdentityStore) -> None:
    soon = now_us() + 5_000_000
    old, _ = identity.create_key("default", expires_at=soon)
    identity.rotate_key(old.id, 3_600_000_000)
    assert identity.get_key(old.id).expires_at == soon
    endless, _ = identity.create_key("default")
    fresh, _ = identity.rotate_key(endless.id, 0)
    assert fresh.expires_at is None
    with pytest.raises(KeyEnded):
        identity.rotate_key(endless.id, 0)


def test_what_has_ended_is_not_rotated(identity: IdentityStore) -> None:
    key, _ = identity.create_key("default")
    identity.revoke_key(key.id)
    count = len(identity.list_keys())
    with pytest.raises(KeyEnded, match=key.id):
        identity.rotate_key(key.id, 1)
    with pytest.raises(KeyNotFound):
        identity.rotate_key("nothing", 1)
    assert len(identity.list_keys()) == count
