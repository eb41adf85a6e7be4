"""One order's rows as expressions see them: navigable, lazy, each value worked out at most once.

Only what an expression touches counts: an unknown column or an absent row that nobody reads holds nothing up.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Mapping as Dict
from decimal import Decimal
from operator import itemgetter
from types import MappingProxyType, NoneType
from typing import TYPE_CHECKING, Any

from daemon.mapping.faults import AbsentRow, Fault, UnknownValue
from daemon.mapping.keys import key_text
from daemon.mapping.kinds import ListKind, RowKind
from daemon.mapping.rows import ALL_COLUMNS, StoredRow

if TYPE_CHECKING:
    from daemon.mapping.expressions import Expression
    from daemon.mapping.model import Many, Mapping, One, SortKey, SourceMap

_NUMBERS = (int, Decimal)  # `int | Decimal` would be made anew, and asked slowly, for every row
ABSENT = object()
"""What no value is."""


class RowList(tuple["Row", ...]):  # noqa: SLOT001 - a tuple's subclass can have no slots with values
    """Rows of one source; `empty` is the row that stands for none of them."""

    empty: Empty

    def __new__(cls, rows: Iterable[Row], empty: Empty) -> RowList:  # noqa: PYI034 - Self would hide nothing here
        made = super().__new__(cls, rows)
        made.empty = empty
        return made


class Empty:
    """The typed empty row of a missing hop: falsy, columns null, lists empty, still navigable."""

    __slots__ = ("_empties", "_source")

    known: Dict[str, Any] = MappingProxyType({})
    worked_out: Dict[str, Any] = known

    def __init__(self, source: SourceMap, empties: Empties) -> None:
        self._source = source
        self._empties = empties

    def __bool__(self) -> bool:
        return False

    def __getitem__(self, name: str) -> Any:
        """`attribute`, as hooks write it."""
        return self.attribute(name)

    def attribute(self, name: str) -> Any:
        """Null, an empty list, or a further empty row: whatever fits the name."""
        return self.work_out(name) if name in self._source.names else None

    def work_out(self, name: str) -> Any:
        """The same for the name of a derived column or relation."""
        derived = self._source.let.get(name)
        if derived is not None:
            return self._empties.of_kind(derived.kind)
        if name in self._source.one:
            return self._empties[self._source.one[name].target]
        return RowList((), self._empties[self._source.many[name].target])

    def column(self, name: str) -> None:  # noqa: ARG002 - the shape of Row.column
        """Null."""
        return


class Empties(dict[str, Empty]):
    """The empty row of each source of a mapping."""

    def __init__(self, mapping: Mapping) -> None:
        super().__init__((name, Empty(source, self)) for name, source in mapping.sources.items())

    def of_kind(self, kind: object) -> Any:
        """What stands for nothing of that kind."""
        if isinstance(kind, RowKind):
            return self[kind.source]
        if isinstance(kind, ListKind):
            return RowList((), self[kind.item.source]) if isinstance(kind.item, RowKind) else []
        return None


class Row:
    """A row that is there. Its values are columns, derived columns and relations, by one name space.

    `known` are the columns whose value is known, `worked_out` the relations and derived columns that were asked for.
    """

    __slots__ = ("_busy", "_graph", "_source", "known", "stored", "worked_out")

    def __init__(self, stored: StoredRow, source: SourceMap, graph: Graph) -> None:
        self.stored = stored
        self._source = source
        self._graph = graph
        self.known = _known(stored) if stored.unknown else stored.columns
        self.worked_out: dict[str, Any] = {}
        self._busy: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Any:
        """`attribute`, as hooks write it: row["total"], row["customer"]["email"], row["lines"]."""
        return self.attribute(name)

    def attribute(self, name: str) -> Any:
        """The derived column, relation or column of that name, in this order."""
        if name not in self._source.names:
            return self.column(name)
        value = self.worked_out.get(name, ABSENT)
        return self.work_out(name) if value is ABSENT else value

    def work_out(self, name: str) -> Any:
        """The derived column or relation of that name, which is not among `worked_out` yet."""
        source = self._source
        value: Any
        if (one := source.one.get(name)) is not None:
            value = self._graph.follow(self, one)
        elif (many := source.many.get(name)) is not None:
            value = self._graph.collect(self, many)
        else:
            value = self._derived(source.let[name], name)
        self.worked_out[name] = value
        return value

    def _derived(self, expression: Expression, name: str) -> Any:
        if name in self._busy:
            raise Fault(f"`{name}` of {self._source.name} needs itself; a derived column cannot")
        self._busy += (name,)
        try:
            return expression.evaluate({"row": self, "order": self._graph.order})
        finally:
            self._busy = self._busy[:-1]

    def column(self, name: str) -> Any:
        """The stored column. Raises UnknownValue where it is not known, which is not null."""
        value = self.known.get(name, ABSENT)
        if value is not ABSENT:
            return value
        unknown = self.stored.unknown
        if name in self._source.defaults and name not in unknown and ALL_COLUMNS not in unknown:
            return self._source.defaults[name]
        raise UnknownValue(f"{self._source.name}.{name} of row {self.stored.key}")


def _known(stored: StoredRow) -> Dict[str, Any]:
    if ALL_COLUMNS in stored.unknown:
        return {}
    return {name: value for name, value in stored.columns.items() if name not in stored.unknown}


class Graph:
    """The rows of one order and the rows they look up.

    With `final`, a looked-up row that has not arrived counts as missing; `missing` counts those.
    """

    def __init__(
        self, mapping: Mapping, empties: Empties, order_key: str, rows: Iterable[StoredRow], *, final: bool
    ) -> None:
        self._sources = mapping.sources
        self._empties = empties
        self._order_key = order_key
        self._final = final
        self._rows: defaultdict[str, dict[str, Row]] = defaultdict(dict)
        known = self._rows
        for stored in rows:
            name = stored.source
            if name in mapping.sources:
                known[name][stored.key] = Row(stored, mapping.sources[name], self)
        self._own: dict[str, list[Row]] = {}
        self._indexes: dict[tuple[str, str], dict[tuple[str, ...], list[Row]]] = {}
        self.missing: set[tuple[str, str]] = set()
        root = self._rows[mapping.root].get(order_key)
        self.root = None if root is None else root.stored
        self.order: Row | Empty = empties[mapping.root] if root is None or root.stored.deleted else root

    def close(self) -> None:
        """Let go of the rows, which hold each other: else only the cyclic collector would find them."""
        for rows in self._rows.values():
            for row in rows.values():
                row.worked_out.clear()
        del self.order
        self._rows.clear()
        self._own.clear()
        self._indexes.clear()

    def _own_rows(self, source: str) -> list[Row]:
        """The order's own rows of a source, or the shared ones that were read, in key order."""
        own = self._own.get(source)
        if own is None:
            shared = self._sources[source].shared
            own = [
                row
                for row in self._rows[source].values()
                if not row.stored.deleted and (shared or row.stored.root == self._order_key)
            ]
            if len(own) > 1:
                own.sort(key=_key_order)
            self._own[source] = own
        return own

    def follow(self, row: Row, one: One) -> Row | Empty:
        """The row that a to-one relation leads to. Raises AbsentRow where it has not arrived, unless final."""
        empty = self._empties[one.target]
        if one.link is None:
            found = self._matching(row, one)
            return found[0] if found else empty
        columns = row.known
        if one.link.only not in columns:
            columns = {name: row.column(name) for name in one.link.reads}
        try:
            key = one.link.target_key(columns)
        except ValueError as error:
            raise Fault(f"the key of {one.link.name} cannot be told: {error}") from error
        if key is None:
            return empty
        target = self._rows[one.target].get(key)
        if target is None:
            if one.required and not self._final:
                raise AbsentRow(f"{one.target} {key}, looked up by {one.link.name}")
            if one.required:
                self.missing.add((one.target, key))
            return empty
        return empty if target.stored.deleted else target

    def collect(self, row: Row, many: Many) -> RowList:
        """The rows of a to-many relation, filtered and sorted; ties and no sort: by row key."""
        found = self._matching(row, many)
        if many.where is not None:
            where = many.where.evaluate
            found = [child for child in found if where({"row": child, "order": self.order})]
        for part in reversed(many.sort):
            found = self._sorted(found, part)
        return RowList(found, self._empties[many.target])

    def _matching(self, row: Row, relation: One | Many) -> list[Row]:
        wanted = []
        for match in relation.match:
            mine = self.order if match.of_order else row
            value = match.constant if match.my is None else mine.column(match.my)
            if value is None:
                return []
            if match.their is not None:
                wanted.append(_text(value, relation))
            elif _text(value, relation) != match.constant:
                return []
        return self._index(relation).get(tuple(wanted), [])

    def _index(self, relation: One | Many) -> dict[tuple[str, ...], list[Row]]:
        name = (relation.source, relation.name)
        index = self._indexes.get(name)
        if index is None:
            index = {}
            theirs = [part.their for part in relation.match if part.their is not None]
            for child in self._own_rows(relation.target):
                values = [child.column(column) for column in theirs]
                if None not in values:
                    index.setdefault(tuple([_text(value, relation) for value in values]), []).append(child)
            self._indexes[name] = index
        return index

    def _sorted(self, rows: list[Row], part: SortKey) -> list[Row]:
        if len(rows) < 2:
            return rows
        evaluate = part.expression.evaluate
        values = [evaluate({"row": row, "order": self.order}) for row in rows]
        kinds = set(map(type, values))
        null = NoneType in kinds
        if len({_sort_class(kind) for kind in kinds - {NoneType}}) > 1:
            raise Fault(
                f"sort `{part.expression.text}`: numbers and texts cannot be put in one order; declare `types:`"
            )
        pairs = list(zip(values, rows, strict=True))
        known = [pair for pair in pairs if pair[0] is not None] if null else pairs
        nulls = [pair for pair in pairs if pair[0] is None] if null else []
        known.sort(key=itemgetter(0), reverse=part.descending)
        return [row for _, row in known + nulls]


def _text(value: Any, relation: One | Many) -> str:
    if type(value) is str:
        return value
    try:
        return key_text(value)
    except ValueError as error:
        raise Fault(f"relation {relation.source}.{relation.name} cannot match: {error}") from error


def _key_order(row: Row) -> tuple[int, int, str]:
    key = row.stored.key
    return (0, int(key), key) if key.isascii() and key.isdigit() else (1, 0, key)


def _sort_class(kind: type) -> str:
    if issubclass(kind, _NUMBERS):
        return "number"
    if issubclass(kind, str):
        return "text"
    raise Fault("a sort needs numbers or texts")


@functools.cache
def _path(text: str) -> tuple[str, ...]:
    return tuple(text.split("."))


def read_path(row: Any, path: str) -> Any:
    """The value at `a.b.c`, starting from a row or an object of parsed JSON. Null-safe over missing hops."""
    for name in _path(path):
        if row is None:
            return None
        if isinstance(row, dict):
            row = row.get(name)
        elif isinstance(row, Row | Empty):
            row = row.attribute(name)
        else:
            raise Fault(f"`{path}` starts from a row or an object; what is before `.{name}` is none")
    return row
