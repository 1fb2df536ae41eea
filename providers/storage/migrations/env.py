"""Alembic's entry: runs on the connection, and in the transaction, that `providers.storage` hands over."""

from alembic import context

from providers.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
