"""Accounts, event types, schedules, bookings and the journal."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_accounts"),
    )
    op.create_table(
        "event_types",
        sa.Column("account", sa.String(32), nullable=False),
        sa.Column("id", sa.String(100), nullable=False),
        sa.Column("slug", sa.String(100), nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("account", "id", name="pk_event_types"),
    )
    _unique("ux_event_types_live_slug", "event_types", ["account", "slug"], where="NOT deleted")
    op.create_table(
        "schedules",
        sa.Column("account", sa.String(32), nullable=False),
        sa.Column("id", sa.String(100), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Column("configured", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("account", "id", name="pk_schedules"),
    )
    op.create_table(
        "bookings",
        sa.Column("account", sa.String(32), nullable=False),
        sa.Column("id", sa.String(100), nullable=False),
        sa.Column("event_type_id", sa.String(100), nullable=False),
        sa.Column("live", sa.Boolean, nullable=False),
        sa.Column("starts", sa.BigInteger, nullable=False),
        sa.Column("ends", sa.BigInteger, nullable=False),
        sa.Column("blocks_from", sa.BigInteger, nullable=False),
        sa.Column("blocks_until", sa.BigInteger, nullable=False),
        sa.Column("attendee_email", sa.String(320), nullable=False),
        sa.Column("marker", sa.String(64), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("account", "id", name="pk_bookings"),
    )
    op.create_index("ix_bookings_starts", "bookings", ["account", "starts"])
    op.create_index("ix_bookings_blocks", "bookings", ["account", "live", "blocks_until"])
    op.create_index("ux_bookings_marker", "bookings", ["account", "marker"], unique=True)
    _unique("ux_bookings_live_start", "bookings", ["account", "starts"], where="live")
    op.create_table(
        "journal",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("caller", sa.String(200), nullable=False),
        sa.Column("account", sa.String(32), nullable=False),
        sa.Column("tool", sa.String(64), nullable=False),
        sa.Column("claim", sa.String(64), nullable=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("reference", sa.String(300), nullable=True),
        sa.Column("error", sa.String(32), nullable=True),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("updated", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_journal"),
        sa.UniqueConstraint("claim", name="uq_journal_claim"),
    )
    op.create_index("ix_journal_updated", "journal", ["updated"])


def _unique(name: str, table: str, columns: list[str], *, where: str) -> None:
    op.create_index(name, table, columns, unique=True, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
