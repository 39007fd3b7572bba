"""How the tables change from release to release: Alembic revisions in the package, run by the program itself.

``Database.migrate`` calls :func:`upgrade`. Runtime code must not import the stores from here; only the
maintainers' command ``python -m mofang.base.storage.revise`` does, to write the next revision.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def upgrade(connection: Connection) -> None:
    """Run every revision that the database behind ``connection`` lacks, inside its transaction."""
    command.upgrade(config(connection), "head")


def config(connection: Connection) -> Config:
    """Return what ``env.py`` reads: where the revisions are, and the connection to use."""
    settings = Config(attributes={"connection": connection})
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    return settings
