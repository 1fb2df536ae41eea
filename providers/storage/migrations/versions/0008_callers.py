"""Keys, the audit, and names of accounts that say whose each is."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

ACCOUNTS = ("event_types", "schedules", "bookings", "journal", "moves", "kept_events", "links", "guests")


def upgrade() -> None:
    for table, column in (("accounts", "name"), *((table, "account") for table in ACCOUNTS)):
        with op.batch_alter_table(table) as batch:
            batch.alter_column(column, existing_type=sa.String(32), type_=sa.String(64))
    op.add_column("links", sa.Column("caller", sa.String(200), nullable=False, server_default="local"))
    op.create_index("ix_journal_caller", "journal", ["caller", "created"])
    op.create_table(
        "keys",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("policy", sa.String(64), nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=True),
        sa.Column("revoked", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.UniqueConstraint("name", name="uq_keys_name"),
    )
    op.create_table(
        "audit",
        sa.Column("chain", sa.String(32), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("line", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("chain", "number", name="pk_audit"),
    )
    op.create_index("ix_audit_at", "audit", ["at"])
