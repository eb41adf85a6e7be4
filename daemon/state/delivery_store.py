"""The delivery loop's state in Postgres: set-based statements of `delivery.sql`, one transaction a method.

Writes the delivery columns of order_sync, delivery_request, lease and destination. Of ingest's columns it moves
first_change and first_commit (see `reserve` and `settle`) and raises the revision in `reopen`, nothing else.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import psycopg
from psycopg_pool import AsyncConnectionPool

from daemon.errors import DestinationError, LeaseLost, Superseded
from daemon.mapping.rows import StoredRow, Wanted
from daemon.settings import Postgres
from daemon.state.database import AsyncCursor, Row, async_transaction, exact_json
from daemon.state.delivery_records import (
    Asked,
    Counts,
    Drift,
    DueOrder,
    Freshness,
    Gone,
    Hold,
    Holder,
    Judgement,
    Lease,
    LedgerEntry,
    OpenRequest,
    Outgoing,
    Parked,
    Placed,
    Settlement,
    Standing,
    array_bytes,
)
from daemon.state.era import Era, Server, carried_out_async, following, server_of_async, tell
from daemon.state.queries import queries

_SQL = queries("delivery.sql")


class PostgresDeliveryStore:
    """See `DeliveryState` for what each method promises."""

    def __init__(self, pool: AsyncConnectionPool[psycopg.AsyncConnection[Row]], settings: Postgres) -> None:
        self._pool = pool
        self._settings = settings
        self._server: Server | None = None
        self._connections = 0

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncCursor]:
        async with async_transaction(self._pool, self._settings) as cursor:
            yield cursor

    @asynccontextmanager
    async def _led(self, lease: Lease) -> AsyncIterator[AsyncCursor]:
        """A transaction that no take-over of the destination can overtake."""
        async with self._transaction() as cursor:
            await cursor.execute(_SQL["hold_lease"], _lease(lease))
            if await cursor.fetchone() is None:
                raise LeaseLost(f"another process delivers to destination {lease.destination} now")
            yield cursor

    @asynccontextmanager
    async def _led_under(self, lease: Lease, mapping_version: str) -> AsyncIterator[AsyncCursor]:
        """The same, for what follows from a mapping: only while that is in force."""
        async with self._led(lease) as cursor:
            await cursor.execute(_SQL["hold_mapping_in_force"])
            for (version,) in await cursor.fetchall():
                if version not in ("", mapping_version):
                    raise Superseded(f"mapping {version[:12]} is in force now, this process has {mapping_version[:12]}")
            yield cursor

    async def _all(self, name: str, **parameters: Any) -> list[Row]:
        async with self._transaction() as cursor:
            await cursor.execute(_SQL[name], parameters)
            return await cursor.fetchall()

    async def register(self, name: str, base_url: str, client_id: str) -> int:
        identity = {"name": name, "base_url": base_url, "client_id": client_id}
        async with self._transaction() as cursor:
            await cursor.execute(_SQL["register"], identity)
            await cursor.execute(_SQL["find_destination"], identity)
            known = await cursor.fetchall()
            check_identity(name, base_url, client_id, [(row[1], row[2], row[3]) for row in known])
            destination = int(known[0][0])
            await cursor.execute(_SQL["register_lease"], {"destination": destination})
            return destination

    async def take_lease(self, destination: int, holder: UUID, secs: float) -> Lease | None:
        rows = await self._all("take_lease", destination=destination, holder=holder, secs=secs)
        return Lease(destination, int(rows[0][0]), holder) if rows else None

    async def renew_lease(self, lease: Lease, secs: float) -> Lease:
        rows = await self._all("renew_lease", **_lease(lease), secs=secs)
        if not rows:
            raise LeaseLost(f"another process delivers to destination {lease.destination} now")
        return replace(lease, renewals=int(rows[0][0]))

    async def release_lease(self, lease: Lease) -> None:
        async with self._transaction() as cursor:
            await cursor.execute(_SQL["release_lease"], _lease(lease))

    async def inherit(self, lease: Lease, hold_secs: float) -> tuple[list[OpenRequest], list[LedgerEntry]]:
        destination = {"destination": lease.destination}
        async with self._led(lease) as cursor:
            await cursor.execute(_SQL["hold_inherited"], {**destination, "hold_secs": hold_secs})
            await cursor.execute(_SQL["open_requests"], destination)
            requests = [OpenRequest(row[0], row[1], row[2], tuple(row[3]), row[4]) for row in await cursor.fetchall()]
            await cursor.execute(_SQL["ledger"], destination)
            return requests, [LedgerEntry(*row) for row in await cursor.fetchall()]

    async def era(self) -> Era:
        connections = self._pool.get_stats().get("connections_num", 0)
        if self._server is None or connections != self._connections:
            # A server that was restored or took over is met by new connections.
            self._server, self._connections = await server_of_async(self._pool, self._settings), connections
        async with self._transaction() as cursor:
            era = await carried_out_async(cursor, following(self._server))
        tell(era)
        return era

    async def standing(self, destination: int) -> Standing:
        [row] = await self._all("standing", destination=destination)
        *known, since, until, reached = row
        return replace(Standing(*known), asked=None if since is None else Asked(Placed(since, until), reached))

    async def save_standing(self, lease: Lease, standing: Standing, *, was_halted: bool = False) -> None:
        async with self._led(lease) as cursor:
            await cursor.execute(
                _SQL["save_standing"],
                {
                    "destination": lease.destination,
                    "halted": standing.halted,
                    "was_halted": was_halted,
                    "pause_secs": standing.pause_secs,
                    "failures": standing.failures,
                    "largest_body": standing.largest_body,
                    "mapping_version": standing.mapping_version,
                },
            )

    async def due(self, destination: int, lane: int, limit: int, busy: Collection[str]) -> list[DueOrder]:
        rows = await self._all("due", destination=destination, lane=lane, limit=limit, busy=list(busy))
        return [_due(row) for row in rows]

    async def due_among(self, destination: int, keys: Collection[str]) -> list[DueOrder]:
        rows = await self._all("due_among", destination=destination, keys=list(keys))
        return [_due(row) for row in rows]

    async def rows_of(self, roots: Collection[str]) -> dict[str, list[StoredRow]]:
        found: dict[str, list[StoredRow]] = {root: [] for root in roots}
        for row in await self._all("rows_of", roots=list(roots)):
            found[row[2]].append(_stored_row(row))
        return found

    async def rows_at(self, wanted: Collection[Wanted]) -> list[StoredRow]:
        found: list[StoredRow] = []
        for below, statement in ((False, "rows_at"), (True, "rows_below")):
            names = [name for name in wanted if name.below is below]
            if names:
                sources, keys = [name.source for name in names], [name.key for name in names]
                found += [_stored_row(row) for row in await self._all(statement, sources=sources, keys=keys)]
        return found

    async def last_documents(self, destination: int, keys: Collection[str]) -> dict[str, bytes]:
        rows = await self._all("last_documents", destination=destination, keys=list(keys))
        return {row[0]: zlib.decompress(row[1]) for row in rows}

    async def holders(self, destination: int, vendor_ids: Collection[str], root_source: str) -> dict[str, Holder]:
        rows = await self._all("holders", destination=destination, vendor_ids=list(vendor_ids), root_source=root_source)
        return {row[1]: Holder(*row) for row in rows}

    async def next_request(self) -> int:
        return int((await self._all("next_request"))[0][0])

    async def reserve(
        self, lease: Lease, request: int, lane: int, orders: Sequence[Outgoing], mapping_version: str
    ) -> list[str]:
        async with self._led_under(lease, mapping_version) as cursor:
            await cursor.execute(
                _SQL["lock_outgoing"],
                {
                    "destination": lease.destination,
                    "keys": [order.key for order in orders],
                    "revisions": [order.revision for order in orders],
                    "vendor_ids": [order.vendor_order_id for order in orders],
                    "take_over": [order.take_over for order in orders],
                },
            )
            locked = {row[0] for row in await cursor.fetchall()}
            going = [order for order in orders if order.key in locked]
            if not going:
                return []
            values = {
                "request": request,
                "destination": lease.destination,
                "epoch": lease.epoch,
                "lane": lane,
                "bytes": array_bytes(order.body for order in going),
                "mapping_version": mapping_version,
                "keys": [order.key for order in going],
                "revisions": [order.revision for order in going],
                "read_at": [order.read_at for order in going],
                "vendor_ids": [order.vendor_order_id for order in going],
                "bodies": [zlib.compress(order.body, 1) for order in going],
                "placed_at": [order.placed_at for order in going],
                "body_bytes": [len(order.body) for order in going],
                "zeros": [order.zero for order in going],
                "zeroed": sum(order.zeroes for order in going),
                "clears": any(order.clears for order in going),
            }
            await cursor.execute(_SQL["write_request"], values)
            if await cursor.fetchone() is None:
                return []
            if taken := [order.take_over for order in going if order.take_over]:
                await cursor.execute(
                    _SQL["give_up_vendor_ids"], {"destination": lease.destination, "keys": sorted(taken)}
                )
            await cursor.execute(_SQL["put_in_flight"], values)
            return [order.key for order in going]

    async def settle(self, lease: Lease, settlement: Settlement) -> list[Freshness]:
        orders = settlement.orders
        request = {
            "request": settlement.request,
            "destination": lease.destination,
            "epoch": lease.epoch,
            "outcome": settlement.outcome,
            "status": settlement.status,
            "error": _storable(settlement.error),
            "counts_secs": settlement.counts_secs,
            "zeroed": settlement.zeroed,
        }
        async with self._led(lease) as cursor:
            await cursor.execute(_SQL["settle_request"], request)
            if await cursor.fetchone() is None:
                await cursor.execute(_SQL["forestall_request"], request)
                if await cursor.fetchone() is not None:
                    return []
                await cursor.execute(_SQL["settle_request"], request)
                if await cursor.fetchone() is None:
                    return []
            await cursor.execute(
                _SQL["settle_orders"],
                {
                    "destination": lease.destination,
                    "request": settlement.request,
                    "keys": [order.key for order in orders],
                    "fates": [order.fate.value for order in orders],
                    "digests": [order.digest for order in orders],
                    "attempted": [order.attempted_before for order in orders],
                    "voids": [order.void for order in orders],
                    "hold_secs": [order.hold_secs for order in orders],
                    "reasons": [order.reason for order in orders],
                    "details": [_storable(order.detail) for order in orders],
                    "zeroed_before": [order.zeroed_before for order in orders],
                    "clears": [order.clears for order in orders],
                },
            )
            return [Freshness(row[0], row[2], row[3]) for row in await cursor.fetchall() if row[1] == "accepted"]

    async def judge(self, lease: Lease, judgements: Iterable[Judgement], mapping_version: str) -> list[str]:
        given = list(judgements)
        async with self._led_under(lease, mapping_version) as cursor:
            await cursor.execute(
                _SQL["judge_orders"],
                {
                    "destination": lease.destination,
                    "mapping_version": mapping_version,
                    "keys": [one.key for one in given],
                    "revisions": [one.revision for one in given],
                    "settles": [one.settle for one in given],
                    "holds": [one.hold and one.hold.value for one in given],
                    "details": [_storable(one.detail) for one in given],
                    "recheck_secs": [one.recheck_secs for one in given],
                    "quarantines": [one.quarantine for one in given],
                    "attempts": [one.attempt for one in given],
                    "parked": [one.parked for one in given],
                    "placed_at": [one.placed_at for one in given],
                    "body_bytes": [one.body_bytes for one in given],
                    "zeros": [one.zero for one in given],
                },
            )
            return [row[0] for row in await cursor.fetchall()]

    async def reopen(self, destination: int, keys: Collection[str], hold_secs: float) -> None:
        async with self._transaction() as cursor:
            await cursor.execute(
                _SQL["reopen"], {"destination": destination, "keys": list(keys), "hold_secs": hold_secs}
            )

    async def release_quarantines(self, lease: Lease, mapping_version: str, limit: int) -> int:
        async with self._led(lease) as cursor:
            await cursor.execute(
                _SQL["release_quarantines"],
                {"destination": lease.destination, "mapping_version": mapping_version, "limit": limit},
            )
            return cursor.rowcount

    async def resend_changed(
        self, lease: Lease, mapping_version: str, after: str, limit: int
    ) -> tuple[str | None, int]:
        page = {"mapping_version": mapping_version, "after": after, "limit": limit, "forced": False}
        async with self._led_under(lease, mapping_version) as cursor:
            await cursor.execute(_SQL["owe_page"], {"destination": lease.destination, **page})
            [(last, _, owed)] = await cursor.fetchall()
            return last, owed

    async def drift(self, destination: int) -> Drift | None:
        for missing, extra, different, at in await self._all("drift", destination=destination):
            return Drift({"missing": missing, "extra": extra, "different": different}, at)
        return None

    async def release_parked(self, lease: Lease, hold: Hold, placed: Placed, limit: int) -> list[str]:
        page = {
            "destination": lease.destination,
            "hold": hold.value,
            "since": placed.since,
            "until": placed.until,
            "limit": limit,
        }
        async with self._led(lease) as cursor:
            await cursor.execute(_SQL["release_parked"], page)
            released = sorted(await cursor.fetchall())
            if released and hold is Hold.BACKFILL:
                await cursor.execute(_SQL["remember_reached"], {**page, "reached": released[-1][2]})
            return [row[1] for row in released]

    async def let_go(self, request_keep_secs: float, action_keep_secs: float) -> Gone:
        [(partitions,)] = await self._all("drop_old_requests", keep_secs=request_keep_secs)
        async with self._transaction() as cursor:
            await cursor.execute(_SQL["purge_actions"], {"keep_secs": action_keep_secs})
            return Gone(int(partitions), cursor.rowcount)

    async def counts(self, destination: int) -> Counts:
        orders = dict.fromkeys(("owed_live", "owed_backfill", "in_flight", "quarantined", "waiting"), 0)
        oldest: dict[int, float] = {}
        waits = 0.0
        for lane, in_flight, quarantined, waiting, owed, age, waited in await self._all(
            "counts", destination=destination
        ):
            orders["in_flight"] += in_flight
            orders["quarantined"] += quarantined
            orders["waiting"] += waiting
            orders["owed_backfill" if lane else "owed_live"] += owed
            oldest[lane] = max(age or 0.0, 0.0)
            waits = max(waits, waited or 0.0)
        [(orders["held"],)] = await self._all("count_held", destination=destination)
        [(orders["lost"],)] = await self._all("lost", destination=destination)
        [ages] = await self._all("hold_ages", destination=destination)
        named = zip(("paused", "halted", "gate"), ages, strict=True)
        return Counts(orders, oldest, {"waiting": waits, **{name: max(age or 0.0, 0.0) for name, age in named}})

    async def parked(self, destination: int) -> Mapping[Hold, Parked]:
        rows = await self._all("parked", destination=destination)
        return {Hold(hold): Parked(orders, size, max(age or 0.0, 0.0)) for hold, orders, size, age in rows}


def check_identity(name: str, base_url: str, client_id: str, known: Sequence[tuple[str, str, str]]) -> None:
    """Raises DestinationError unless `known` (name, base_url, client_id) is this pairing alone."""
    for other, url, client in known:
        if other == name and (url, client) != (base_url, client_id):
            raise DestinationError(
                f"destinations.{name}: this name stood for {url} with client_id {client} so far; what was sent there"
                f" is no guide for {base_url} with client_id {client_id}: give the new destination a new name"
            )
        if other != name:
            raise DestinationError(
                f"destinations.{name}: {base_url} with client_id {client_id} is known under the name {other}:"
                f" call it {other} again"
            )


def _lease(lease: Lease) -> dict[str, Any]:
    return {
        "destination": lease.destination,
        "epoch": lease.epoch,
        "holder": lease.holder,
        "renewals": lease.renewals,
    }


def _due(row: Row) -> DueOrder:
    *known, clear = row
    return replace(DueOrder(*known), clear=tuple(clear or ()))


def _stored_row(row: Row) -> StoredRow:
    source, key, root, columns, unknown, deleted, first_seen, parent = row
    return StoredRow(source, key, root, exact_json(columns), frozenset(unknown or ()), deleted, first_seen, parent)


def _storable(text: str | None) -> str | None:
    """What a vendor says may hold U+0000, which no text of Postgres does."""
    return text and text.replace("\x00", "\ufffd")
