"""The tables. Instants are seconds of the epoch, which every database keeps without a zone to lose.

Portable on purpose: no type, default or constraint that SQLite and PostgreSQL do not share. A change here needs a
migration (`migrations/versions`) and a new `HEAD`.
"""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, MetaData, String, Table, Text, text

HEAD = "0008"

ID = 1400
"""How long a service's own id may be, as PostgreSQL counts: Google's have up to 1024 characters, and seats more."""

ACCOUNT = 64
"""How long the name is that an account's rows are kept under: with whose it is, where each caller has one's own."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(column_0_N_label)s",
    }
)

accounts = Table(
    "accounts",
    metadata,
    Column("name", String(ACCOUNT), primary_key=True),
    # Every change of an account's rows raises this in the same transaction. Its row is the lock that puts writers in
    # a queue, and its value tells readers whether what they remember still holds.
    Column("revision", BigInteger, nullable=False),
)

event_types = Table(
    "event_types",
    metadata,
    Column("account", String(ACCOUNT), primary_key=True),
    Column("id", String(100), primary_key=True),
    Column("slug", String(100), nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("data", JSON, nullable=False),
)
Index(
    "ux_event_types_live_slug",
    event_types.c.account,
    event_types.c.slug,
    unique=True,
    sqlite_where=text("NOT deleted"),
    postgresql_where=text("NOT deleted"),
)

schedules = Table(
    "schedules",
    metadata,
    Column("account", String(ACCOUNT), primary_key=True),
    Column("id", String(100), primary_key=True),
    Column("data", JSON, nullable=False),
    # What the configuration said when it was last applied; a change of the file is applied anew.
    Column("configured", JSON, nullable=False),
)

bookings = Table(
    "bookings",
    metadata,
    Column("account", String(ACCOUNT), primary_key=True),
    Column("id", String(100), primary_key=True),
    Column("event_type_id", String(100), nullable=False),
    Column("live", Boolean, nullable=False),
    Column("starts", BigInteger, nullable=False),
    Column("ends", BigInteger, nullable=False),
    # With buffers.
    Column("blocks_from", BigInteger, nullable=False),
    Column("blocks_until", BigInteger, nullable=False),
    Column("attendee_email", String(320), nullable=False),
    Column("marker", String(64), nullable=False),
    Column("data", JSON, nullable=False),
)
Index("ix_bookings_starts", bookings.c.account, bookings.c.starts)
Index("ix_bookings_blocks", bookings.c.account, bookings.c.live, bookings.c.blocks_until)
# One write, one booking; and no two live bookings begin together, whatever the code above believes.
Index("ux_bookings_marker", bookings.c.account, bookings.c.marker, unique=True)
Index(
    "ux_bookings_live_start",
    bookings.c.account,
    bookings.c.starts,
    unique=True,
    sqlite_where=text("live"),
    postgresql_where=text("live"),
)

journal = Table(
    "journal",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("caller", String(200), nullable=False),
    Column("account", String(ACCOUNT), nullable=False),
    Column("tool", String(64), nullable=False),
    # What makes two requests the same one. Only one row may hold it; a row that no longer stands for it lets go.
    Column("claim", String(64), nullable=True, unique=True),
    Column("digest", String(64), nullable=False),
    # Whose booking it is, as a digest, to count them by.
    Column("attendee", String(64), nullable=True),
    Column("outcome", String(16), nullable=False),
    Column("reference", String(ID), nullable=True),
    # The row of the move that this is a step of.
    Column("parent", String(64), nullable=True),
    # What it takes to find out what came of it; gone when that is known.
    Column("kept", JSON(none_as_null=True), nullable=True),
    Column("tries", BigInteger, nullable=False, server_default="0"),
    Column("error", String(32), nullable=True),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
)
Index("ix_journal_updated", journal.c.updated)
Index("ix_journal_made", journal.c.account, journal.c.tool, journal.c.created)
Index("ix_journal_attendee", journal.c.attendee, journal.c.created)
Index("ix_journal_caller", journal.c.caller, journal.c.created)
Index("ix_journal_outcome", journal.c.outcome, journal.c.updated)

# Bookings that were moved by booking anew: what an earlier id stands for now.
moves = Table(
    "moves",
    metadata,
    Column("account", String(ACCOUNT), primary_key=True),
    Column("old_id", String(ID), primary_key=True),
    Column("new_id", String(ID), nullable=False),
    Column("created", BigInteger, nullable=False),
)
Index("ix_moves_new", moves.c.account, moves.c.new_id)

# What is known of events whose service has no field for it: properties that only we see, and, of those that were called
# off, the event as it was last. By the marker of ours, by the id of others.
kept_events = Table(
    "kept_events",
    metadata,
    Column("account", String(ACCOUNT), primary_key=True),
    Column("id", String(ID), primary_key=True),
    Column("private", JSON, nullable=False),
    Column("cancelled", JSON(none_as_null=True), nullable=True),
)

# Links to a page of ours where guests book. The id is the hash of what the link has in it: no row makes a link.
links = Table(
    "links",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("account", String(ACCOUNT), nullable=False),
    Column("event_type_id", String(ID), nullable=False),
    Column("single_use", Boolean, nullable=False),
    # Who made it.
    Column("caller", String(200), nullable=False, server_default="local"),
    Column("created", BigInteger, nullable=False),
    Column("used", BigInteger, nullable=True),
    Column("used_by", String(64), nullable=True),
    Column("revoked", BigInteger, nullable=True),
)

# What a guest's own link leads to, by the hash of what it has in it.
guests = Table(
    "guests",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("link", String(64), nullable=False),
    Column("account", String(ACCOUNT), nullable=False),
    Column("booking_id", String(ID), nullable=False),
    Column("time_zone", String(64), nullable=False),
    Column("created", BigInteger, nullable=False),
)
Index("ix_guests_link", guests.c.link, guests.c.created)

# What must stay secret (`providers.vault`), encrypted. Names are hashes: some are secrets themselves.
vault = Table(
    "vault",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("data", Text, nullable=False),
    Column("expires", BigInteger, nullable=True),
    Column("updated", BigInteger, nullable=False),
)

# Who may do something alone, and until when if they never say that they are done.
leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(32), nullable=False),
    Column("until", BigInteger, nullable=False),
)

# The keys that let a client in. The id is the hash of the key: no row makes one.
keys = Table(
    "keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("policy", String(64), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=True),
    Column("revoked", BigInteger, nullable=True),
)

# Who did what: lines in chains, one a process, each with the hash of the one before.
audit = Table(
    "audit",
    metadata,
    Column("chain", String(32), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("line", Text, nullable=False),
)
Index("ix_audit_at", audit.c.at)
