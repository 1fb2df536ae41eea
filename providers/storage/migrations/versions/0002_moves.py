"""Moves by booking anew, and an index to count what was booked lately."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "moves",
        sa.Column("account", sa.String(32), nullable=False),
        sa.Column("old_id", sa.String(300), nullable=False),
        sa.Column("new_id", sa.String(300), nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("account", "old_id", name="pk_moves"),
    )
    op.create_index("ix_moves_new", "moves", ["account", "new_id"])
    op.create_index("ix_journal_made", "journal", ["account", "tool", "created"])
