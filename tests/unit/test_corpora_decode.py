"""The decoder against real messages: a bare fold of each recording ends with what PostgreSQL held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import corpora_loader
import pytest
from corpora_loader import Corpus, Table, pg_text

from daemon.ingest.change import Change, Decoded, Kind, Reject, RejectReason, Skip, SkipReason
from daemon.ingest.debezium import Decoder
from daemon.mapping.keys import row_key

UNKNOWN = "a placeholder without an earlier value"
TRUNCATED_CARTS = 17


def decoded(corpus: Corpus, *, typed: bool | None = None) -> list[Decoded]:
    """Every message of the corpus's tables, decoded in file order."""
    decoder = Decoder(corpora_loader.structure_for(corpus, typed=typed))
    return [decoder.decode(message) for message in corpus.of_tables()]


def fold(changes: Iterable[Decoded]) -> dict[str, dict[str, dict[str, Any]]]:
    """Rows by source and key after applying the changes, leaving out what is older than the row."""
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    seen: dict[tuple[str, str], tuple[tuple[int, ...], int]] = {}
    for change in changes:
        if not isinstance(change, Change) or change.kind is Kind.TOMBSTONE:
            continue
        table = rows.setdefault(change.source, {})
        if change.position is not None and change.committed_ms is not None:
            stamp = (change.position, change.committed_ms)
            last = seen.get((change.source, change.key))
            if last is not None and stamp[0] <= last[0] and stamp[1] <= last[1] and stamp != last:
                continue
            seen[change.source, change.key] = stamp
        if change.kind is Kind.DELETE:
            table.pop(change.key, None)
            continue
        before = table.get(change.key) or table.get(change.old_key or "", {})
        table[change.key] = change.columns | {name: before.get(name, UNKNOWN) for name in change.unavailable}
    return rows


def in_pg_text(table: Table, row: dict[str, Any]) -> dict[str, str | None]:
    """A folded row as PostgreSQL would print it; a column never reported has its default."""
    return {name: pg_text(row.get(name, table.defaults[name]), text) for name, text in table.types.items()}


def truth(table: Table) -> dict[str, dict[str, str | None]]:
    """The table's rows by canonical key."""
    return {row_key([row[name] for name in table.pk]): dict(row) for row in table.rows}


@pytest.mark.parametrize("letter", ["a", "b", "c", "f", "g", "h", "i", "x"])
def test_a_fold_in_file_order_ends_with_what_postgres_held(letter: str) -> None:
    """Every row of every table, every column, exactly; but for the carts that a skipped TRUNCATE left."""
    corpus = corpora_loader.load(letter)
    rows = fold(decoded(corpus))
    for table in corpus.tables.values():
        got = {key: in_pg_text(table, row) for key, row in rows[table.name].items()}
        want = truth(table)
        left_over = got.keys() - want.keys()
        assert len(left_over) == (TRUNCATED_CARTS if table.name == "carts" else 0), table.name
        assert {key: got[key] for key in got if key in want} == want, table.name


def test_schemas_decide_without_any_declared_type() -> None:
    """Recording b decodes alike whether the mapping declares the columns' types or not."""
    corpus = corpora_loader.load("b")
    assert fold(decoded(corpus, typed=True)) == fold(decoded(corpus, typed=False))


def test_milliseconds_and_doubles_lose_only_what_the_connector_dropped() -> None:
    """Recording e equals the truth but for the digits behind the millisecond."""
    corpus = corpora_loader.load("e")
    rows = fold(decoded(corpus))
    for table in corpus.tables.values():
        want = truth(table)
        for key, row in rows[table.name].items():
            if key not in want:
                assert table.name == "carts"
                continue
            assert in_pg_text(table, row) == _to_millis(table, want[key])


def _to_millis(table: Table, row: dict[str, str | None]) -> dict[str, str | None]:
    cut = dict(row)
    for name, text in table.types.items():
        value = row[name]
        if value is not None and text.startswith("time") and text.endswith("without time zone") and "." in value:
            whole, fraction = value.split(".")
            cut[name] = f"{whole}.{fraction[:3]}".rstrip("0").rstrip(".")
    return cut


def test_lost_offsets_leave_exactly_the_listed_ghosts() -> None:
    """Recording j never reports some deletes: the rows that stay are the listed ones, all others are exact."""
    corpus = corpora_loader.load("j")
    rows = fold(decoded(corpus))
    ghosts: dict[str, set[str]] = {}
    for table in corpus.tables.values():
        got = {key: in_pg_text(table, row) for key, row in rows[table.name].items()}
        want = truth(table)
        assert {key: got[key] for key in got if key in want} == want, table.name
        if got.keys() - want.keys():
            ghosts[table.name] = set(got.keys() - want.keys())
    assert ghosts == corpora_loader.ghosts()


