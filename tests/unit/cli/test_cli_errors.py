"""How a command fails: one sentence, a hint, an exit code by kind; in JSON for scripts; never a traceback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest
from terminal import Site, Terminal

from mofang.base.domain.errors import KINDS, MofangError, TensorShape, catalog
from mofang.surface.cli import failures
from mofang.surface.cli.main import run
from mofang.surface.wire.status import sentence, status_of

Capsys = pytest.CaptureFixture[str]


def test_an_error_has_the_one_form(capsys: Capsys) -> None:
    error = TensorShape("input 'x' of endpoint 'digits' takes [n, 64] FP32, got [1, 63]", hint="send 64 features")
    assert failures.show(error, as_json=False, debug=False) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "error[tensor.shape]: input 'x' of endpoint 'digits' takes [n, 64] FP32, got [1, 63]\nhint: send 64 features\n"
    )
    assert err.rstrip("\n") == sentence(error)


@pytest.mark.parametrize("kind", [*KINDS, *catalog().values()])
def test_every_error_exits_by_its_kind(kind: type[MofangError], capsys: Capsys) -> None:
    error = kind("it did not work")
    assert failures.show(error, as_json=True, debug=False) == status_of(error).exit_code != 0
    told = json.loads(capsys.readouterr().err)
    assert told == {"error": {"code": error.code, "message": "it did not work", "hint": error.hint}}


def test_a_wrong_command_names_the_nearest(capsys: Capsys) -> None:
    assert run(["depoly"]) == 2
    assert capsys.readouterr().err == (
        "error[usage]: 'mofang' has no command 'depoly'; did you mean 'deploy'?\n"
        "hint: `mofang --help` shows what it takes\n"
    )
    assert run(["keys", "creat"]) == 2
    assert "did you mean 'create'?" in capsys.readouterr().err


def test_a_wrong_option_points_to_the_help(capsys: Capsys) -> None:
    assert run(["keys", "create", "--projct", "p"]) == 2
    assert "hint: `mofang keys create --help` shows what it takes" in capsys.readouterr().err
    assert run(["train", "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "usage"
    assert run(["train", "/no/such/recipe.toml"]) == 2
    assert "/no/such/recipe.toml" in capsys.readouterr().err


def test_an_unexpected_error_is_one_line_and_a_log(
    capsys: Capsys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    fault = ZeroDivisionError("a\nb")
    assert failures.show(fault, as_json=False, debug=False) == 1
    err = capsys.readouterr().err
    log = tmp_path / "mofang/error.log"
    assert err.startswith("error[internal]: unexpected ZeroDivisionError: a\nhint: ")
    assert str(log) in err
    assert "Traceback" not in err
    assert "ZeroDivisionError" in log.read_text()
    assert failures.show(fault, as_json=False, debug=True) == 1
    assert "ZeroDivisionError: a\nb" in capsys.readouterr().err


def test_interrupts_and_files(capsys: Capsys) -> None:
    gone = failures.Interrupted("no longer watching; job j goes on", "`mofang jobs logs j --follow` watches it again")
    assert failures.show(gone, as_json=False, debug=False) == 130
    assert "job j goes on\nhint: `mofang jobs logs j" in capsys.readouterr().err
    assert failures.show(click.Abort(), as_json=False, debug=False) == 130
    assert failures.show(FileNotFoundError(2, "No such file", "/x"), as_json=False, debug=False) == 2
    assert "error[file]: '/x': no such file or directory" in capsys.readouterr().err


def test_no_server_is_unavailable(capsys: Capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOFANG_URL", raising=False)
    assert run(["status", "--data", str(tmp_path)]) == 11
    assert "error[server.not_running]: no server runs on the data directory" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert run(["status", "--url", f"http://127.0.0.1:{port}"]) == 11
    assert f"no server answers at http://127.0.0.1:{port}" in capsys.readouterr().err


def test_a_wrong_key_is_told_by_the_server(mofang: Terminal) -> None:
    for key in ("mf_wrong", "nothing like a key"):
        ran = mofang("models", "list", "--key", key)
        assert ran.code == 3
        assert ran.err.startswith("error[key.unknown]: ")


def test_options_of_the_root_count_for_every_command(mofang: Terminal, site: Site) -> None:
    assert mofang("--key", "mf_wrong", "models", "list").code == 3
    assert mofang("--json", "models", "list").json == {"items": []}
    assert mofang("--key", "mf_wrong", "models", "list", "--key", site.house.admin_key).code == 0


def test_ctrl_c_says_that_the_job_goes_on(site: Site, tmp_path: Path) -> None:
    recipe = tmp_path / "waiting.toml"  # nobody takes a job of that name
    recipe.write_text('name = "x"\n[prepare]\nsource = ["sklearn:iris"]\n[train]\nalgorithm = "decision_tree"\n')
    command = [sys.executable, "-m", "mofang.surface.cli", "train", str(recipe)]
    environment = {**os.environ, "MOFANG_URL": site.url, "MOFANG_API_KEY": site.house.admin_key}
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=_heed_interrupts
    ) as child:
        assert child.stderr is not None
        job = child.stderr.readline().split()[1].rstrip(":")
        child.send_signal(signal.SIGINT)
        err = child.stderr.read()
    assert child.returncode == 130, err
    assert site.house.platform.jobs.get(job).state == "queued"
    assert f"job {job} goes on" in err
    assert f"`mofang jobs cancel {job}` stops it" in err
    assert "Traceback" not in err


def _heed_interrupts() -> None:
    """Undo what shells do to whom they start in the background, as the tests themselves may be."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
