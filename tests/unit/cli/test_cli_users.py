"""People at the command line: invited, signed in, looked after, signed out; by password and at a real provider."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from terminal import Site, Terminal

from mofang.surface.api.app import create_app
from mofang.surface.api.provider import Provider
from mofang.surface.cli.main import run
from platforms import open_house, serving
from provider import browse, running_provider

if TYPE_CHECKING:
    from terminal import Ran

SECRET = "correct horse battery"


@pytest.fixture
def person(mofang: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """The terminal of somebody who has no key; the admin's commands name it."""
    monkeypatch.delenv("MOFANG_API_KEY")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return mofang


def sign_in(person: Terminal, monkeypatch: pytest.MonkeyPatch, *args: str, password: str = SECRET) -> Ran:
    monkeypatch.setattr("sys.stdin", io.StringIO(password + "\n"))
    return person("login", *args)


def test_from_invitation_to_logout(
    site: Site, person: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    admin = ("--key", site.house.admin_key)
    made = person.good("users", "create", "ada@acme.com", "developer", "--project", "default", "--json", *admin).json
    assert "invited" in person.good("users", *admin).out
    refused = sign_in(person, monkeypatch, "ada@acme.com", "--code", "wrong")
    assert (refused.code, "error[sign_in.failed]" in refused.err) == (3, True)
    done = sign_in(person, monkeypatch, "ada@acme.com", "--code", made["code"])
    assert done.code == 0, done.err
    assert "you are ada@acme.com, developer of project default" in done.out
    kept = tmp_path / "config" / "mofang" / "sessions.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert list(json.loads(kept.read_text())) == [site.url]
    assert SECRET not in kept.read_text() + done.out + done.err
    assert person.good("whoami", "--json").json["user"] == "ada@acme.com"
    person.good("models")
    assert person("keys").code == 4, "a developer gives out no keys"
    changed = person.good("users", "grant", "ada@acme.com", "viewer", "--project", "default", *admin)
    assert "ada@acme.com is viewer of project default" in changed.out
    assert "error[key.unknown]" in person("whoami").err, "her session ended with her role"
    assert sign_in(person, monkeypatch, "ada@acme.com", "--json").json["role"] == "viewer"
    assert "your session has ended" in person.good("logout").out
    assert kept.read_text() == "{}"
    assert "you were not signed in" in person.good("logout").out
    assert "error[key.missing]" in person("whoami").err
    assert "let in no more" in person.good("users", "disable", "ada@acme.com", *admin).out
    assert sign_in(person, monkeypatch, "ada@acme.com").code == 3


def test_a_key_that_is_named_wins_over_the_session(
    site: Site, person: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = ("--key", site.house.admin_key)
    code = person.good("users", "create", "bob", "viewer", "--json", *admin).json["code"]
    assert sign_in(person, monkeypatch, "bob", "--code", code).code == 0
    assert person.good("whoami", "--json").json["user"] == "bob"
    assert person.good("whoami", "--json", *admin).json["user"] == ""
    assert person("logout", *admin).out.startswith("you were not signed in")
    assert "name a user, or --oidc" in person("login").err
    assert "no password came" in sign_in(person, monkeypatch, "bob", password="").err


def test_roles_are_printed_as_they_are_applied(mofang: Terminal) -> None:
    items = {each["permission"]: each for each in mofang.good("roles", "--json").json["items"]}
    assert items["sell"]["roles"] == ["owner"]
    assert "developer" in mofang.good("roles").out


@pytest.fixture
def provided(tmp_path: Path) -> Iterator[str]:
    """A server whose people a provider knows."""
    (tmp_path / "house").mkdir()
    with (
        running_provider({"7": {"email": "zoe@ours.example", "email_verified": True}}) as issuer,
        open_house(tmp_path / "house", provider=Provider(issuer, "mofang", "any secret will do")) as house,
        serving(create_app(house.platform)) as url,
    ):
        yield url


def test_the_browser_signs_in_at_the_provider(
    provided: str, person: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    ended: list[int] = []
    command = threading.Thread(target=lambda: ended.append(run(["login", "--oidc", "--url", provided])))
    command.start()
    told = ""
    while "redirect_uri" not in told:  # until the command has said where the browser is to go
        assert command.is_alive(), told
        told += capsys.readouterr().err
        command.join(0.05)
    url = re.search(r"http://\S+/oauth2/authorize\S+", told)
    assert url is not None, told
    back = browse(url[0], "7")
    assert httpx.get(back.partition("?")[0] + "favicon.ico").status_code == 404
    assert "close this window" in httpx.get(back).text
    command.join(20)
    out = capsys.readouterr().out
    assert ended == [0], out
    assert "you are zoe@ours.example, viewer of the platform" in out
    assert person.good("whoami", "--json", "--url", provided).json["user"] == "zoe@ours.example"
