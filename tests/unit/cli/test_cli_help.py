"""The table of contents and the help of every verb: complete, in step, with examples, and instant."""

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from mofang.surface.cli.contents import entries
from mofang.surface.cli.main import exit_codes, root
from mofang.surface.cli.verbs import Topic, Verb
from mofang.surface.wire.status import TABLE

ISSUED = {
    "up", "down", "status", "doctor", "train", "runs", "push", "evaluate", "models", "versions", "promote", "deploy",
    "endpoints", "rollout", "rollback", "predict", "keys", "projects", "usage", "prices", "invoice", "audit",
}  # fmt: skip

HEAVY = {"numpy", "httpx", "rich", "fastapi", "sqlalchemy", "onnxruntime", "sklearn", "grpc"}


def commands() -> Iterator[tuple[str, click.Command]]:
    group = root()
    context = click.Context(group, info_name="mofang")
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, Topic):
            yield from ((f"{name} {sub}", verb) for sub, verb in command.commands.items())


VERBS = [pytest.param(name, command, id=name) for name, command in commands() if not isinstance(command, Topic)]


def text_of(*args: str) -> str:
    result = subprocess.run([sys.executable, "-m", "mofang.surface.cli", *args], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_command_of_the_platform_is_in_the_contents() -> None:
    assert set(entries()) >= ISSUED


def test_every_entry_is_a_command_of_that_name() -> None:
    for name, command in commands():
        assert command.name == name.split()[-1]


@pytest.mark.parametrize(("name", "command"), VERBS)
def test_a_verb_has_help_an_example_and_documented_json(name: str, command: click.Command) -> None:
    assert isinstance(command, Verb)
    assert command.help
    assert all(line.startswith(("mofang ", "eval ")) for line in command.example.splitlines())
    assert any(f"mofang {name}" in line or f"mofang {name.split()[0]}" in line for line in command.example.splitlines())
    assert len(command.json) > 10
    page = command.get_help(click.Context(command, info_name=name))
    assert "Example:" in page
    assert "--json" in page


@pytest.mark.parametrize(("name", "command"), VERBS)
def test_an_example_is_a_command_line_that_can_be_read(name: str, command: click.Command) -> None:
    assert isinstance(command, Verb)
    own = [p for p in command.params if isinstance(p, click.Option)]
    assert all(option.help for option in own), [o.name for o in own if not o.help]
    known = {word for option in own for word in (*option.opts, *option.secondary_opts)}
    for line in command.example.splitlines():
        words = [word for word in line.split("|")[0].split() if word.startswith("--")]
        assert set(words) <= known, line


def test_the_contents_come_in_the_order_of_a_models_life() -> None:
    page = text_of("--help")
    places = [
        page.index(f"\n  {stage} ") for stage in ("prepare", "train", "evaluate", "register", "deploy", "serve", "bill")
    ]
    assert places == sorted(places)
    for entry in entries().values():
        line = next(line for line in page.splitlines() if entry.summary in line)
        assert len(line) < 100


def test_help_lists_every_exit_code() -> None:
    said = exit_codes()
    assert all(f"{status.exit_code} " in said for status in TABLE.values())


def test_help_loads_little_and_nothing_heavy() -> None:
    script = (
        "import sys; from mofang.surface.cli.main import run; run(['--help'])\n"
        f"heavy = {HEAVY} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
        "assert len(sys.modules) < 250, len(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    assert "_MOFANG_COMPLETE" in text_of("completion", shell)


def test_completion_completes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("_MOFANG_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "mofang roll")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit) as ended:
        root().main([], prog_name="mofang")
    assert ended.value.code == 0
    assert capsys.readouterr().out.split() == ["plain,rollout", "plain,rollback"]
