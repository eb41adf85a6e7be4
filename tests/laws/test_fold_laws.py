"""Folding changes together equals folding them one after the other, in memory and on Postgres."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from fixtures.postgres import Database
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest_store_suite import NOW_MS, OTHER_LINEAGE, Events, Rig
from test_memory_ingest_store import MemoryRig
from test_postgres_ingest_store import PostgresRig

from daemon.ingest.change import Change, Kind

KEYS = {
    "orders": ["1", "2"],
    "refunds": ["3", "4"],
    "refund_lines": ["5", "6"],
    "notes": ["n"],
    "customers": ["8", "9"],
    "countries": ["DE"],
}


def columns(lots: random.Random, source: str) -> dict[str, Any]:
    """A full image, most of the time with its large column."""
    image: dict[str, Any] = {"v": lots.choice("abc")}
    match source:
        case "orders":
            image["customer_id"] = lots.choice([8, 9, None])
        case "refunds":
            image["order_id"] = lots.choice([1, 2, 2, None])
        case "refund_lines":
            image |= {"refund_id": lots.choice([3, 4]), "kind": lots.choice(["line", "line", "other"])}
        case "notes":
            image["refund_line_id"] = lots.choice([5, 6])
        case "customers":
            image["country"] = lots.choice(["DE", None])
    return image | ({"big": lots.choice("XYZ")} if lots.random() < 0.6 else {})


def changes(lots: random.Random, count: int) -> list[Change]:
    """Changes of few rows, with everything that makes coalescing hard: gaps, replays, placeholders, new keys."""
    events, made, position = Events(), [], 1000
    while len(made) < count:
        source = lots.choice(list(KEYS))
        key = lots.choice(KEYS[source])
        position += 10
        at = position - lots.choice([0, 0, 0, 0, 10, 20, 50])
        where: dict[str, Any] = {"position": (at,), "committed_ms": NOW_MS + at - lots.choice([0, 0, 0, 10])}
        nowhere: dict[str, Any] = {"position": None, "committed_ms": None, "lineage": None}
        lot = lots.random()
        if lot < 0.1:
            where = nowhere
        elif lot < 0.15:
            where["lineage"] = OTHER_LINEAGE
        image = columns(lots, source)
        unavailable = () if "big" in image else ("big",)
        lot = lots.random()
        if lot < 0.6:
            made.append(_upsert(events, source, key, image, unavailable=unavailable, **where))
        elif lot < 0.7 and len(KEYS[source]) > 1:
            old = next(other for other in KEYS[source] if other != key)
            made.append(events.change(source, old, kind=Kind.DELETE, new_key=key))
            made.append(_upsert(events, source, key, image, unavailable=unavailable, old_key=old))
        elif lot < 0.85:
            made.append(events.change(source, key, kind=Kind.DELETE, **where))
        else:
            made.append(events.change(source, key, kind=lots.choice([Kind.TOMBSTONE, Kind.UNKNOWN]), **nowhere))
    return made


def _upsert(events: Events, source: str, key: str, image: dict[str, Any], **rest: Any) -> Change:
    change = events.change(source, key, **rest)
    change.columns.update(image)
    return change


def outcome(rig: Rig) -> dict[tuple[str, str], Any]:
    """What a document could see: values and order of every live row whose values are known."""
    rows = {}
    for source, keys in KEYS.items():
        for key in keys:
            row = rig.row(source, key)
            if row is None or row.deleted:
                rows[source, key] = "gone"
            elif row.unknown == {"*"}:
                rows[source, key] = "unknown"
            else:
                rows[source, key] = (row.columns, row.unknown)
    return rows


def check(make: Callable[[], Rig], lots: random.Random) -> None:
    """The same changes one by one, and in batches cut anywhere."""
    all_changes = changes(lots, lots.randint(2, 16))
    single, batched = MemoryRig(), make()
    for change in all_changes:
        single.fold(change)
    rest = list(all_changes)
    while rest:
        size = lots.randint(1, len(rest))
        batched.fold(*rest[:size])
        del rest[:size]
    assert outcome(batched) == outcome(single)
    touched = {key for key, row in outcome(single).items() if key[0] == "orders" and row != "gone"}
    assert {key for _, key in touched} <= batched.revisions().keys()


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_batches_equal_single_changes_in_memory(lots: random.Random) -> None:
    """Wherever a batch is cut, the rows end the same."""
    check(MemoryRig, lots)


@pytest.mark.postgres
def test_batches_on_postgres_equal_single_changes_in_memory(database: Database) -> None:
    """The SQL and the memory store agree, batched and one by one."""
    with closing(PostgresRig(database)) as rig:

        @settings(max_examples=60, deadline=None)
        @given(st.randoms(use_true_random=False))
        def law(lots: random.Random) -> None:
            rig.empty()
            check(lambda: rig, lots)

        law()
