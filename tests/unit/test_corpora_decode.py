"""The decoder against real messages: a bare fold of each recording ends with what PostgreSQL held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import corpora_loader
import pytest
from corpora_loader import Corpus, Table, pg_text

from daemon.ingest.change import Change, ColumnValue, Decoded, Kind, Oddity, Reject, Skip, SkipReason
from daemon.ingest.debezium import Decoder
from daemon.mapping.keys import row_key
from daemon.mapping.structure import ConnectorModes

UNKNOWN = "a placeholder without an earlier value"
TRUNCATED_CARTS = 17


def decoded(corpus: Corpus, *, typed: bool | None = None) -> list[Decoded]:
    """Every message of the corpus's tables, decoded in file order."""
    decoder = Decoder(corpora_loader.structure_for(corpus, typed=typed), corpora_loader.avro_of(corpus))
    return [decoder.decode(message) for message in corpus.of_tables()]


def steps(outcomes: Iterable[Decoded]) -> Iterator[Change]:
    """What the outcomes do to rows, one change after the other: a tombstone right behind its delete does nothing."""
    deleted: dict[tuple[str, int], bytes | None] = {}
    for outcome in outcomes:
        if not isinstance(outcome, Change):
            continue
        partition = (outcome.message.topic, outcome.message.partition)
        if outcome.kind is Kind.TOMBSTONE and deleted.get(partition) == outcome.message.key:
            continue
        deleted[partition] = outcome.message.key if outcome.kind is Kind.DELETE else None
        yield outcome
        if outcome.then is not None:
            yield outcome.then


def fold(outcomes: Iterable[Decoded]) -> dict[str, dict[str, dict[str, Any]]]:
    """Rows by source and key after applying the changes, leaving out what is older than the row."""
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    seen: dict[tuple[str, str], tuple[tuple[int, ...], int]] = {}
    moved: dict[tuple[str, str], dict[str, Any]] = {}
    for change in steps(outcomes):
        table = rows.setdefault(change.source, {})
        if change.position is not None and change.committed_ms is not None:
            stamp = (change.position, change.committed_ms)
            last = seen.get((change.source, change.key))
            if last is not None and stamp[0] <= last[0] and stamp[1] <= last[1] and stamp != last:
                continue
            seen[change.source, change.key] = stamp
        if change.kind is not Kind.UPSERT:
            gone = table.pop(change.key, None)
            if gone is not None and change.new_key is not None:
                moved[change.source, change.key] = gone
            continue
        old = change.old_key or ""
        before = table.get(change.key) or table.get(old) or moved.get((change.source, old), {})
        table[change.key] = change.columns | {name: before.get(name, UNKNOWN) for name in change.unavailable}
    return rows


def in_pg_text(
    table: Table, row: dict[str, Any], as_text: Callable[[ColumnValue, str], str | None] = pg_text
) -> dict[str, str | None]:
    """A folded row as its database would print it; a column never reported has its default."""
    values = {name: row.get(name, table.defaults[name]) for name in table.types}
    return {
        name: UNKNOWN if values[name] == UNKNOWN else as_text(values[name], text) for name, text in table.types.items()
    }


def truth(table: Table) -> dict[str, dict[str, str | None]]:
    """The table's rows by canonical key."""
    return {row_key([row[name] for name in table.pk]): dict(row) for row in table.rows}


# What nobody can know: both columns of a primary key changed at once, of which the message key holds only one, so that
# no header names the old row; and what a compacted topic has lost.
LOST = {"k_key_change_toast": {"order_lines": {'["903","1"]': {"memo"}, '["117","71"]': {"memo"}}}}


