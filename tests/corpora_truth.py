"""What the mirror must hold after each recording, however its messages were delivered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias

import corpora_loader
from corpora_loader import Corpus, Table

from daemon.ingest.fold import ALL_UNKNOWN
from daemon.mapping.keys import row_key

Name: TypeAlias = tuple[str, str]
"""(table, canonical row key)"""

UNKNOWN = "(unknown)"
Shown: TypeAlias = "dict[str, Any]"
Unknown: TypeAlias = "Mapping[str, Mapping[str, frozenset[str]]]"
"""By table and row key: columns."""


@dataclass(frozen=True)
class Held:
    """A live row as some store holds it."""

    columns: Mapping[str, Any]
    unknown: frozenset[str]
    root: str | None


@dataclass(frozen=True)
class Ending:
    """How the mirror of a recording differs from what the database held; by default in nothing.

    `left` rows stay although they are gone, `unknown` values cannot be known, and of values in a type that `cut`
    knows the connector wrote less than the database held. `truncated` counts carts that stay, as no TRUNCATE is told.
    """

    truncated: int = 0
    left: Mapping[str, set[str]] = field(default_factory=dict)
    unknown: Unknown = field(default_factory=dict)
    cut: Callable[[str, str], Any] = lambda text, _: text


def _to_millis(text: str, pg_type: str) -> str:
    if not pg_type.startswith("time") or not pg_type.endswith("without time zone") or "." not in text:
        return text
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction[:3]}".rstrip("0").rstrip(".")


def _as_number(text: str, pg_type: str) -> Any:
    return Decimal(text) if pg_type == "numeric" else text


_MEMO = frozenset({"memo"})
_SHOP = Ending(truncated=17)

ENDINGS: Mapping[str, Ending] = {
    "a_json_string": _SHOP,
    "b_schema_precise": _SHOP,
    "c_json_precise": _SHOP,
    "d_unwrap": _SHOP,
    "e_connect_double": Ending(truncated=17, cut=_to_millis),
    "f_replica_full": _SHOP,
    "g_message_key": _SHOP,
    "h_tx_heartbeat": _SHOP,
    "i_restart_dups": _SHOP,
    "j_lost_offsets": Ending(left=corpora_loader.ghosts()),
    "x_message_key_default_identity": _SHOP,
    # The message key leaves line_no out, so no header names the row from which the untouched memo comes.
    "k_key_change_toast": Ending(unknown={"order_lines": {'["903","1"]': _MEMO, '["117","71"]': _MEMO}}),
    "m_mariadb_json": Ending(),
    "n_mariadb_schema_precise": Ending(),
    "q_mysql_gtid": Ending(),
    "u_unwrap_rewrite": Ending(),
    "u_unwrap_tombstone": Ending(),
    "u_unwrap_bare": Ending(),
    "y_avro": Ending(cut=_as_number),
    "z_compacted": Ending(unknown=corpora_loader.load("z_compacted").unknown),
}


class Judge:
    """Compares rows with a recording's ending. What was found right is not looked at again while it is the same."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._ending = ENDINGS[corpus.name]
        self._truth = {
            (table.name, row_key([row[name] for name in table.pk])): dict(row)
            for table in corpus.tables.values()
            for row in table.rows
        }
        self._roots = self._places()
        self._right: dict[Name, Held] = {}

    def wrong(self, rows: Mapping[Name, Held]) -> list[str]:
        """What is not as it must be, a line each; nothing where all is right."""
        found = [f"{name} is missing" for name in self._truth.keys() - rows.keys()]
        extra = rows.keys() - self._truth.keys()
        truncated = {name for name in extra if name[0] == "carts"} if self._ending.truncated else set()
        if len(truncated) != self._ending.truncated:
            found.append(f"{len(truncated)} carts are left, not {self._ending.truncated}")
        left = {(table, key) for table, keys in self._ending.left.items() for key in keys}
        found += [f"{name} is still there" for name in extra - truncated - left]
        found += [f"{name} is gone, though nothing said so" for name in left - extra]
        for name, row in rows.items():
            if name in self._truth and self._right.get(name) != row:
                lines = self._wrong_row(name, row)
                if not lines:
                    self._right[name] = row
                found += lines
        return found

    def _wrong_row(self, name: Name, row: Held) -> list[str]:
        table = self._corpus.tables[name[0]]
        lost = self._ending.unknown.get(name[0], {}).get(name[1], frozenset())
        lines = []
        for column, text in self._truth[name].items():
            want = UNKNOWN if column in lost else self._cut(text, table.types[column])
            got = self._text(table, row, column)
            if got != want:
                lines.append(f"{name} {column}: {got!r:.60}, not {want!r:.60}")
        if name in self._roots and row.root != self._roots[name]:
            lines.append(f"{name} belongs to order {row.root}, not {self._roots[name]}")
        return lines

    def _text(self, table: Table, row: Held, column: str) -> Any:
        if column in row.unknown or frozenset(ALL_UNKNOWN) == row.unknown:
            return UNKNOWN
        value = row.columns.get(column, table.defaults[column])
        return self._cut(self._corpus.text(value, table.types[column]), table.types[column])

    def _cut(self, text: str | None, type_text: str) -> Any:
        return None if text is None else self._ending.cut(text, type_text)

    def _places(self) -> dict[Name, str | None]:
        """The order of every row that belongs to one, however many steps away."""
        places = {name: row["order_id"] for name, row in self._truth.items() if name[0] in ("order_lines", "refunds")}
        for name, row in self._truth.items():
            if name[0] == "refund_lines":
                places[name] = places["refunds", str(row["refund_id"])]
        return places
