"""How the tables change from release to release: Alembic revisions in the package, run by the program itself.

``Database.migrate`` calls :func:`upgrade`. Runtime code must not import the stores from here; only the
maintainers' command ``python -m mofang.base.storage.revise`` does, to write the next revision.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, Column, Connection, inspect, text

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext


def upgrade(connection: Connection) -> None:
    """Run every revision that the database behind ``connection`` lacks, inside its transaction."""
    if _recorded(connection) == _newest():
        return  # nearly every start: Alembic, whose import takes an eighth of a second, is not needed

    from alembic import command

    command.upgrade(config(connection), "head")


def _newest() -> str:
    """Return the newest revision in the package: files are named by it."""
    return max(path.name for path in Path(__file__).with_name("versions").glob("[0-9]*.py")).partition("_")[0]


def _recorded(connection: Connection) -> str | None:
    """Return the revision of the database, if it has any."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def config(connection: Connection) -> Config:
    """Return what ``env.py`` reads: where the revisions are, and the connection to use."""
    from alembic.config import Config

    settings = Config(attributes={"connection": connection})
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    return settings


def compare_default(
    context: MigrationContext, found: Column[Any], declared: Column[Any], *defaults: object
) -> bool | None:
    """Have Alembic not compare defaults of JSON, for which PostgreSQL has no equality; None: as it does by itself."""
    return False if isinstance(declared.type, JSON) else None
