"""`mofang completion`: the script that makes a shell complete commands and options."""

from __future__ import annotations

import click

from mofang.surface.cli.session import Session
from mofang.surface.cli.verbs import verb


@verb(
    "completion",
    example='mofang completion bash >> ~/.bashrc\neval "$(mofang completion zsh)"\n'
    "mofang completion fish > ~/.config/fish/completions/mofang.fish",
    json="One object: shell, script.",
    remote=False,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_obj
def completion(session: Session, shell: str) -> None:
    """Print the completion script for a shell."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    command = click.get_current_context().find_root().command
    script = kind(command, {}, "mofang", "_MOFANG_COMPLETE").source()
    session.answer({"shell": shell, "script": script}, lambda: click.echo(script))
