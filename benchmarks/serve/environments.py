"""Virtual environments of the peers: each in a folder of its own that git ignores, made when it is first asked for."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache" / "peers"
PACKAGES = {
    "mlserver": "mlserver",
    "litserve": "litserve",
    "bentoml": "bentoml",
    "ray": "ray[serve]",
    "pytriton": "nvidia-pytriton",
}
"""What pip is asked for, by the peer's name; ``peers/NAME_app.py`` is the server."""


class NotInstalled(Exception):
    """A peer cannot be installed; the message is pip's reason."""


def python(peer: str) -> Path:
    """Return the interpreter of a peer's environment, installing it if need be. Raises NotInstalled."""
    folder = CACHE / peer
    interpreter, ready = folder / "bin" / "python", folder / ".ready"
    if not ready.exists():
        sys.stderr.write(f"installing {PACKAGES[peer]} into {folder}\n")
        venv.create(folder, with_pip=True, clear=True)
        command = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run(
            [*command, PACKAGES[peer], "onnxruntime", "numpy"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise NotInstalled((errors or done.stderr.splitlines() or ["pip does not say why"])[-1])
        ready.touch()
    return interpreter


def version(peer: str) -> str:
    """Return the version that is installed of a peer."""
    package = PACKAGES[peer].partition("[")[0]
    code = f"import importlib.metadata as m, json; print(json.dumps(m.version({package!r})))"
    done = subprocess.run([str(python(peer)), "-c", code], capture_output=True, text=True, check=True)
    return str(json.loads(done.stdout))
