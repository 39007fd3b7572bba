"""A40: whatever the description of the control API allows is asked, and much that it does not, and nothing ends in a
5xx or in an answer that is not described; nothing in the code runs what it was sent, but for three places that say why.

That no route is undocumented is in ``tests/unit/api/test_api_access.py``, the drill of backup and restore in
``test_move_data.py``, the locked dependencies and their licences in ``tests/architecture/test_dependencies.py``, many
more questions in ``tests/prove``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from schemathesis import GenerationMode

import mofang
from fuzzing import ask_control
from servers import Server

SOURCE = Path(mofang.__file__).parent
RUNNING = {
    "make/convert/sklearn.py: joblib.load": "a pickle whose pusher asked for it, in a process that is locked in",
    "make/convert/pushed/torch.py: exec": "the code of a network that was pushed along, in a process that is locked in",
    "make/train/function.py: exec": "a function of one's own; only who operates the server may send it",
    "make/train/keras/train.py: exec": "the same",
}
"""Where code is run that came from outside, and why that is so."""


@pytest.mark.parametrize("mode", GenerationMode)
def test_a40_nothing_that_is_asked_ends_in_a_5xx(server: Server, mode: GenerationMode) -> None:
    asked = ask_control(server, mode, examples=2)
    assert len({operation for operation, _ in asked}) > 80
    assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200


def test_a40_nothing_runs_what_it_was_sent() -> None:
    found = {f"{path.relative_to(SOURCE)}: {name}" for path in SOURCE.rglob("*.py") for name in _dangers(path)}
    assert found == {*RUNNING}


def _dangers(path: Path) -> Iterator[str]:
    """Yield what a module calls that runs, or may run, what it is given."""
    for call in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(call, ast.Call):
            continue
        name, given = ast.unparse(call.func), {word.arg: ast.unparse(word.value) for word in call.keywords}
        loads = name in ("pickle.load", "pickle.loads", "marshal.loads", "joblib.load", "dill.load", "shelve.open")
        if name in ("eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load") or loads:
            yield name
        elif given.get("shell", "False") != "False" or given.get("allow_pickle", "False") == "True":
            yield f"{name}({', '.join(given)})"
        elif name == "torch.load" and given.get("weights_only") != "True":
            yield name


@pytest.mark.parametrize(
    "code", ["exec(x)", "pickle.loads(x)", "run(x, shell=True)", "yaml.load(x)", "np.load(x, allow_pickle=True)"]
)
def test_a40_the_search_finds_what_it_looks_for(tmp_path: Path, code: str) -> None:
    (tmp_path / "bad.py").write_text(code)
    assert len([*_dangers(tmp_path / "bad.py")]) == 1
