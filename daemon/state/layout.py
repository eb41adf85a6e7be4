"""Rounds of staged rows laid out as the columns that the fold's statement takes; pure, and done ahead of it.

psycopg takes one element of a list after the other, in Python. Arrays go as literals instead, and texts that can hold
no control characters, as JSON has none, in one text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from daemon.ingest.change import Kind
from daemon.ingest.fold import StagedRow, earliest
from daemon.state.columns import columns_json

# Members of an enumeration are slow to reach, and these are asked for with every row.
_UPSERT = Kind.UPSERT
_GONE = frozenset((Kind.DELETE, Kind.TOMBSTONE))
_SEPARATOR = "\x1e"


@dataclass(frozen=True, slots=True)
class Round:
    """One round: its rows in the order of their keys, the same as columns, how many changes there are of each
    (origin, op), and the orders that are touched where all of them change something.

    `columns` has each row's lineage as a place in `lineages`, from 1.
    """

    rows: Sequence[StagedRow]
    columns: Mapping[str, str]
    lineages: Sequence[str]
    counts: Counter[tuple[int, str]]
    touched: Touched


class Touched(dict[str, tuple[int, int | None]]):
    """Orders with the lane and the earliest commit, epoch milliseconds, of what touched them. Live beats backfill."""

    def add(self, order: str | None, lane: int, committed_ms: int | None) -> None:
        """One more touch; None: no order."""
        if order is None:
            return
        before = self.get(order)
        if before is not None:
            lane = min(lane, before[0])
            committed_ms = earliest(committed_ms, before[1])
        self[order] = lane, committed_ms

    def join(self, others: Touched) -> None:
        """All of these touches too."""
        if not self:
            self.update(others)
            return
        for order, touch in others.items():
            self.add(order, *touch)

    def columns(self) -> dict[str, str]:
        """As the columns that are marked."""
        values = self.values()
        return {
            "order_key": texts(list(self)),
            "lane": array([lane for lane, _ in values]),
            "committed": numbers_or_null([committed for _, committed in values]),
        }


def says_its_order(row: StagedRow) -> bool:
    """Whether the row, once it is applied, belongs to the order that it names, whatever was stored of it."""
    return row.root is not None and row.kind is _UPSERT


def lay_out(rows: Sequence[StagedRow], numbers: Mapping[str, int]) -> Round:
    """One round, by the numbers of the sources. What is null in all rows is an empty array, which `unnest` fills up."""
    ordered = sorted(rows, key=lambda row: (numbers[row.source], row.key))
    marks = [row.mark for row in ordered]
    lineages: dict[str | None, int | None] = {None: None}
    for mark in marks:
        if mark.lineage not in lineages:
            lineages[mark.lineage] = len(lineages)
    columns = {
        "source": array([numbers[row.source] for row in ordered]),
        "key": texts([row.key for row in ordered]),
        "root": texts([row.root for row in ordered]),
        "parent": texts([row.parent for row in ordered]),
        "refs": _SEPARATOR.join([array(row.refs) if row.refs else "" for row in ordered]),
        "deleted": numbers_or_null([True if row.kind in _GONE else None for row in ordered]),
        "lineage": numbers_or_null([lineages[mark.lineage] for mark in marks]),
        "origin": array([mark.origin for mark in marks]),
        "offset": array([mark.offset for mark in marks]),
        "position": _SEPARATOR.join(["" if mark.position is None else array(mark.position) for mark in marks]),
        "committed": numbers_or_null([mark.committed_ms for mark in marks]),
        "first_seen": numbers_or_null([row.first_seen_ms for row in ordered]),
        "unknown": texts([_unknown(row) for row in ordered]),
        "kin": texts([row.new_key or (row.old_key if row.unknown else None) for row in ordered]),
        "columns": _SEPARATOR.join([columns_json(row.columns) for row in ordered]),
    }
    counts = Counter((row.mark.origin, op) for row in ordered for op in row.ops)
    return Round(ordered, columns, [name for name in lineages if name is not None], counts, touched(ordered))


def touched(rows: Iterable[StagedRow]) -> Touched:
    """The orders of those rows that say theirs (`says_its_order`)."""
    found = Touched()
    for row in rows:
        if says_its_order(row):
            found.add(row.root, int(row.backfill), row.first_commit_ms)
    return found


def texts(values: Sequence[str | None]) -> str:
    """An array literal of texts; an empty one where all are null."""
    quoted = ["null" if value is None else f'"{value}"' for value in values]
    nulls = quoted.count("null")  # a text has its quotes
    if nulls == len(quoted):
        return "{}"
    literal = ",".join(quoted)
    if "\\" in literal or literal.count('"') > 2 * (len(quoted) - nulls):
        literal = ",".join(["null" if value is None else _quoted(value) for value in values])
    return "{" + literal + "}"


def numbers_or_null(values: Sequence[int | None]) -> str:
    """An array literal of numbers or truth values; an empty one where all are null."""
    nulls = values.count(None)
    if not nulls:
        return array(values)
    if nulls == len(values):
        return "{}"
    return "{" + ",".join(["null" if value is None else str(value) for value in values]) + "}"


def array(numbers: Iterable[int | None]) -> str:
    """An array literal of numbers, of which none is null."""
    return "{" + ",".join(map(str, numbers)) + "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unknown(row: StagedRow) -> str | None:
    if row.new_key is not None:
        return "{}"
    return "{" + ",".join(map(_quoted, row.unknown)) + "}" if row.unknown else None
