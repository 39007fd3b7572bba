"""One server for the tests of a module, and a terminal to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from terminal import PromptJobs, Site, Terminal, working

from mofang.surface.api.app import create_app
from platforms import open_house, serving


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for the tests of a module."""
    folder = tmp_path_factory.mktemp("site")
    with open_house(folder) as house:
        jobs = PromptJobs(house.database)
        platform = replace(house.platform, jobs=jobs)
        with working(jobs, platform, folder / "scratch"), serving(create_app(platform)) as url:
            yield Site(house, url)


@pytest.fixture
def mofang(site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Terminal:
    monkeypatch.setenv("MOFANG_URL", site.url)
    monkeypatch.setenv("MOFANG_API_KEY", site.house.admin_key)
    monkeypatch.setenv("MOFANG_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Terminal(capsys)
