"""How the fold's statements are carried out in a state of which the planner knows nothing."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import psycopg
import pytest
from fixtures.postgres import Database

from daemon.state.queries import queries

pytestmark = pytest.mark.postgres

ROWS, BATCH = 6000, 300

# Orders; shared rows below orders; rows below those that wait for each other's values.
MANY_ROWS = """
insert into source_row (source, key, root, parent, refs, deleted, awaits, unknown, columns, origin, "offset")
select 1, i::text, i::text, null::text, array[mod(i, 500)]::bigint[], false, null::text[], null::text[],
       '{"_": 2}'::jsonb, 1, i
from generate_series(1, %(rows)s) i
union all select 2, i::text, null, 'o' || i, array[i]::bigint[], false, null, null, '{}', 1, i
from generate_series(1, %(rows)s) i
union all select 3, i::text, i::text, 'l' || i, null, mod(i, 2) = 0, array[i::text, i::text], '{a}', '{}', 1, i
from generate_series(1, %(rows)s) i
"""


def test_a_state_that_was_never_analyzed_is_not_joined_row_by_row(database: Database) -> None:
    """While a first snapshot is read, the planner knows nothing of many rows. No statement may meet each of them for
    each one of its batch; to meet each once is well where they are as few as here.
    """
    keys = [str(number) for number in range(3001, 3001 + BATCH)]
    hashes = list(range(50))
    rows: dict[str, Any] = {"source": [3] * BATCH, "key": keys}
    many: dict[str, Any] = {"sources": [3] * BATCH, "keys": keys, "new_keys": [str(int(key) + 1000) for key in keys]}
    due: dict[str, Any] = {"destinations": [1], "quiet": "1s", "max_wait": "2s"}
    nulls, bodies = [None] * BATCH, [b"x"] * BATCH
    ingest = {
        "key_changes_awaited": rows | {"new_key": keys},
        "hand_over_values": {"source": 3, "key": "3001", "new_key": "3001"},
        "resolve_roots": rows | {"owner": [1] * BATCH, "prefix": ["l"] * BATCH},
        "resolve_children": rows | {"child": [3] * BATCH, "source": [1] * BATCH, "prefix": ["l"] * BATCH},
        "parents": rows,
        "relink_rows": rows | {"source": 3, "root": nulls, "parent": keys, "refs": nulls},
        "shared_that_look_up": {"hashes": hashes},
        "mark_orders_that_look_up": due
        | {"hashes": hashes, "touched": keys, "mass": 100, "lane": 0, "committed": None},
        "mark_orders": due | {"order_key": keys, "lane": [0] * BATCH, "committed": nulls},
    }
    erase = {
        "erased_orders": {"root": 1, "keys": keys, "mark": "_"},
        "rows_of": many,
        "rows_at": many,
        "rows_below": many | {"parents": ["l" + key for key in keys]},
        "rows_that_look_up": {"hashes": hashes},
        "looked_up_by_others": {"hashes": hashes, "root": 1, "orders": keys, "mark": "_"}
        | {"own_sources": [3] * BATCH, "own_keys": keys},
        "drop_rows": many,
        "write_rows": many
        | {"columns": ["{}"] * BATCH, "parents": keys, "refs": nulls, "new_keys": ["x" + key for key in keys]},
        "lock_records": {"keys": keys},
        "erase_records": {
            "destinations": [1] * BATCH,
            "keys": keys,
            "attempted": bodies,
            "accepted": bodies,
            "clear": nulls,
        },
    }
    with closing(database.connect()) as connection:
        connection.execute("set search_path to order_sync")
        connection.execute("insert into destination (name, base_url, client_id) values ('a', 'http://x', 'c')")
        connection.execute("insert into source (name) values ('orders'), ('lines'), ('refunds')")
        connection.execute(MANY_ROWS, {"rows": ROWS})
        connection.execute(
            "insert into order_sync (destination, order_key, lane, last_change, due_at)"
            " select 1, i::text, 1, now(), now() from generate_series(1, %s) i",
            [ROWS],
        )
        for file, statements in {"ingest.sql": ingest, "erase.sql": erase}.items():
            for statement, parameters in statements.items():
                nodes = _plan(connection, queries(file)[statement], parameters)
                met = max(map(_met, nodes))
                assert 0 < met <= 3 * ROWS, (statement, met)


def _plan(connection: psycopg.Connection, statement: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes of the plan by which a statement was carried out; it changes nothing."""
    with connection.transaction(force_rollback=True):
        found = connection.execute("explain (analyze, format json) " + statement, parameters).fetchone()
    assert found is not None
    return _nodes(found[0][0]["Plan"])


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in _nodes(child))]


def _met(node: dict[str, Any]) -> float:
    """How many rows a node met, wanted or not."""
    removed = sum(node.get(f"Rows Removed by {by}", 0) for by in ("Filter", "Join Filter"))
    return float(node["Actual Loops"] * (node["Actual Rows"] + removed))
