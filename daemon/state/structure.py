"""Which structure of the mapping the mirrored rows were folded under."""

from __future__ import annotations

from daemon.errors import SchemaError
from daemon.mapping.structure import Structure
from daemon.settings import Postgres
from daemon.state.database import connect, transaction
from daemon.state.queries import queries

_SQL = queries("ingest.sql")


def claim_structure(settings: Postgres, structure: Structure) -> None:
    """Make this the structure of an empty state. Raises SchemaError where the state was folded under another one.

    Rows keep what the structure said when they were folded (values by type, the order they belong to, what they look
    up); under another structure orders would silently lack parts.
    """
    with connect(settings) as connection, transaction(connection, settings) as cursor:
        cursor.execute(_SQL["claim_structure"], {"version": structure.version})
        cursor.execute(_SQL["read_structure"])
        row = cursor.fetchone()
    if row is not None and row[0] != structure.version:
        raise SchemaError(
            f"mapping: its sources, keys, types or relations differ from those under which schema "
            f"{settings.schema_name} was filled (since {row[1]:%Y-%m-%d %H:%M}); give the new one a state of its own: "
            f"set postgres.schema_name and kafka.group_id to new names and run `order-sync migrate`, and it reads the "
            f"topics from their beginning. Changes of expressions and of the document need nothing"
        )
