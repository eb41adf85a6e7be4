"""The ingest store on Postgres keeps the contract, on the newest and on an old server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from fixtures.postgres import Database
from ingest_store_suite import STRUCTURE, IngestStoreSuite, Rig, Seen, topics  # noqa: F401 - a fixture

from daemon.state.ingest_store import PostgresIngestStore
from daemon.state.schedule import DebouncePolicy, Lane

POLICY = DebouncePolicy(timedelta(seconds=10), timedelta(seconds=60))


class PostgresRig(Rig):
    def __init__(self, database: Database) -> None:
        super().__init__(PostgresIngestStore(database.settings, POLICY))
        self.look = database.connect()
        self.look.execute("set search_path to order_sync")
        self.look.execute("insert into destination (name, base_url, client_id) values ('a', 'http://x', 'c')")
        self.store.open(STRUCTURE, ["a"])

    def row(self, source: str, key: str) -> Seen | None:
        found = self.look.execute(
            "select r.columns, coalesce(r.unknown, '{}'), r.deleted, r.root, r.first_seen"
            " from source_row r join source s on s.id = r.source where s.name = %s and r.key = %s",
            [source, key],
        ).fetchone()
        return found and Seen(found[0], frozenset(found[1]), *found[2:])

    def revisions(self) -> dict[str, int]:
        return dict(self.look.execute("select order_key, revision from order_sync").fetchall())

    def lanes(self) -> dict[str, Lane]:
        return {key: Lane(lane) for key, lane in self.look.execute("select order_key, lane from order_sync").fetchall()}


@pytest.mark.postgres
class TestPostgresIngestStore(IngestStoreSuite):
    @pytest.fixture
    def rig(self, database: Database) -> Iterator[Rig]:
        rig = PostgresRig(database)
        yield rig
        rig.store.close()
        rig.look.close()
