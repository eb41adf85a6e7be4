"""Functions over rows and lists."""

from __future__ import annotations

from typing import Any

from daemon.mapping import times
from daemon.mapping.faults import Fault
from daemon.mapping.graph import Row, RowList, read_path
from daemon.mapping.kinds import ANY, GroupKind, Kind, ListKind, item_kind
from daemon.mapping.operators import as_text, equal, is_missing, name_of
from daemon.mapping.registry import any_kind, is_blank, items_of, register


@register("first", kind=lambda kinds: item_kind(kinds[0]))
def first(rows: Any) -> Any:
    """the first of a list; of rows and none there: the empty row; else null"""
    items = items_of(rows, "first(rows)")
    if items:
        return items[0]
    return rows.empty if isinstance(rows, RowList) else None


@register("rest", kind=lambda kinds: kinds[0])
def rest(rows: Any) -> Any:
    """the list without its first item"""
    items = items_of(rows, "rest(list)")[1:]
    return RowList(items, rows.empty) if isinstance(rows, RowList) else list(items)


def _column_kind(kinds: list[Kind]) -> Kind:
    return ListKind(kinds[1])


@register("col", kind=_column_kind, paths=(1,))
def col(rows: Any, column: str) -> list[Any]:
    """the values of a column (or path) over rows, nulls kept"""
    return [read_path(row, column) for row in items_of(rows, "col(rows, 'column')")]


@register("flat", kind=lambda kinds: kinds[1] if isinstance(kinds[1], ListKind) else ANY, paths=(1,))
def flat(rows: Any, relation: str) -> Any:
    """the rows of a to-many relation of each row, one list after the other"""
    lists = [
        items_of(read_path(row, relation), "flat(rows, 'relation')") for row in items_of(rows, "flat(rows, 'relation')")
    ]
    found = [item for group in lists for item in group]
    if lists and isinstance(lists[0], RowList):
        return RowList(found, lists[0].empty)
    return found


@register("pivot", kind=any_kind, paths=(1, 2))
def pivot(rows: Any, name: str, value: str) -> dict[str, Any]:
    """an object of name column to value column (the first row of a name wins), for attribute tables"""
    made: dict[str, Any] = {}
    for row in items_of(rows, "pivot(rows, 'name', 'value')"):
        key = as_text(read_path(row, name))
        if key is not None and key not in made:
            made[key] = read_path(row, value)
    return made


def _group_kind(kinds: list[Kind]) -> Kind:
    return ListKind(GroupKind(kinds[1], kinds[0]))


@register("group", kind=_group_kind, paths=(1,))
def group(rows: Any, column: str) -> list[dict[str, Any]]:
    """the rows grouped by a column (or path), in order of first appearance: each group has `.key` and `.rows`"""
    groups: dict[Any, tuple[Any, list[Any]]] = {}
    for row in items_of(rows, "group(rows, 'column')"):
        key = read_path(row, column)
        if isinstance(key, list | tuple | dict):
            raise Fault(f"group(rows, '{column}') cannot group by {name_of(key)}")
        groups.setdefault((type(key) is bool, key), (key, []))[1].append(row)
    made = groups.values()
    if isinstance(rows, RowList):
        return [{"key": key, "rows": RowList(members, rows.empty)} for key, members in made]
    return [{"key": key, "rows": members} for key, members in made]


@register("len")
def length(x: Any) -> int:
    """how many items a list has, or characters a text"""
    if isinstance(x, str | list | tuple | dict):
        return len(x)
    raise Fault(f"len(x) needs a list or a text, not {name_of(x)}")


@register("uniq", kind=lambda kinds: kinds[0])
def uniq(items: Any) -> list[Any]:
    """the list without nulls, blank texts and repeats, in its order"""
    kept: list[Any] = []
    for item in items_of(items, "uniq(list)"):
        if not is_blank(item) and not any(type(item) is type(other) and equal(item, other) for other in kept):
            kept.append(item)
    return kept


@register("first_seen")
def first_seen(row: Any) -> str | None:
    """the earliest commit time seen of the row, in UTC; of a snapshot's rows the snapshot's; null where none is told"""
    if is_missing(row):
        return None
    if not isinstance(row, Row):
        raise Fault(f"first_seen(row) needs a row, not {name_of(row)}")
    seen = row.stored.first_seen_ms
    return None if seen is None else times.format_time(times.from_epoch_ms(seen))
