"""Settings are read once, from what is given, the environment and the defaults."""

from dataclasses import fields
from pathlib import Path

import pytest

from mofang.base.domain.errors import InvalidSettings
from mofang.surface.server.settings import Settings, split_address


def test_what_is_given_wins_over_the_environment_and_that_over_the_default(tmp_path: Path) -> None:
    environ = {"MOFANG_DATA": str(tmp_path), "MOFANG_HTTP": "127.0.0.1:9000", "MOFANG_GATEWAYS": "2"}
    settings = Settings.load(environ, http="127.0.0.1:9001", grpc=None)
    assert settings.http == "127.0.0.1:9001"
    assert settings.grpc == "127.0.0.1:8081"
    assert settings.gateways == 2
    assert settings.data == tmp_path
    assert settings.database_url == f"sqlite:///{tmp_path}/mofang.db"


@pytest.mark.parametrize("text", ["8080", "host:", ":8080", "host:http", "host:70000", ""])
def test_an_address_is_host_and_port(text: str) -> None:
    with pytest.raises(InvalidSettings, match="HOST:PORT"):
        split_address("http", text)


def test_an_ipv6_address_is_written_in_brackets() -> None:
    assert split_address("http", "[::1]:80") == ("::1", 80)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("GATEWAYS", "many"),
        ("GATEWAYS", "0"),
        ("BODY_BYTES", "-1"),
        ("UPLOAD_BYTES", "0"),
        ("DRAIN_SECONDS", "soon"),
        ("DRAIN_SECONDS", "nan"),
        ("DRAIN_SECONDS", "-5"),
        ("SESSION_SECONDS", "1"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("OIDC_ROLES", "everybody -> owner"),
    ],
)
def test_a_value_that_cannot_be_is_refused(name: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings):
        Settings.load({f"MOFANG_{name}": text}, data=tmp_path)


def test_every_setting_says_what_it_is() -> None:
    source = (Path(__file__).parents[3] / "src/mofang/surface/server/settings.py").read_text()
    for spec in fields(Settings):
        declaration = source.index(f"\n    {spec.name}: ")
        following = source[declaration + 1 :].split("\n")[1]
        assert following.strip().startswith('"""'), f"{spec.name} has no description"
