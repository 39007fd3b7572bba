"""For maintainers: write the revision that leads from the revisions there are to the tables the stores declare.

``python -m mofang.base.storage.revise MESSAGE``. Here alone the stores of later wings are imported, by name, so that
all of their tables are known at once. The running program never imports this module.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import tempfile
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData

from mofang.base.storage.database import Database, metadata
from mofang.base.storage.migrations import compare_default, config

_PACKAGE = Path(__file__).parents[2]
VERSIONS = Path(__file__).parent / "migrations" / "versions"


def all_tables() -> MetaData:
    """Import every ``store`` module of the package and return what they declared."""
    for module in pkgutil.walk_packages([str(_PACKAGE)], "mofang."):
        if module.name.endswith(".store"):
            importlib.import_module(module.name)
    return metadata


def differences(connection: Connection) -> list[Any]:
    """Return what the database behind ``connection`` lacks or has in excess of the stores' tables."""
    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "compare_server_default": compare_default}
    )
    return list(compare_metadata(context, all_tables()))


def write_revision(message: str, *, from_scratch: bool = False) -> Path | None:
    """Write the next revision and return its file; None if there is nothing to write.

    ``from_scratch`` first removes every revision there is: only before the first release, nobody could upgrade.
    """
    if from_scratch:
        for path in VERSIONS.glob("*.py"):
            path.unlink()
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/mofang.db")
        database.migrate()
        with database.write() as connection:
            written = _write(connection, message) if differences(connection) else None
        database.close()
    return written


def _write(connection: Connection, message: str) -> Path:
    settings = config(connection)
    settings.attributes["metadata"] = all_tables()
    settings.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    for key, value in {
        "hooks": "format, check",
        "check.type": "module",
        "check.module": "ruff",
        "check.options": "check --quiet --fix REVISION_SCRIPT_FILENAME",
        "format.type": "module",
        "format.module": "ruff",
        "format.options": "format --quiet REVISION_SCRIPT_FILENAME",
    }.items():
        settings.set_section_option("post_write_hooks", key, value)
    number = 1 + len(list(VERSIONS.glob("[0-9]*.py")))
    script = command.revision(settings, message, autogenerate=True, rev_id=f"{number:04d}")
    assert script is not None
    assert not isinstance(script, list)
    return Path(script.path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the next revision of the database's schema.")
    parser.add_argument("message", help='what changes, e.g. "Add budgets"')
    parser.add_argument("--from-scratch", action="store_true", help="replace all revisions by one")
    arguments = parser.parse_args()
    path = write_revision(arguments.message, from_scratch=arguments.from_scratch)
    print(path or "nothing to write: the revisions lead to the tables of the stores")
