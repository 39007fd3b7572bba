"""What a plain installation brings along: pinned by hash in ``requirements.lock``, as a whole, under good licences."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution, metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PERMISSIVE = {
    "MIT", "MIT-0", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "Apache-2.0", "PSF-2.0", "ISC", "Zlib", "CC0-1.0",
}  # fmt: skip
BY_CLASSIFIER = {
    "MIT License": "MIT", "BSD License": "BSD-3-Clause", "Apache Software License": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}  # fmt: skip
READ = {
    "protobuf": "BSD-3-Clause",  # its metadata say it in words
    "skops": "MIT",  # its metadata do not say it, its LICENSE does
}
"""Licences that somebody has read."""
BESIDES = {"certifi": "MPL-2.0"}  # a list of certificates: nothing of it is changed here
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+) \\\n((?:    --hash=\S+(?: \\)?\n)+)", re.MULTILINE)


def locked() -> dict[str, tuple[str, list[str]]]:
    """Return version and hashes of everything in the lock."""
    text = (ROOT / "requirements.lock").read_text()
    return {
        canonicalize_name(name): (version, re.findall(r"--hash=(\S+)", hashes))
        for name, version, hashes in _PIN.findall(text)
    }


def needs() -> Iterator[Requirement]:
    """Yield what a plain installation asks for."""
    yield from map(Requirement, tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])


LOCKED = locked()


def test_the_lock_has_everything_in_a_version_that_is_asked_for() -> None:
    assert len(LOCKED) > 40
    for requirement in needs():
        version, _ = LOCKED[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}: locked is {version}; `make lock` pins anew"


def test_every_pin_has_a_hash() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert len([line for line in lines if "==" in line and not line.startswith((" ", "#"))]) == len(LOCKED)
    for name, (_, hashes) in LOCKED.items():
        assert hashes, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), name


@pytest.mark.parametrize("name", sorted(LOCKED))
def test_what_is_locked_needs_nothing_that_is_not(name: str) -> None:
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            assert canonicalize_name(requirement.name) in LOCKED, f"{name} needs {requirement}; `make lock` pins anew"


@pytest.mark.parametrize("name", sorted(LOCKED))
def test_its_licence_lets_us(name: str) -> None:
    found = licence_of(name)
    words = {word for word in re.split(r"[\s()]+", found) if word not in ("AND", "OR", "")}
    assert words, f"{name} does not say under which licence it is"
    assert words <= PERMISSIVE or BESIDES.get(name) == found, f"{name} is under {found}"


def licence_of(name: str) -> str:
    """Return the SPDX expression of a package's licence, or "" if it does not say."""
    told = metadata(name)
    expression = told.get("License-Expression") or READ.get(name)
    if expression:
        return str(expression)
    words = [line.rsplit(" :: ", 1)[1] for line in told.get_all("Classifier") or () if line.startswith("License ::")]
    return " OR ".join(BY_CLASSIFIER.get(word, word) for word in words)
