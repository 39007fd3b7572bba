"""What one run of `mofang` knows: the shared options, the connection made when first needed, how to answer.

click hands it to every command (``@click.pass_obj``).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mofang.surface.cli import connection
from mofang.surface.cli.remembered import recall, remember

if TYPE_CHECKING:
    from mofang.surface.sdk.client import Client


@dataclass
class Session:
    """The shared options of the command line, and what follows from them."""

    url: str = ""
    key: str = ""
    data: str = ""
    as_json: bool = False
    debug: bool = False

    @cached_property
    def connection(self) -> connection.Connection:
        """The server and key to use; raise ServerNotRunning if none can be found."""
        return connection.find(self.url, self.key, self.data, os.environ)

    @property
    def data_folder(self) -> Path:
        """The local data directory, existing or not."""
        return connection.data_folder(self.data, os.environ)

    @cached_property
    def client(self) -> Client:
        """The SDK's client, closed when the command ends."""
        from mofang.surface.sdk.client import Client  # httpx and numpy: not for `--help`

        found = self.connection
        client = Client(found.url, found.key, grpc=found.grpc)
        click.get_current_context().call_on_close(client.close)
        return client

    @cached_property
    def visitor(self) -> Client:
        """A client without a key, for signing in."""
        from mofang.surface.sdk.client import Client

        client = Client(self.connection.url, "", grpc=self.connection.grpc)
        click.get_current_context().call_on_close(client.close)
        return client

    @property
    def remembered(self) -> bool:
        """Whether somebody is signed in at the server, and commands act as her."""
        kept = recall(self.connection.url, os.environ)
        return bool(kept) and self.connection.key == kept

    def remember(self, token: str) -> None:
        """Act as who has just signed in, until she signs out."""
        remember(self.connection.url, token, os.environ)

    def forget(self) -> None:
        """Act as her no more."""
        remember(self.connection.url, "", os.environ)

    @property
    def is_live(self) -> bool:
        """Whether a person watches: standard error is a terminal and no script asked for JSON."""
        return not self.as_json and sys.stderr.isatty()

    def answer(self, value: Any, screen: Callable[[], None]) -> None:
        """Finish a command: print ``value`` as JSON for a script, or draw the ``screen`` for a person."""
        if self.as_json:
            click.echo(json.dumps(plain(value), indent=2, ensure_ascii=False))
        else:
            screen()

    def answer_list(self, values: list[Any], screen: Callable[[], None]) -> None:
        """Finish a command that lists: JSON is ``{"items": [...]}``."""
        self.answer({"items": values}, screen)


def plain(value: Any) -> Any:
    """Turn nouns into what JSON can say: objects, lists, numbers, strings."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if hasattr(value, "tolist"):  # numpy arrays and scalars, without importing numpy here
        return plain(value.tolist())
    return str(value) if isinstance(value, Path) else value