def test_impossible_message_keys_are_reported_and_do_no_harm() -> None:
    """In x every delete of an order line has a message key of zeros; the row is told by `before` all the same."""
    changes = decoded(corpora_loader.load("x"))
    odd = [change for change in changes if isinstance(change, Change) and change.oddity]
    deletes = [change for change in changes if isinstance(change, Change) and change.kind is Kind.DELETE]
    assert {change.oddity for change in odd} == {"impossible_message_key"}
    assert odd == [change for change in deletes if change.source == "order_lines"]
    assert len({change.key for change in odd}) == len(odd) > 0


def test_full_identity_makes_message_key_columns_possible() -> None:
    """In g the same message keys are real, so nothing is odd; their tombstones name no row and are skipped."""
    changes = decoded(corpora_loader.load("g"))
    assert not [change for change in changes if isinstance(change, Change) and change.oddity]
    skipped = Counter(change.reason for change in changes if isinstance(change, Skip))
    assert skipped.keys() == {SkipReason.TOMBSTONE_OF_OTHER_KEY}


def test_flattened_messages_are_rejected_with_the_cure() -> None:
    """Recording d holds plain rows: each is a reject that names the transform to remove, and the row it is about."""
    rejects = decoded(corpora_loader.load("d"))
    assert all(isinstance(reject, Reject) and reject.reason is RejectReason.NOT_DEBEZIUM for reject in rejects)
    assert all(isinstance(reject, Reject) and "remove that transform" in reject.detail for reject in rejects)
    assert all(isinstance(reject, Reject) and reject.key for reject in rejects)


def test_messages_about_no_row_are_skipped_wherever_they_land() -> None:
    """Heartbeats, transaction marks, logical messages and truncates of h, put on a mapped topic, are skips by name."""
    corpus = corpora_loader.load("h")
    decoder = Decoder(corpora_loader.structure_for(corpus))
    reasons = Counter()
    for message in corpus.messages:
        moved = type(message)("oms.public.orders", 0, 0, None, None, message.value, None)
        if not message.topic.startswith("oms.public.") or b'"op":"t"' in (message.value or b""):
            outcome = decoder.decode(moved)
            assert isinstance(outcome, Skip)
            reasons[outcome.reason] += 1
    assert reasons.keys() == {
        SkipReason.HEARTBEAT,
        SkipReason.TRANSACTION,
        SkipReason.LOGICAL_MESSAGE,
        SkipReason.TRUNCATE,
    }


def test_snapshot_rows_say_so_and_incremental_ones_have_no_position() -> None:
    """Initial snapshot rows keep the position of the snapshot; incremental ones have none, nor a commit time."""
    changes = [change for change in decoded(corpora_loader.load("h")) if isinstance(change, Change)]
    reads = [change for change in changes if change.op == "r"]
    incremental = [change for change in reads if b'"snapshot":"incremental"' in (change.message.value or b"")]
    assert incremental
    assert all(change.snapshot for change in reads)
    assert all((change.position is None) == (change in incremental) for change in reads)
    assert all((change.committed_ms is None) == (change in incremental) for change in reads)
    assert not any(change.snapshot for change in changes if change.op in "cud")


def test_key_changes_name_both_keys() -> None:
    """A primary-key change is a delete that knows the new key and an insert that knows the old one."""
    changes = [change for change in decoded(corpora_loader.load("b")) if isinstance(change, Change)]
    new = {(change.key, change.new_key) for change in changes if change.kind is Kind.DELETE and change.new_key}
    old = {(change.old_key, change.key) for change in changes if change.kind is Kind.UPSERT and change.old_key}
    assert new == old
    assert ("6", "900001") in new


def test_columns_seen_name_the_types_of_every_table() -> None:
    """Schemas give Connect's types; without schemas and declarations the JSON types of a sample do."""
    with_schema, bare = (
        Decoder(corpora_loader.structure_for(corpora_loader.load(letter), typed=False)) for letter in "ba"
    )
    for decoder, letter in ((with_schema, "b"), (bare, "a")):
        for message in corpora_loader.load(letter).of_tables():
            decoder.decode(message)
    assert with_schema.columns_seen()["orders"]["total"] == "Decimal(2)"
    assert bare.columns_seen()["orders"]["total"] == "text"
    assert bare.columns_seen()["orders"].keys() == with_schema.columns_seen()["orders"].keys()
