"""What order-sync's own role needs in the database of its state."""

from __future__ import annotations

from daemon.contract.part import Part
from daemon.contract.tables import Database, identifier

_PG = Database.POSTGRES

_ROWS = "select, insert, update, delete"


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


def run_time_part(*, role: str, schema: str) -> Part:
    """What a role that only runs the daemon and its commands needs in a schema that another role migrates."""
    name, within = identifier(role, _PG), identifier(schema, _PG)
    # (what there is, what is made later, right)
    rights = (("tables", _ROWS), ("sequences", "usage, select"), ("functions", "execute"))
    return Part(
        "run-time role",
        f"run this once, as the role that migrates; {name} may read and write rows then and change no table, now and "
        "after later migrations. The schema has to be there: create it, or migrate once.",
        "sql",
        (
            f"grant usage on schema {within} to {name};",
            *(f"grant {right} on all {kind} in schema {within} to {name};" for kind, right in rights),
            *(
                f"alter default privileges in schema {within} grant {right} on {kind} to {name};"
                for kind, right in rights
            ),
        ),
    )
