"""What the commands change by an operator's hand. Each leaves a row in `operator_action`: who, what, how many."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from statistics import fmean

from daemon.errors import DestinationError, SettingsError
from daemon.settings import Postgres
from daemon.state.database import Cursor, connect, transaction
from daemon.state.migrate import check_schema
from daemon.state.queries import queries
from daemon.state.schedule import Lane

_SQL = queries("mend.sql")
_PAGE_SQL = queries("delivery.sql")["owe_page"]

PAGE = 1000  # orders marked in one transaction


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


@dataclass(frozen=True, slots=True)
class Extent:
    """What a destination has: records, orders that were ever accepted, and the mean size of their documents."""

    records: int
    accepted: int
    document_bytes: float


def registered(cursor: Cursor, names: Collection[str]) -> dict[str, int]:
    """The numbers of these destinations. Raises DestinationError for one that no daemon has started with yet."""
    cursor.execute(_SQL["destinations"], {"names": list(names)})
    found = {name: number for number, name in cursor.fetchall()}
    if unknown := sorted(set(names) - found.keys()):
        raise DestinationError(
            f"destinations.{unknown[0]}: the state does not know it yet; start the daemon with it first"
        )
    return found


def extents(settings: Postgres, names: Collection[str]) -> dict[str, Extent]:
    """What each of these destinations has, for a forecast."""
    found = {}
    with connect(settings) as connection, transaction(connection, settings) as cursor:
        check_schema(cursor, settings.schema_name)
        for name, number in registered(cursor, names).items():
            cursor.execute(_SQL["accepted_orders"], {"destination": number})
            [(records, accepted, bodies)] = cursor.fetchall()
            sizes = [len(zlib.decompress(body)) for body in bodies]
            found[name] = Extent(records, accepted, fmean(sizes) if sizes else 0.0)
    return found


def check_in_force(settings: Postgres, mapping_version: str) -> None:
    """Raises SettingsError where delivery assembles by another mapping than this one."""
    with connect(settings) as connection, transaction(connection, settings) as cursor:
        check_schema(cursor, settings.schema_name)
        cursor.execute(_SQL["mapping_in_force"])
        [(version,)] = cursor.fetchall()
    if version != mapping_version:
        was = f"mapping {version[:12]} is in force" if version else "no mapping is in force yet"
        raise SettingsError(
            f"{was}, the file here is {mapping_version[:12]}: orders would not be assembled by it; "
            "start the daemon with it, or run `order-sync migrate`, first"
        )


def resend_accepted(
    settings: Postgres, names: Collection[str], who: str, *, forced: bool, moved: Callable[[int], None]
) -> dict[str, int]:
    """Owe all orders that were ever accepted anew, in the backfill lane; how many, by destination.

    `forced`: whatever was accepted; else an order whose document comes out unchanged costs no request. A page is a
    transaction; `moved` is told how many records each one looked at. Orders in quarantine stay there.
    """
    arguments = json.dumps({"forced": forced, "destinations": sorted(names)})
    counts: dict[str, int] = {}
    with connect(settings) as connection:
        with transaction(connection, settings) as cursor:
            check_schema(cursor, settings.schema_name)
            numbers = registered(cursor, names)
            cursor.execute(_SQL["begin_action"], {"who": who, "command": "resend", "arguments": arguments})
            [(action,)] = cursor.fetchall()
        for name, number in numbers.items():
            counts[name] = 0
            page = {"destination": number, "forced": forced, "mapping_version": None, "limit": PAGE}
            after: str | None = ""
            while after is not None:
                with transaction(connection, settings) as cursor:
                    cursor.execute(_PAGE_SQL, {**page, "after": after})
                    [(after, looked_at, owed)] = cursor.fetchall()
                    cursor.execute(_SQL["count_action"], {"action": action, "affected": owed})
                counts[name] += owed
                moved(looked_at)
    return counts


class Marking:
    """Orders of one destination that are owed anew page by page, whatever was accepted, in the backfill lane.

    All pages are one action. Nothing is written before the first.
    """

    def __init__(self, settings: Postgres, name: str, who: str, command: str, arguments: object) -> None:
        self._settings = settings
        self._name = name
        self._action = {"who": who, "command": command, "arguments": json.dumps(arguments)}
        self._number: int | None = None
        self.marked = 0

    def page(self, keys: Collection[str]) -> None:
        """Mark these; they are all known."""
        with connect(self._settings) as connection, transaction(connection, self._settings) as cursor:
            if self._number is None:
                cursor.execute(_SQL["begin_action"], self._action)
                [(self._number,)] = cursor.fetchall()
            [destination] = registered(cursor, [self._name]).values()
            locked = {"destinations": [destination] * len(keys), "order_keys": sorted(keys), "lane": int(Lane.BACKFILL)}
            cursor.execute(_SQL["lock_named"], {"destinations": [destination], "orders": locked["order_keys"]})
            cursor.execute(_SQL["force_orders"], locked)
            cursor.execute(_SQL["count_action"], {"action": self._number, "affected": cursor.rowcount})
        self.marked += len(keys)


def force_orders(
    settings: Postgres,
    names: Collection[str],
    orders: Collection[str],
    who: str,
) -> dict[str, list[str]]:
    """Owe these orders (order keys or vendor ids) anew and at once, whatever was accepted; their keys, by destination.

    Raises SettingsError, having changed nothing, for one that none of the destinations knows.
    """
    named = list(orders)
    with connect(settings) as connection, transaction(connection, settings) as cursor:
        check_schema(cursor, settings.schema_name)
        numbers = registered(cursor, names)
        cursor.execute(_SQL["lock_named"], {"destinations": list(numbers.values()), "orders": named})
        found = cursor.fetchall()
        known = {name for _, key, vendor_id in found for name in (key, vendor_id)}
        if unknown := [order for order in named if order not in known]:
            more = f" and {len(unknown) - 1} others" if unknown[1:] else ""
            raise SettingsError(
                f"order {unknown[0]}{more}: no destination asked for has a record of it; nothing was changed. "
                f"`order-sync show {unknown[0]}` says what is known"
            )
        keys = [key for _, key, _ in found]
        locked = {"destinations": [number for number, _, _ in found], "order_keys": keys, "lane": int(Lane.LIVE)}
        cursor.execute(_SQL["force_orders"], locked)
        arguments = json.dumps({"orders": named[:1000], "destinations": sorted(names)})
        action = {"who": who, "command": "resend", "arguments": arguments, "affected": len(keys)}
        cursor.execute(_SQL["record_action"], action)
    return {name: [key for at, key, _ in found if at == number] for name, number in numbers.items()}
