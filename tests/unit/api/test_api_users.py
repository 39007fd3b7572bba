"""Signing in over the API: by password, by code, by a real OIDC provider; and what people may do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from mofang.base.domain.errors import ProviderFailed
from mofang.surface.api.app import create_app
from mofang.surface.api.provider import Provider
from platforms import Direct, House, open_house
from provider import brought_back, browse, running_provider

if TYPE_CHECKING:
    from conftest import Ask

SECRET = "correct horse battery"
BACK = "http://127.0.0.1:9/"
PEOPLE = {
    "1": {"email": "ada@ours.example", "email_verified": True},
    "2": {"preferred_username": "Bob", "groups": ["staff", "ml-vision"]},
    "3": {"preferred_username": "eve", "email": "eve@ours.example"},
}


def invited(admin: httpx.Client, name: str, **grant: str) -> str:
    made = admin.post("/users", json={"name": name, "grant": grant})
    assert made.status_code == 201, made.text
    return str(made.json()["code"])


def test_an_invited_person_signs_in_works_and_signs_out(house: House, ask: Ask, admin: httpx.Client) -> None:
    code = invited(admin, "ada@acme.com", role="developer", project="default")
    anybody = ask("")
    refused = anybody.post("/sign-in", json={"user": "ada@acme.com", "password": SECRET})
    assert (refused.status_code, refused.json()["code"]) == (401, "sign_in.failed")
    set_it = {"user": "ada@acme.com", "code": code, "password": SECRET}
    assert anybody.post("/sign-in/code", json=set_it).status_code == 204
    assert anybody.post("/sign-in/code", json=set_it).json()["code"] == "sign_in.failed"
    opened = anybody.post("/sign-in", json={"user": "ada@acme.com", "password": SECRET}).json()
    assert (opened["role"], opened["reach"], opened["project"]) == ("developer", "project", "default")
    ada = ask(opened["token"])
    who = ada.get("/whoami").json()
    assert (who["user"], who["permissions"]) == ("ada@acme.com", sorted(["infer", "read", "make", "deploy", "usage"]))
    assert ada.get("/models").status_code == 200
    assert ada.get("/keys").json()["code"] == "key.forbidden"
    assert ada.post("/sign-out").status_code == 204
    assert ada.get("/whoami").json()["code"] == "key.unknown"
    records = admin.get("/audit").json()["items"]
    mine = [(record["actor"], record["action"]) for record in records if record["target"] == "ada@acme.com"]
    assert mine[1:] == [
        ("somebody", "session.refuse"),
        ("ada@acme.com", "user.password"),
        ("somebody", "session.refuse"),
        ("ada@acme.com", "session.open"),
        ("ada@acme.com", "session.end"),
    ]
    assert mine[0][1] == "user.create"
    for secret in (SECRET, code, opened["token"]):
        assert secret not in admin.get("/audit").text + admin.get("/users").text
    assert admin.post("/sign-out").json()["code"] == "sign_in.none"


def test_guessing_gets_slower_and_tells_nothing(ask: Ask, admin: httpx.Client) -> None:
    invited(admin, "ada", role="viewer", project="default")
    anybody = ask("")
    told = []
    for name in ("ada", "nobody"):
        answers = [anybody.post("/sign-in", json={"user": name, "password": "x" * 12}) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [401] * 5 + [429]
        assert int(answers[-1].headers["retry-after"]) >= 1
        told.append([{**answer.json()} for answer in answers])
    assert told[0] == told[1], "a name that nobody has answers the same"


def test_people_are_looked_after_within_reach(house: House, ask: Ask, admin: httpx.Client) -> None:
    admin.post("/tenants", json={"name": "acme"})
    admin.post("/projects", json={"name": "shop", "tenant": "acme"})
    boss = ask(house.key("admin", "shop", "tenant"))
    invited(boss, "ada", role="developer", project="shop")
    invited(admin, "zoe", role="owner")
    assert admin.put("/users/zoe/grants", json={"role": "viewer", "tenant": "acme"}).status_code == 200
    for method, path, body, code in (
        ("POST", "/users", {"name": "eve", "grant": {"role": "admin"}}, "key.reach"),
        ("POST", "/users", {"name": "eve", "grant": {"role": "owner", "tenant": "acme"}}, "key.forbidden"),
        ("POST", "/users", {"name": "eve", "grant": {"role": "viewer", "tenant": "default"}}, "tenant.not_found"),
        ("POST", "/users", {"name": "eve", "grant": {"role": "viewer", "project": "default"}}, "project.not_found"),
        ("POST", "/users/zoe/code", None, "key.reach"),  # zoe owns the platform
        ("DELETE", "/users/zoe", None, "key.reach"),
        ("POST", "/users/nobody/code", None, "user.not_found"),
        ("DELETE", "/users/ada/grants", None, "key.reach"),
    ):
        answer = boss.request(method, path, json=body)
        assert answer.json()["code"] == code, (path, body, answer.text)
    assert [user["name"] for user in boss.get("/users").json()["items"]] == ["ada", "zoe"]
    assert boss.delete("/users/ada/grants?project=shop").json()["grants"] == []
    assert boss.get("/users").json()["items"][0]["name"] == "zoe"


# --- OIDC, by a real provider -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with running_provider(PEOPLE) as issuer:
        yield issuer


class Site:
    """A platform whose people a provider knows, and a browser that signs them in there."""

    def __init__(self, house: House, client: httpx.Client, provider: Provider) -> None:
        self.house = house
        self.client = client
        self.provider = provider

    def begin(self) -> tuple[str, str]:
        begun = self.client.post("/sign-in/oidc", json={"redirect_uri": BACK})
        assert begun.status_code == 201, begun.text
        return begun.json()["url"], begun.json()["ticket"]

    def finish(self, ticket: str, back: dict[str, str], **more: str) -> httpx.Response:
        body = {"ticket": ticket, "state": back["state"], "code": back["code"], **more}
        return self.client.post("/sign-in/oidc/finish", json=body)

    def sign_in(self, sub: str, **more: str) -> httpx.Response:
        url, ticket = self.begin()
        return self.finish(ticket, brought_back(browse(url, sub)), **more)


@pytest.fixture
def site(tmp_path: Path, issuer: str) -> Iterator[Site]:
    provider = Provider(issuer, "mofang", "any secret will do")
    with open_house(tmp_path, provider=provider) as house:
        direct = Direct(create_app(house.platform))
        yield Site(house, httpx.Client(base_url="http://mofang/api/v1", transport=direct), provider)
        direct.close()


def test_a_provider_says_who_somebody_is_and_claims_say_what_she_may(site: Site) -> None:
    ada = site.sign_in("1").json()
    assert (ada["user"], ada["role"], ada["reach"]) == ("ada@ours.example", "viewer", "platform")
    bob = site.sign_in("2", project="default").json()
    assert (bob["user"], bob["role"], bob["reach"], bob["project"]) == ("bob", "developer", "project", "default")
    headers = {"authorization": f"Bearer {bob['token']}"}
    assert site.client.get("/whoami", headers=headers).json()["user"] == "bob"
    eve = site.sign_in("3")
    assert (eve.status_code, eve.json()["code"]) == (403, "sign_in.no_role"), "her address is not verified"
    again = site.sign_in("2").json()
    assert again["user"] == "bob"
    assert [user.name for user in site.house.platform.users.list()] == ["ada@ours.example", "bob"]
    site.house.platform.users.disable("bob")
    assert site.sign_in("2").json()["code"] == "sign_in.no_role"


def test_state_ticket_and_code_each_work_once_and_together(site: Site) -> None:
    url, ticket = site.begin()
    asked = parse_qs(urlsplit(url).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["nonce"][0] not in ("", asked["state"][0])
    back = brought_back(browse(url, "1"))
    other_url, other_ticket = site.begin()
    for answer in (
        site.finish("unknown", back),
        site.finish(other_ticket, back),  # the state is of another sign-in; that one is lost
        site.finish(other_ticket, brought_back(browse(other_url, "1"))),
    ):
        assert (answer.status_code, answer.json()["code"]) == (401, "sign_in.failed")
    assert site.finish(ticket, back).status_code == 201
    assert site.finish(ticket, back).json()["code"] == "sign_in.failed"
    url, ticket = site.begin()  # a code that was got for another verifier
    stolen = brought_back(browse(site.begin()[0], "1")) | {"state": parse_qs(urlsplit(url).query)["state"][0]}
    assert site.finish(ticket, stolen).json()["code"] == "sign_in.failed"


@pytest.mark.parametrize(
    "uri",
    ["https://evil.example/", "http://evil.example/", "http://127.0.0.1.evil.example/", "http://127.0.0.1/?a=b", "x"],
)
def test_the_browser_comes_back_to_this_machine_only(site: Site, uri: str) -> None:
    assert site.client.post("/sign-in/oidc", json={"redirect_uri": uri}).status_code == 400


def test_tokens_that_are_not_ours_are_refused(site: Site, issuer: str) -> None:
    from joserfc import jwt
    from joserfc.jwk import OctKey, RSAKey

    site.begin()  # the provider's keys are known
    now = int(time.time())
    good: dict[str, Any] = {"iss": issuer, "aud": "mofang", "sub": "1", "nonce": "n", "iat": now, "exp": now + 60}
    ours, theirs = site.provider._keys.keys[0], RSAKey.generate_key(2048)
    site.provider._keys.keys.append(RSAKey.generate_key(2048, {"kid": "known"}))
    mine = site.provider._keys.keys[-1]
    del ours
    site.provider._known_until = time.monotonic() + 3600

    def verdict(claims: dict[str, Any], key: Any = mine, header: dict[str, str] | None = None) -> str:
        token = jwt.encode(header or {"alg": "RS256", "kid": "known"}, claims, key, algorithms=["RS256", "HS256"])
        try:
            return str(site.provider._verify(token, "n")["sub"])
        except Exception as error:
            return type(error).__name__

    assert verdict(good) == "1"
    for change in (
        {"iss": issuer + "/"}, {"aud": "other"}, {"aud": ["other"]}, {"nonce": "m"}, {"exp": now - 3600},
        {"azp": "other"}, {"iat": "soon"},
    ):  # fmt: skip
        assert verdict(good | change) == "SignInFailed", change
    for name in good:
        assert verdict({key: value for key, value in good.items() if key != name}) == "SignInFailed", name
    assert verdict(good, OctKey.import_key("0" * 64), {"alg": "HS256", "kid": "known"}) == "SignInFailed"
    assert verdict(good, theirs) == "SignInFailed", "the mock's keys are asked for anew, and do not fit"
    assert site.provider._keys.keys[0].kid != "known"


def test_a_provider_that_is_away_or_lies_is_told_as_such(issuer: str) -> None:
    with pytest.raises(ProviderFailed, match="does not answer"):
        Provider("http://127.0.0.1:9", "mofang").begin(BACK)
    with pytest.raises(ProviderFailed, match="calls itself by another name"):
        Provider(issuer + "/", "mofang").begin(BACK)


def test_without_a_provider_that_way_is_closed(ask: Ask) -> None:
    answer = ask("").post("/sign-in/oidc", json={"redirect_uri": BACK})
    assert (answer.status_code, answer.json()["code"]) == (409, "sign_in.no_provider")
