"""Where an event stands in its database's log, as numbers that compare within one lineage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

Position: TypeAlias = tuple[int, ...]


def log_entry(source: dict[str, Any]) -> tuple[str, Position | None, int | None]:
    """Lineage, position and commit time (epoch milliseconds) from an event's `source` block.

    The lineage is what positions compare within: connector kind, server, database, schema, table; for a binlog also
    the name of its files, which another server's may not share. The position is None where the block carries none or
    its kind of log is not known, the time is None where it is absent or zero. MySQL's and MariaDB's times are whole
    seconds unless the server writes finer ones next to its GTIDs.
    """
    get = source.get
    kind = get("connector")
    read = _KINDS.get(kind)
    committed = get("ts_ms")
    lineage = f"{kind}/{get('name')}/{get('db') or ''}/{get('schema') or ''}/{get('table') or ''}"
    if read is _binlog:
        lineage = f"{lineage}/{str(get('file')).rpartition('.')[0]}"
    return (
        lineage,
        read(source) if read is not None else None,
        committed if type(committed) is int and committed > 0 else None,
    )


def _postgresql(source: dict[str, Any]) -> Position | None:
    lsn = source.get("lsn")
    return (lsn,) if type(lsn) is int else None


def _binlog(source: dict[str, Any]) -> Position | None:
    """The number of the file, which grows as files rotate, the place in it, and the row within one event's many."""
    file, offset, row = source.get("file"), source.get("pos"), source.get("row")
    number = file.rpartition(".")[2] if type(file) is str else ""
    if not number.isdecimal() or type(offset) is not int:
        return None
    return (int(number), offset, row if type(row) is int else 0)


def _sqlserver(source: dict[str, Any]) -> Position | None:
    commit = _log_sequence(source.get("commit_lsn"))
    if commit is None:
        return None
    serial = source.get("event_serial_no")
    return (*commit, *(_log_sequence(source.get("change_lsn")) or (0, 0, 0)), serial if type(serial) is int else 0)


def _log_sequence(text: Any) -> Position | None:
    """SQL Server's `00000027:00000758:0005`, three hexadecimal numbers."""
    parts = text.split(":") if type(text) is str else []
    try:
        return tuple(int(part, 16) for part in parts) if len(parts) == 3 else None
    except ValueError:
        return None


_KINDS: dict[Any, Callable[[dict[str, Any]], Position | None]] = {
    "postgresql": _postgresql,
    "mysql": _binlog,
    "mariadb": _binlog,
    "sqlserver": _sqlserver,
}
