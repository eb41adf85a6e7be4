"""How a part that an order waits for is had again: which rows, and the statements and commands that bring them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from daemon.contract.signal import signal_for
from daemon.contract.tables import Database, table_of
from daemon.document.outcome import Outcome, Waiting, WaitingReason
from daemon.mapping.model import Mapping as MappingFile
from daemon.mapping.rows import ALL_COLUMNS, StoredRow, targets
from daemon.mapping.structure import Source

_MYSQL_KINDS = ("mysql", "mariadb")


@dataclass(frozen=True, slots=True, order=True)
class Wanted:
    """A row that is needed and not known. `columns` are those without a value; none: the row itself is not there."""

    source: str
    key: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cure:
    """What brings the wanted rows of one source. `signal`: SQL for the OMS's database, None where no table is known."""

    source: str
    rows: tuple[Wanted, ...]
    signal: str | None
    rebuild: str


def wanted_rows(
    mapping: MappingFile, order_key: str, rows: Iterable[StoredRow], outcome: Outcome | None
) -> list[Wanted]:
    """What an order that waits for rows or values waits for; nothing for any other order."""
    if not isinstance(outcome, Waiting):
        return []
    if outcome.reason is WaitingReason.NO_ROOT:
        return [Wanted(mapping.root, order_key)]
    held = {(row.source, row.key): row for row in rows if row.source in mapping.sources}
    found: dict[tuple[str, str], Wanted] = {}
    for row in held.values():
        if row.deleted:
            continue
        if unknown := _unknown(mapping, row):
            found[row.source, row.key] = Wanted(row.source, row.key, unknown)
        source = mapping.sources[row.source]
        needed = [one for one in source.one.values() if one.required and (row.source, one.name) in mapping.followed]
        for target in targets(needed, source.defaults, row):
            if target not in held:
                found.setdefault(target, Wanted(*target))
    return list(found.values())


def _unknown(mapping: MappingFile, row: StoredRow) -> tuple[str, ...]:
    """The columns that the mapping reads and that this row has no value for."""
    used = mapping.columns_used().get(row.source, {})
    defaults = mapping.sources[row.source].defaults
    everything = ALL_COLUMNS in row.unknown
    return tuple(
        column
        for column in sorted(used)
        if everything or column in row.unknown or (column not in row.columns and column not in defaults)
    )


def cures(sources: Mapping[str, Source], wanted: Iterable[Wanted], lineages: Iterable[str]) -> list[Cure]:
    """What brings the wanted rows, by source. `lineages` (connector/server/…) tell which kind of database it is."""
    by_source: dict[str, list[Wanted]] = {}
    for row in wanted:
        by_source.setdefault(row.source, []).append(row)
    known = [lineage.split("/") for lineage in lineages]
    return [
        Cure(
            name,
            tuple(rows),
            _signal(sources[name], [row.key for row in rows], known),
            f"order-sync rebuild --source {name}",
        )
        for name, rows in by_source.items()
        if name in sources
    ]


def _signal(source: Source, keys: Sequence[str], lineages: Sequence[Sequence[str]]) -> str | None:
    told = table_of(source.topic)
    if told is None:
        return None
    prefix, table = told
    kinds = {lineage[0] for lineage in lineages if lineage[1:2] == [prefix]}
    database = Database.MYSQL if kinds & set(_MYSQL_KINDS) else Database.POSTGRES
    return signal_for(source, table, keys, database=database)
