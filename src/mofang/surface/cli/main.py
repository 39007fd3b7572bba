"""The command `mofang`: composes what the other modules declare, and turns every ending into an exit code.

Called by the console script (pyproject) and by ``__main__``. It imports no command: :class:`Contents` does,
when one is used, so that `mofang --help` and shell completion are instant.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from mofang import __version__
from mofang.surface.cli import failures
from mofang.surface.cli.session import Session
from mofang.surface.cli.verbs import Contents, shared_options
from mofang.surface.wire.status import TABLE

HELP = """Any trained model becomes a metered, keyed, reversible API.

The commands, in the order of a model's life each with an example in its `--help`:"""
EVERYWHERE = """Everywhere: --json answers in JSON (errors too); --url and --key name a server, else MOFANG_URL and
MOFANG_API_KEY, else the local one."""


def exit_codes() -> str:
    """Say every exit code, from the table that decides them."""
    titles = {status.exit_code: status.title.lower() for status in reversed([*TABLE.values()])}
    known = {0: "done", **titles, failures.INTERRUPTED: "Ctrl-C"}
    return "Exit codes: " + ", ".join(f"{code} {title}" for code, title in sorted(known.items())) + "."


def root() -> click.Group:
    """Build the command; its commands are imported when they are used."""
    command = Contents(
        "mofang",
        help=HELP,
        epilog=f"{EVERYWHERE}\n\n{exit_codes()}",
        params=list(shared_options()),
        subcommand_metavar="COMMAND [ARGS]",
        options_metavar="",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    return click.version_option(__version__, "-V", "--version", message="mofang %(version)s")(command)


def run(args: Sequence[str]) -> int:
    """Run one command line and return its exit code; what goes wrong is printed, never raised."""
    session = Session()
    try:
        code = root().main([*args] or ["--help"], prog_name="mofang", standalone_mode=False, obj=session)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:  # `mofang ... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, KeyboardInterrupt) as error:
        return failures.show(error, as_json=session.as_json or "--json" in args, debug=session.debug)


def main() -> None:
    """Run the command line of this process."""
    sys.exit(run(sys.argv[1:]))
