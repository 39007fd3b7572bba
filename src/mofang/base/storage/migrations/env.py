"""Run by Alembic for every command; :func:`mofang.base.storage.migrations.config` hands in the connection."""

from alembic import context

from mofang.base.storage.migrations import compare_default

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes.get("metadata"),
    compare_server_default=compare_default,
    transactional_ddl=True,  # SQLite can, since Database begins its transactions explicitly
)
with context.begin_transaction():
    context.run_migrations()
