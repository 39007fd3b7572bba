"""Environments of their own, made by the real pip from a wheel that needs no index."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from mofang.base.domain.errors import InvalidName, JobCancelled, ToolchainFailed, ToolchainMissing
from mofang.base.domain.work import Silent
from mofang.make.convert.toolchains import Toolchain, Toolchains


def _wheel(folder: Path) -> Path:
    """Write the smallest wheel there is: one module."""
    path, info = folder / "abacus-1.0-py3-none-any.whl", "abacus-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("abacus.py", "def add(a, b):\n    return a + b\n")
        packed.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: abacus\nVersion: 1.0\n")
        packed.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        packed.writestr(f"{info}/RECORD", "")
    return path


def _known(requirement: str) -> dict[str, Toolchain]:
    return {"abacus": Toolchain("abacus", "Counting", (requirement,), 1, 1_000, "abacus")}


def test_a_toolchain_is_installed_used_and_removed(tmp_path: Path) -> None:
    chains = Toolchains(tmp_path / "chains", _known(str(_wheel(tmp_path))))
    with pytest.raises(ToolchainMissing, match=r"'abacus'.*is not installed") as missing:
        chains.python("abacus")
    assert "mofang toolchains install abacus" in missing.value.hint
    chains.install("abacus", Silent())
    assert chains.is_installed("abacus")
    program = "import abacus, numpy, mofang; print(abacus.add(1, 2))"  # its own, and what the server has
    done = subprocess.run([chains.python("abacus"), "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "3\n"
    assert chains.remove("abacus")
    assert not chains.remove("abacus")
    with pytest.raises(ToolchainMissing):
        chains.python("abacus")


def test_an_installation_that_fails_or_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    chains = Toolchains(tmp_path / "chains", _known(str(tmp_path / "nothing.whl")))
    with pytest.raises(ToolchainFailed, match=r"nothing\.whl"):
        chains.install("abacus", Silent())

    class Impatient:
        def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
            if fraction >= 0.9:
                raise JobCancelled("enough")

    good = Toolchains(tmp_path / "chains", _known(str(_wheel(tmp_path))))
    with pytest.raises(JobCancelled):
        good.install("abacus", Impatient())
    assert list((tmp_path / "chains").iterdir()) == []
    with pytest.raises(InvalidName, match="no toolchain is called 'abakus'"):
        good.python("abakus")


def test_without_a_folder_there_is_none() -> None:
    with pytest.raises(ToolchainMissing):
        Toolchains().python("tensorflow")
