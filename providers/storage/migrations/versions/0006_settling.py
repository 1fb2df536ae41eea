"""What it takes to settle a write that nobody saw the end of, and to count an attendee's bookings."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("journal", sa.Column("attendee", sa.String(64), nullable=True))
    op.add_column("journal", sa.Column("parent", sa.String(64), nullable=True))
    op.add_column("journal", sa.Column("kept", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("journal", sa.Column("tries", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("ix_journal_attendee", "journal", ["attendee", "created"])
    op.create_index("ix_journal_outcome", "journal", ["outcome", "updated"])
