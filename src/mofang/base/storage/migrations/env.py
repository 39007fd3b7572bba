"""Run by Alembic for every command; :func:`mofang.base.storage.migrations.config` hands in the connection."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes.get("metadata"),
    compare_server_default=True,
    transactional_ddl=True,  # SQLite can, since Database begins its transactions explicitly
)
with context.begin_transaction():
    context.run_migrations()
