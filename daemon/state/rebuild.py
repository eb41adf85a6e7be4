"""Reading sources anew in place, by generations, and what a newer generation has not shown: ghosts.

The mirror is never emptied: rows of the older generation stay until a change of the newer one replaces them, whatever
the stale rule would say. Delivery is held until all that Kafka had when the rebuild began is folded. Order records
stay, so an order whose document comes out as before is not sent again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from daemon.errors import StateContended
from daemon.mapping.structure import Structure
from daemon.settings import Postgres
from daemon.state.database import Cursor, connect, transaction
from daemon.state.ingest_store import PostgresIngestStore, TopicPartition
from daemon.state.migrate import check_schema
from daemon.state.queries import queries

_SQL = queries("rebuild.sql")

SWEEP_PAGE = 1000
CONTENTIONS = 5  # how often a page that gave way to a fold is tried again


@dataclass(frozen=True, slots=True)
class Extent:
    """What Kafka has of a partition when a rebuild begins: its first offset and its end; how long it keeps deletes."""

    start: int
    end: int
    keeps_deletes_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """One partition that is read anew: `done` of `target` offsets, `secs` since the rebuild began."""

    topic: str
    partition: int
    done: int
    target: int
    secs: float
    halted: str | None


@dataclass(frozen=True, slots=True)
class Ghost:
    """A row that is in the mirror and was not met since its source's generation was raised."""

    source: str
    key: str
    order: str | None


def begin(
    settings: Postgres, structure: Structure, sources: Sequence[str], extents: Mapping[TopicPartition, Extent], who: str
) -> dict[str, int]:
    """Raise the generation of these sources and read their topics from the beginning. Returns the new generations.

    `extents` names every partition of their topics. They are read from the offset that is their first one now: what
    Kafka deletes before it is read is a gap. A consumer that runs meets it by its positions.
    """
    partitions = list(extents)
    arrays = {
        "topics": [p.topic for p in partitions],
        "topic_ids": [p.topic_id for p in partitions],
        "partitions": [p.partition for p in partitions],
        "starts": [extent.start for extent in extents.values()],
        "targets": [extent.end for extent in extents.values()],
        "keeps": [extent.keeps_deletes_ms for extent in extents.values()],
    }
    with connect(settings) as connection, transaction(connection, settings) as cursor:
        check_schema(cursor, settings.schema_name)
        cursor.execute(
            _SQL["forget_older_incarnations"], {"topics": arrays["topics"], "topic_ids": arrays["topic_ids"]}
        )
        cursor.execute(_SQL["register_origins_of"], arrays)
        cursor.execute(_SQL["register_positions_of"], arrays)
        cursor.execute(_SQL["lock_positions_of"], {"topics": arrays["topics"]})
        cursor.execute(_SQL["note_late_reads"], arrays)
        generations = _raise(cursor, structure, sources, {"sources": sorted(sources)}, who)
        cursor.execute(
            _SQL["forget_older_incarnations"], {"topics": arrays["topics"], "topic_ids": arrays["topic_ids"]}
        )
        cursor.execute(_SQL["restart_positions"], arrays)
        return generations


def begin_by_snapshot(settings: Postgres, structure: Structure, sources: Sequence[str], who: str) -> dict[str, int]:
    """Raise the generation of these sources and read on where they stand: a new snapshot will show every row."""
    with connect(settings) as connection, transaction(connection, settings) as cursor:
        check_schema(cursor, settings.schema_name)
        return _raise(cursor, structure, sources, {"sources": sorted(sources), "by_snapshot": True}, who)


def _raise(
    cursor: Cursor, structure: Structure, sources: Sequence[str], arguments: dict[str, Any], who: str
) -> dict[str, int]:
    names = sorted(sources)
    cursor.execute(queries("ingest.sql")["register_sources"], {"names": names})
    cursor.execute(
        _SQL["raise_generation"],
        {
            "names": names,
            "topics": [structure.sources[name].topic for name in names],
            "keys": [structure.sources[name].key_version() for name in names],
            "values": [structure.sources[name].values_version() for name in names],
        },
    )
    generations: dict[str, int] = dict(cursor.fetchall())
    action = {"who": who, "command": "rebuild", "arguments": orjson.dumps(arguments).decode(), "affected": len(names)}
    cursor.execute(_SQL["record_action"], action)
    return generations


def progress(settings: Postgres) -> list[Progress]:
    """The partitions that a rebuild still reads; none where there is none, or it is done."""
    with connect(settings) as connection, transaction(connection, settings) as cursor:
        check_schema(cursor, settings.schema_name)
        cursor.execute(_SQL["progress"])
        return [Progress(*row) for row in cursor.fetchall()]


def count_ghosts(settings: Postgres, sources: Sequence[str] | None) -> dict[str, tuple[int, int]]:
    """(rows, orders) of each source that has ghosts. Reads the mirror whole."""
    with connect(settings) as connection, transaction(connection, settings) as cursor:
        check_schema(cursor, settings.schema_name)
        cursor.execute(_SQL["count_ghosts"], {"names": sources and list(sources)})
        return {name: (rows, orders) for name, rows, orders in cursor.fetchall()}


def ghosts(
    settings: Postgres, sources: Sequence[str] | None, limit: int, after: tuple[str, str] = ("", "")
) -> list[Ghost]:
    """A page of ghosts by source and key."""
    with connect(settings) as connection, transaction(connection, settings) as cursor:
        check_schema(cursor, settings.schema_name)
        cursor.execute(
            _SQL["ghosts"],
            {
                "names": sources and list(sources),
                "after_source": after[0],
                "after_key": after[1],
                "limit": limit,
            },
        )
        return [Ghost(*row) for row in cursor.fetchall()]


def sweep(store: PostgresIngestStore, settings: Postgres, sources: Sequence[str], who: str) -> tuple[int, int]:
    """Delete the ghosts of these sources as deletes from the OMS would; (rows, order marks). `store` is open."""
    rows = orders = 0
    for source in sorted(sources):
        after = (source, "")
        while page := ghosts(settings, [source], SWEEP_PAGE, after):
            after = (source, page[-1].key)
            gone, touched = _sweep_page(store, source, [ghost.key for ghost in page])
            rows, orders = rows + gone, orders + touched
            store.record_action(who, "ghosts sweep", {"source": source}, gone)
    return rows, orders


def _sweep_page(store: PostgresIngestStore, source: str, keys: Sequence[str]) -> tuple[int, int]:
    for _ in range(CONTENTIONS):
        try:
            return store.sweep(source, keys)
        except StateContended:
            continue  # a fold showed one of these rows again: it is no ghost then
    return store.sweep(source, keys)
