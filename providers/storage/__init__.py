"""What the gateway keeps: one database, one schema, for the journal, the embedded calendar and its event types.

Importing this package brings in SQLAlchemy (0.2 s), so nothing on the way to the first `tools/list` may.
"""

from providers.storage import tables
from providers.storage.engine import Storage, StorageError, StorageUnsure

__all__ = ["Storage", "StorageError", "StorageUnsure", "tables"]