@pytest.mark.parametrize(
    "name",
    [
        "k_key_change_toast",
        "m_mariadb_json",
        "n_mariadb_schema_precise",
        "u_unwrap_rewrite",
        "u_unwrap_tombstone",
        "u_unwrap_bare",
        "y_avro",
        "z_compacted",
    ],
)
def test_every_shape_folds_to_what_its_database_held(name: str) -> None:
    """Key changes, MariaDB, flattened rows in each mode, Avro, a compacted topic: every row and column is exact, and
    what cannot be known is unknown, never a wrong value. No message is refused."""
    corpus = corpora_loader.load(name)
    outcomes = decoded(corpus)
    assert not [outcome for outcome in outcomes if isinstance(outcome, Reject)]
    rows = fold(outcomes)
    lost = LOST.get(name, corpus.unknown)
    for table in corpus.tables.values():
        got = {key: in_pg_text(table, row, corpus.text) for key, row in rows[table.name].items()}
        want = truth(table)
        for key, columns in lost.get(table.name, {}).items():
            want[key] |= dict.fromkeys(columns, UNKNOWN)
        if name == "y_avro":
            got, want = (_numbers(table, side) for side in (got, want))
        assert got == want, table.name


def _numbers(table: Table, rows: dict[str, dict[str, str | None]]) -> dict[str, dict[str, Any]]:
    """Numerics without a scale as numbers: in precise mode the connector drops their trailing zeros."""
    unscaled = [name for name, text in table.types.items() if text == "numeric"]
    return {key: row | {name: _number(row[name]) for name in unscaled} for key, row in rows.items()}


def _number(text: str | None) -> Decimal | str | None:
    return Decimal(text) if text is not None and text != UNKNOWN else text


def test_mariadb_needs_no_mode_for_its_times() -> None:
    """Its connector counts all times in microseconds; a mapping that says nothing of it reads them so."""
    corpus = corpora_loader.load("m_mariadb_json")
    structure = corpora_loader.structure_for(corpus)
    silent = {
        name: replace(source, modes=ConnectorModes(decimal_handling_mode="string"))
        for name, source in structure.sources.items()
    }
    decoder = Decoder(replace(structure, sources=silent))
    assert fold(map(decoder.decode, corpus.of_tables())) == fold(decoded(corpus))


def test_a_flattened_recording_tells_position_and_time() -> None:
    """The added fields of d and of both flattened recordings put every row in its place; only tombstones have none."""
    for name in ("d_unwrap", "u_unwrap_rewrite", "u_unwrap_tombstone"):
        changes = [change for change in decoded(corpora_loader.load(name)) if isinstance(change, Change)]
        placed = [change for change in changes if change.position is not None and change.committed_ms is not None]
        assert {change.kind for change in changes if change not in placed} <= {Kind.TOMBSTONE}
        assert not [change for change in changes if change.oddity is not None]


def test_a_flattened_recording_without_additions_says_so_once_per_table() -> None:
    """Only Kafka's order is left of it."""
    changes = [change for change in decoded(corpora_loader.load("u_unwrap_bare")) if isinstance(change, Change)]
    odd = [change for change in changes if change.oddity is not None]
    assert {change.oddity for change in odd} == {Oddity.NO_LOG_POSITION}
    assert len(odd) == len({change.source for change in changes})
    assert all(change.position is None for change in changes)


@pytest.mark.parametrize("letter", ["a", "b", "c", "d", "f", "g", "h", "i", "x"])
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
    assert {change.oddity for change in odd} == {Oddity.IMPOSSIBLE_MESSAGE_KEY}
    assert odd == [change for change in deletes if change.source == "order_lines"]
    assert len({change.key for change in odd}) == len(odd) > 0


def test_full_identity_makes_message_key_columns_possible() -> None:
    """In g the same message keys are real, so nothing is odd; their tombstones name no row and are skipped."""
    changes = decoded(corpora_loader.load("g"))
    assert not [change for change in changes if isinstance(change, Change) and change.oddity]
    skipped = Counter(change.reason for change in changes if isinstance(change, Skip))
    assert skipped.keys() == {SkipReason.TOMBSTONE_OF_OTHER_KEY}


def test_messages_about_no_row_are_skipped_wherever_they_land() -> None:
    """Heartbeats, transaction marks, logical messages and truncates of h, put on a mapped topic, are skips by name."""
    corpus = corpora_loader.load("h")
    decoder = Decoder(corpora_loader.structure_for(corpus))
    reasons: Counter[SkipReason] = Counter()
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
