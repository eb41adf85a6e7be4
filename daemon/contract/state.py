"""What order-sync's own role needs in the database of its state."""

from __future__ import annotations

from daemon.contract.part import Part
from daemon.contract.tables import Database, identifier

_PG = Database.POSTGRES


def state_part(*, database: str, role: str, schema: str) -> Part:
    """The grants, by the schema's owner. A role that may not create schemas is given an empty one."""
    name = identifier(role, _PG)
    return Part(
        "state",
        f"order-sync's own role owns one schema of its own database and nothing else; instead of the last statement "
        f"`grant create on database {identifier(database, _PG)} to {name}` lets `order-sync migrate` make it.",
        "sql",
        (
            f"create role {name} login;",
            f"grant connect on database {identifier(database, _PG)} to {name};",
            f"create schema {identifier(schema, _PG)} authorization {name};",
        ),
    )
