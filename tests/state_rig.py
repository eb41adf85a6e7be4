"""A state on Postgres that processes with different mappings start on, one after the other."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from fixtures.postgres import Database
from ingest_store_suite import NOW_MS, Events

from daemon.ingest.change import Change
from daemon.ingest.fold import Stager
from daemon.mapping.structure import Link, Role, Source, Structure, version_of
from daemon.state.ingest_store import Batch, Move, PostgresIngestStore, TopicPartition
from daemon.state.schedule import DebouncePolicy
from daemon.state.structure import claim_mapping, relink

POLICY = DebouncePolicy(timedelta(0), timedelta(0))


def structure(**sources: Source) -> Structure:
    """A structure of these sources with root `orders`."""
    return Structure("orders", MappingProxyType(sources), version_of("orders", sources))


def owner(source: str, target: str, column: str) -> Link:
    """A to-one step up."""
    return Link(f"{source}.{target}", source, target, (column,))


ORDERS = Source("orders", "t.orders", Role.ROOT, ("id",))
LINES = Source("lines", "t.lines", Role.OWNED, ("id",), owners=(owner("lines", "orders", "order_id"),))
TAXES = Source("taxes", "t.taxes", Role.OWNED, ("id",), owners=(owner("taxes", "lines", "line_id"),))
COUPONS = Source("coupons", "t.coupons", Role.SHARED, ("id",))
WITH_COUPONS = replace(ORDERS, refs=(owner("orders", "coupons", "coupon_id"),))


class State:
    """A state, a process's view of it, and a way to fold."""

    def __init__(self, database: Database) -> None:
        self.settings = database.settings
        self.look = database.connect()
        self.look.execute("set search_path to order_sync")
        self.look.execute("insert into destination (name, base_url, client_id) values ('a', 'http://x', 'c')")
        self.events = Events()
        self._stores: list[PostgresIngestStore] = []

    def start(self, version: str, given: Structure, *, by_hand: bool = False) -> PostgresIngestStore:
        """What a process does before its loops."""
        claim_mapping(self.settings, version, given, by_hand=by_hand)
        store = PostgresIngestStore(self.settings, POLICY, version)
        self._stores.append(store)
        store.open(given, ["a"])
        relink(store, self.settings, given, lambda: False)
        return store

    def fold(self, store: PostgresIngestStore, given: Structure, *changes: Change) -> None:
        """One batch."""
        for change in changes:
            partition = TopicPartition(change.message.topic, "one", change.message.partition)
            at = store.positions([partition])[partition]
            rounds = Stager(given).stage([(at.origin, change)], NOW_MS - 3_600_000)
            store.fold(Batch(rounds, [], [Move(at.origin, at.next_offset, change.message.offset + 1)]))

    def all(self, statement: str) -> list[Any]:
        """All rows of a statement."""
        return self.look.execute(statement).fetchall()

    def settle(self) -> None:
        """As if every order had been sent."""
        self.look.execute("update order_sync set settled_revision = revision")

    def owed(self) -> set[str]:
        """The orders that are due."""
        return {key for (key,) in self.all("select order_key from order_sync where revision > settled_revision")}

    def close(self) -> None:
        for store in self._stores:
            store.close()
        self.look.close()
