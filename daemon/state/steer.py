"""How the commands steer delivery: pause, resume, ask for old orders, decide about guarded ones.

Each leaves a row in `operator_action`: who, what, how many. All raise StateUnavailable, SchemaError before `migrate`,
and DestinationError for a destination that no daemon has started with yet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from daemon.settings import Postgres
from daemon.state.database import Cursor, connect, transaction
from daemon.state.mend import registered
from daemon.state.migrate import check_schema
from daemon.state.queries import queries

_SQL = queries("steer.sql")
_RECORD = queries("mend.sql")["record_action"]


def pause(settings: Postgres, destinations: Sequence[str], who: str) -> list[str]:
    """Have these destinations send nothing. Returns those that were not paused before."""
    return _steer(settings, destinations, who, "pause", {})


def resume(settings: Postgres, destinations: Sequence[str], who: str) -> list[str]:
    """End the pause and the halt of these destinations. Returns those that were paused or halted."""
    return _steer(settings, destinations, who, "resume", {})


def ask_backfill(
    settings: Postgres, destinations: Sequence[str], since: datetime | None, until: datetime | None, who: str
) -> list[str]:
    """Ask for the orders placed since then, before `until`; None: without a bound. Returns the destinations."""
    placed = {"since": _moment(since, "-infinity"), "until": _moment(until, "infinity")}
    return _steer(settings, destinations, who, "backfill", placed)


def stop_backfill(settings: Postgres, destinations: Sequence[str], who: str) -> list[str]:
    """Ask for nothing of the backfill any more. Returns the destinations for which something had been asked."""
    return _steer(settings, destinations, who, "backfill --stop", {})


def release_guarded(
    settings: Postgres, orders: Sequence[str] | None, destinations: Sequence[str], who: str
) -> list[str]:
    """Let these guarded orders (order keys or vendor ids; None: all) go from a total to 0. Returns their order keys.

    An order that is not guarded is passed over.
    """
    return _decide(settings, orders, destinations, who, "release")


def discard_guarded(
    settings: Postgres, orders: Sequence[str] | None, destinations: Sequence[str], who: str
) -> list[str]:
    """Have the API keep what it has of these guarded orders until they change. Returns their order keys."""
    return _decide(settings, orders, destinations, who, "discard")


def _decide(
    settings: Postgres, orders: Sequence[str] | None, destinations: Sequence[str], who: str, verb: str
) -> list[str]:
    def work(cursor: Cursor) -> list[str]:
        named = {"orders": None if orders is None else list(orders), "names": list(destinations)}
        cursor.execute(_SQL["lock_guarded"], named)
        found = cursor.fetchall()
        keys = [row[1] for row in found]
        cursor.execute(_SQL[f"{verb}_guarded"], {"destinations": [row[0] for row in found], "order_keys": keys})
        return keys

    which = {"all": True} if orders is None else {"orders": list(orders)}
    return _act(settings, destinations, who, f"guard {verb}", which, work)


def _steer(
    settings: Postgres, destinations: Sequence[str], who: str, command: str, placed: Mapping[str, str]
) -> list[str]:
    def work(cursor: Cursor) -> list[str]:
        cursor.execute(_SQL[command.replace(" --", "_")], {"names": list(destinations), **placed})
        return [row[0] for row in cursor.fetchall()]

    return _act(settings, destinations, who, command, placed, work)


def _act(
    settings: Postgres,
    destinations: Sequence[str],
    who: str,
    command: str,
    arguments: Mapping[str, Any],
    work: Callable[[Cursor], list[str]],
) -> list[str]:
    """Do it and write down that it was done, in one transaction."""
    with connect(settings) as connection, transaction(connection, settings) as cursor:
        check_schema(cursor, settings.schema_name)
        registered(cursor, destinations)
        done = work(cursor)
        given = json.dumps({**arguments, "destinations": list(destinations)})
        cursor.execute(_RECORD, {"who": who, "command": command, "arguments": given, "affected": len(done)})
    return done


def _moment(at: datetime | None, otherwise: str) -> str:
    return otherwise if at is None else at.isoformat()
