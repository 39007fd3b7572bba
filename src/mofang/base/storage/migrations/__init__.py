"""How the tables change from release to release: Alembic revisions in the package, run by the program itself.

``Database.migrate`` calls :func:`upgrade`. Runtime code must not import the stores from here; only the
maintainers' command ``python -m mofang.base.storage.revise`` does, to write the next revision.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import JSON, Column, Connection


def upgrade(connection: Connection) -> None:
    """Run every revision that the database behind ``connection`` lacks, inside its transaction."""
    command.upgrade(config(connection), "head")


def config(connection: Connection) -> Config:
    """Return what ``env.py`` reads: where the revisions are, and the connection to use."""
    settings = Config(attributes={"connection": connection})
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    return settings


def compare_default(
    context: MigrationContext, found: Column[Any], declared: Column[Any], *defaults: object
) -> bool | None:
    """Have Alembic not compare defaults of JSON, for which PostgreSQL has no equality; None: as it does by itself."""
    return False if isinstance(declared.type, JSON) else None
