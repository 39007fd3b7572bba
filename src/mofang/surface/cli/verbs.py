"""How commands are declared: every verb brings an example and says what its ``--json`` holds.

:class:`Verb` adds the options that all verbs share and writes help pages; :class:`Topic` is a command with verbs of
its own (`runs list`); :class:`Contents` is `mofang` itself, which imports a command's module only when it is used.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib import import_module
from typing import Any

import click

from mofang.surface.cli.contents import CONTENTS, entries
from mofang.surface.cli.session import Session

PACKAGE = "mofang.surface.cli"


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Put a shared option's value into the Session; one given further right wins."""
    session = ctx.ensure_object(Session)
    if value and param.name:
        setattr(session, param.name, value)


def shared_options(*, remote: bool = True) -> list[click.Option]:
    """Return the options that every verb has; one that is not ``remote`` works on this machine and needs no server."""
    common: dict[str, Any] = {"expose_value": False, "callback": _keep}
    server = (
        click.Option(["--url"], metavar="URL", help="The server; else MOFANG_URL, else the local one.", **common),
        click.Option(["--key"], metavar="KEY", help="Your key; else MOFANG_API_KEY, else the local one.", **common),
    )
    return [
        click.Option(["--json", "as_json"], is_flag=True, help="Answer in JSON; errors too.", **common),
        *(server if remote else ()),
        click.Option(["--data"], metavar="DIR", help="The local data directory; else MOFANG_DATA.", **common),
        click.Option(["--debug"], is_flag=True, help="Show the whole story of an error.", **common),
    ]


class Verb(click.Command):
    """A command that does something: with an example to copy and a documented ``--json``."""

    def __init__(self, *args: Any, example: str, json: str, remote: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        self.json = json
        self.shared = shared_options(remote=remote)
        self.params.extend(self.shared)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verb's own options, then the shared ones apart from them."""
        own = [p for p in self.params if p not in self.shared]
        for title, params in (("Options", own), ("Everywhere", self.shared)):
            records = (param.get_help_record(ctx) for param in params)
            rows = [record for record in records if record and record[1]]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example as it can be run, and what the JSON holds."""
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"  {line}\n")
        with formatter.section("JSON"):
            formatter.write_text(self.json)


class Topic(click.Group):
    """A noun with verbs (`mofang keys list`); named alone, it does what one asks of it most."""

    def __init__(self, name: str, *, usual: str, help: str) -> None:
        super().__init__(name, help=help, no_args_is_help=False)
        self.usual = usual
        self.epilog = f"`mofang {self.name}` alone does `{usual}`. `mofang {self.name} COMMAND --help` has examples."

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the usual verb before options that stand where a verb should."""
        known = args and (args[0] in self.commands or args[0] in ("--help", "-h"))
        if not known and (not args or args[0].startswith("-")):
            args = [self.usual, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the verbs in the order they were declared."""
        return list(self.commands)

    def verb(self, name: str, *, example: str, json: str, remote: bool = True) -> Callable[[Callable[..., None]], Verb]:
        """Declare a verb of this noun."""

        def declare(function: Callable[..., None]) -> Verb:
            command = verb(name, example=example, json=json, remote=remote)(function)
            self.add_command(command)
            return command

        return declare

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the verb; name the nearest one if there is none."""
        _check_word(self, ctx, args[0])
        return super().resolve_command(ctx, args)


def verb(name: str, *, example: str, json: str, remote: bool = True) -> Callable[[Callable[..., None]], Verb]:
    """Declare a command of its own; the function's docstring is its help."""
    return lambda function: click.command(name, cls=Verb, example=example, json=json, remote=remote)(function)


def topic(name: str, summary: str, *, usual: str) -> Topic:
    """Declare a noun; its verbs are added with :meth:`Topic.verb`."""
    return Topic(name, usual=usual, help=summary)


class Contents(click.Group):
    """`mofang`: its help is the table of contents, its commands are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name every command, in the order of a model's life."""
        return list(entries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module that has the command."""
        entry = entries().get(cmd_name)
        if entry is None:
            return None
        command = getattr(import_module(f"{PACKAGE}.{entry.module}"), entry.name)
        assert isinstance(command, click.Command)
        return command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of contents in place of a list of options."""
        formatter.write_paragraph()
        width = max(len(stage) for stage, _ in CONTENTS)
        for stage, group in CONTENTS:
            for number, entry in enumerate(group):
                head = stage if number == 0 else ""
                formatter.write(f"  {head:<{width}}  {entry.name:<10}  {entry.summary}\n")

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command; name the nearest one if there is none."""
        _check_word(self, ctx, args[0])
        return super().resolve_command(ctx, args)


def _check_word(group: click.Group, ctx: click.Context, word: str) -> None:
    if group.get_command(ctx, word) is None and not word.startswith("-"):
        near = difflib.get_close_matches(word, group.list_commands(ctx), 1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise click.UsageError(f"{ctx.command_path!r} has no command {word!r}{meant}", ctx)
