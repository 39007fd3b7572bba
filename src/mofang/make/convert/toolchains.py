"""Environments of their own for frameworks that are too large to live beside the server: made on demand, by pip.

A toolchain is a virtual environment under the data directory which sees the server's own packages too, so that only
what is missing there is installed, and the bench can run in it. Nothing of it is imported by the server.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from mofang.base.domain.errors import InvalidName, ToolchainFailed, ToolchainMissing
from mofang.base.domain.work import Progress

_READY = "ready"  # a file that is written when everything is there


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What is installed: requirements as pip reads them, about how many packages come, and how large they are."""

    name: str
    title: str
    requirements: tuple[str, ...]
    packages: int
    size_bytes: int
    imports: str
    """A module that must import before the toolchain counts as there."""


TOOLCHAINS: Mapping[str, Toolchain] = MappingProxyType(
    {
        "tensorflow": Toolchain(
            "tensorflow",
            "TensorFlow, to read and write SavedModel",
            ("tensorflow-cpu>=2.21,<2.22", "tf2onnx>=1.17,<1.18"),
            packages=30,
            size_bytes=1_500_000_000,
            imports="tf2onnx",
        ),
        "mindspore": Toolchain(
            "mindspore",
            "MindSpore, to read MindIR",
            ("mindspore>=2.10,<2.11", "numpy<2"),  # its compiled parts know no newer NumPy
            packages=10,
            size_bytes=2_800_000_000,
            imports="mindspore",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Toolchains:
    """Those of one server, below ``root``; without one none is installed."""

    root: Path | None = None
    known: Mapping[str, Toolchain] = field(default_factory=lambda: TOOLCHAINS)

    def python(self, name: str) -> Path:
        """Return the interpreter of toolchain ``name``; raise ToolchainMissing if it is not installed."""
        folder = self._folder(name)
        if folder is None or not (folder / _READY).exists():
            raise ToolchainMissing(
                f"the toolchain {name!r} ({self.known[name].title}) is not installed",
                hint=f"install it where the server runs: `mofang toolchains install {name}`",
            )
        return folder / "bin" / "python"

    def is_installed(self, name: str) -> bool:
        """Tell whether toolchain ``name`` is there."""
        folder = self._folder(name)
        return folder is not None and (folder / _READY).exists()

    def install(self, name: str, progress: Progress) -> Path:
        """Install toolchain ``name``, or give the one that is there; return its folder.

        Raises InvalidName, or ToolchainFailed, which says what pip said last. An installation that is broken off
        leaves nothing behind.
        """
        folder = self._folder(name)
        assert folder is not None
        if self.is_installed(name):
            return folder
        unfinished = folder.with_name(f".{name}-unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            progress.report("toolchain", 0.0, "making an environment")
            venv.create(unfinished, symlinks=True, with_pip=False)
            _see_the_server(unfinished)
            _install(unfinished, self.known[name], progress)
            progress.report("toolchain", 0.95, f"importing {self.known[name].imports}")
            _run([str(unfinished / "bin" / "python"), "-c", f"import {self.known[name].imports}"])
            (unfinished / _READY).touch()
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.replace(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        progress.report("toolchain", 1.0, f"{name} is installed")
        return folder

    def remove(self, name: str) -> bool:
        """Remove toolchain ``name``; tell whether it was there."""
        folder = self._folder(name)
        if folder is None or not folder.exists():
            return False
        shutil.rmtree(folder)
        return True

    def _folder(self, name: str) -> Path | None:
        if name not in self.known:
            raise InvalidName(f"no toolchain is called {name!r}", hint=f"there are: {', '.join(self.known)}")
        return None if self.root is None else self.root / name


def _see_the_server(folder: Path) -> None:
    """Let the environment import what the server can, after what is its own."""
    (own,) = (folder / "lib").glob("python*/site-packages")
    paths = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    source = Path(__file__).parents[3]  # of Mofang itself, which may be installed in place
    (own / "server.pth").write_text("".join(f"{path}\n" for path in (*paths, source)), "utf-8")


def _install(folder: Path, known: Toolchain, progress: Progress) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    quiet = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    seen = 0
    with closing(_lines([*command, *quiet, *known.requirements])) as lines:
        for line in lines:
            if line.startswith(("Collecting ", "Installing ")):
                seen += 1
                progress.report("toolchain", min(0.05 + 0.85 * seen / known.packages, 0.9), line[:100])


def _lines(command: list[str]) -> Generator[str, None, None]:
    """Yield what a command prints; raise ToolchainFailed with its last words if it fails.

    Closed before its end, it ends the command and what that has started: pip runs another pip.
    """
    last = ""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if text := line.strip():
                    last = text if text.startswith("ERROR") or not last.startswith("ERROR") else last
                    yield text
        finally:
            if sys.exc_info()[0] is not None and process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise ToolchainFailed(f"the toolchain cannot be installed: {last[:300] or 'pip said nothing'}")


def _run(command: list[str]) -> None:
    for _ in _lines(command):
        pass
