"""What the commands change by an operator's hand. Each leaves a row in `operator_action`: who, what, how many."""

from __future__ import annotations

import json
from collections.abc import Sequence

from daemon.settings import Postgres
from daemon.state.database import connect, transaction
from daemon.state.migrate import check_schema
from daemon.state.queries import queries

_SQL = queries("mend.sql")


def retry_quarantined(settings: Postgres, orders: Sequence[str] | None, who: str) -> list[str]:
    """Release these quarantined orders (order keys or vendor ids; None: all) to be sent anew. Returns their order keys.

    An order that is not quarantined is passed over. Raises StateUnavailable, and SchemaError before `migrate`.
    """
    named = None if orders is None else list(orders)
    with connect(settings) as connection, transaction(connection, settings) as cursor:
        check_schema(cursor, settings.schema_name)
        cursor.execute(_SQL["lock_quarantined"], {"orders": named})
        found = cursor.fetchall()
        destinations, keys = [row[0] for row in found], [row[1] for row in found]
        cursor.execute(_SQL["retry_quarantined"], {"destinations": destinations, "order_keys": keys})
        arguments = json.dumps({"all": True} if named is None else {"orders": named})
        action = {"who": who, "command": "quarantine retry", "arguments": arguments, "affected": len(keys)}
        cursor.execute(_SQL["record_action"], action)
    return keys
