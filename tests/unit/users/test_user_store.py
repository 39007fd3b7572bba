"""People as tables: codes, passwords, grants, and how sessions end with them."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from mofang.base.domain.access import Grant, Scope
from mofang.base.domain.errors import (
    GrantNotFound,
    InvalidName,
    InvalidPassword,
    SignInForbidden,
    UserExists,
    UserNotFound,
)
from mofang.base.domain.names import now_us
from mofang.base.identity.keys import authenticate
from mofang.base.identity.store import IdentityStore, api_keys
from mofang.base.storage.database import Database
from mofang.base.users.passwords import Passwords
from mofang.base.users.signin import SignIn
from mofang.base.users.store import UserStore

SECRET = "correct horse battery"


@pytest.fixture
def identity(database: Database) -> IdentityStore:
    store = IdentityStore(database)
    store.bootstrap()
    store.create_tenant("acme")
    store.create_project("shop", "acme")
    store.create_project("lab", "acme")
    return store


@pytest.fixture
def users(database: Database, identity: IdentityStore) -> UserStore:
    return UserStore(database, identity)


@pytest.fixture
def sign_in(database: Database, identity: IdentityStore, users: UserStore) -> SignIn:
    return SignIn(users, identity, database.acting, 3600)


def test_a_code_sets_a_password_once(users: UserStore, sign_in: SignIn) -> None:
    users.create("ada@acme.com", [Grant("developer", "acme", "shop")])
    user, code = users.new_code("ada@acme.com")
    assert (user.has_password, (user.code_expires_at or 0) > now_us()) == (False, True)
    with pytest.raises(InvalidPassword):
        sign_in.hashed("ada@acme.com", "short")
    assert not users.redeem("ada@acme.com", code + "x", "hash")
    assert not users.redeem("bob", code, "hash")
    sign_in.redeem("ada@acme.com", code, sign_in.hashed("ada@acme.com", SECRET))
    assert not users.redeem("ada@acme.com", code, "hash"), "a code works once"
    assert (users.get("ada@acme.com").has_password, users.get("ada@acme.com").code_expires_at) == (True, None)
    user = sign_in.by_password("ada@acme.com", SECRET)
    key, token = sign_in.open(user, user.grants)
    assert (key.role, key.reach, key.project, key.tenant) == ("developer", "project", "shop", "acme")
    assert token.startswith("mf_")


def test_passwords_are_kept_as_argon2_and_nothing_else() -> None:
    passwords = Passwords()
    kept = passwords.hash(SECRET)
    assert kept.startswith("$argon2id$")
    assert SECRET not in kept
    assert passwords.check(SECRET, kept)
    assert not passwords.check(SECRET + "x", kept)
    assert not passwords.check("the password of nobody", None), "nobody's password lets nobody in"
    assert not passwords.check(SECRET, "no hash")


def test_the_widest_role_is_taken_or_the_widest_in_a_project(users: UserStore, sign_in: SignIn) -> None:
    given = (Grant("viewer", "acme"), Grant("admin", "acme", "lab"), Grant("developer", "acme", "shop"))
    user = users.create("ada", given)
    for project, role, reach, home in (
        ("", "viewer", "tenant", "lab"),  # the first of the tenant's projects
        ("shop", "viewer", "tenant", "shop"),
        ("lab", "viewer", "tenant", "lab"),
    ):
        key, _ = sign_in.open(user, given, project)
        assert (key.role, key.reach, key.project) == (role, reach, home)
    key, _ = sign_in.open(user, given[1:], "lab")
    assert (key.role, key.reach) == ("admin", "project")
    for project in ("default", "nothing"):
        with pytest.raises(SignInForbidden, match=f"has no role in project '{project}'"):
            sign_in.open(user, given, project)


def test_sessions_end_with_what_they_stood_on(users: UserStore, identity: IdentityStore, sign_in: SignIn) -> None:
    user = users.create("ada", [Grant("developer", "acme", "shop")])

    def token() -> str:
        return sign_in.open(users.get("ada"), users.get("ada").grants)[1]

    def works(text: str) -> bool:
        return text.split("_")[1] in identity.entries() and bool(authenticate(text, identity.entries(), now_us()).user)

    for change in (
        lambda: users.put_grant("ada", Grant("viewer", "acme", "shop")),
        lambda: users.put_grant("ada", Grant("viewer", "acme", "lab")),
        lambda: users.drop_grant("ada", "acme", "lab"),
        lambda: users.redeem("ada", users.new_code("ada")[1], "hash"),
        lambda: users.disable("ada"),
    ):
        text = token()
        assert works(text)
        change()
        assert not works(text)
    assert users.find_password("ada") is None
    with pytest.raises(GrantNotFound):
        users.drop_grant("ada", "acme", "lab")
    assert users.get("ada").disabled_at
    assert not [key for key in identity.list_keys() if key.name == "session"], "sessions are no keys to be listed"
    assert user.name == "ada"


def test_sessions_that_have_ended_burden_no_gateway(
    database: Database, users: UserStore, identity: IdentityStore, sign_in: SignIn
) -> None:
    users.create("ada", [Grant("developer", "acme", "shop")])
    ancient = identity.create_key("shop", expires_at=1, user="ada")[0]
    recent = identity.create_key("shop", expires_at=now_us() - 1, user="ada")[0]
    key = identity.create_key("shop", expires_at=1)[0]
    live = sign_in.open(users.get("ada"), users.get("ada").grants)[0]
    assert {ancient.id, recent.id, key.id, live.id} & identity.entries().keys() == {key.id, live.id}
    with database.read() as connection:
        kept = set(connection.scalars(select(api_keys.c.id).where(api_keys.c.user_name == "ada")))
    assert kept == {recent.id, live.id}


def test_who_is_seen_by_whom(database: Database, users: UserStore) -> None:
    users.create("ada", [Grant("viewer", "acme", "shop")])
    users.create("bob", [Grant("admin", "acme")])
    users.create("eve", [Grant("owner")])
    for scope, names in (
        (Scope("acme", "shop"), ["ada"]),
        (Scope("acme", "lab"), []),
        (Scope("acme", "lab", "tenant"), ["ada", "bob"]),
        (Scope("default", "default", "platform"), ["ada", "bob", "eve"]),
    ):
        with database.acting(scope):
            assert [user.name for user in users.list()] == names
            for name in {"ada", "bob", "eve"} - set(names):
                with pytest.raises(UserNotFound):
                    users.get(name)


def test_names(users: UserStore) -> None:
    users.create("ada")
    with pytest.raises(UserExists):
        users.create("ada")
    for bad in ("", "Ada", "a b", "a..b", "@a", "a" * 101, "a/b", "a'--"):
        with pytest.raises(InvalidName):
            users.create(bad)
