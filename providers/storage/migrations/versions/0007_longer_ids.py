"""Services' own ids may be longer than PostgreSQL let them be."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

COLUMNS = {
    "journal": ["reference"],
    "moves": ["old_id", "new_id"],
    "kept_events": ["id"],
    "links": ["event_type_id"],
    "guests": ["booking_id"],
}


def upgrade() -> None:
    for table, columns in COLUMNS.items():
        with op.batch_alter_table(table) as batch:
            for column in columns:
                batch.alter_column(column, existing_type=sa.String(300), type_=sa.String(1400))
