"""What the gateway keeps of events at a service that has no field for it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "kept_events",
        sa.Column("account", sa.String(32), nullable=False),
        sa.Column("id", sa.String(300), nullable=False),
        sa.Column("private", sa.JSON(), nullable=False),
        sa.Column("cancelled", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("account", "id", name="pk_kept_events"),
    )
