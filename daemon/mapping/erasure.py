"""What the erasure of a customer does to rows: keyed hashes of what is erased, and rows without who it was. Pure.

Nothing here can be turned back without the key, and with it only by trying. A row of an erased customer keeps what
money, lines and conditions need (`Uses.kept`); all else of it becomes null. What stands for the customer in a column
that is kept, such as that by which an order finds its customer, is replaced by the same stand-in everywhere: look-ups
still lead where they did.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from collections.abc import Mapping as Dict
from contextlib import closing
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from daemon.mapping.expressions import Expression
from daemon.mapping.faults import Fault, NotYet
from daemon.mapping.graph import Empties, Graph
from daemon.mapping.keys import key_text
from daemon.mapping.model import Mapping
from daemon.mapping.operators import as_text
from daemon.mapping.personal import in_json, is_personal, without_leaves
from daemon.mapping.rows import ALL_COLUMNS, StoredRow
from daemon.mapping.structure import FIXED, Link, Role

ERASED = "(erased)"
"""The column that an erased row has beside its own: what stands for its customer."""

_SIZE = 16  # bytes of a hash
_PREFIX = "erased_"


class What(StrEnum):
    """What a keyed hash is of."""

    KEY_CHECK = "key_check"  # of nothing: by it another key is told from the one before
    CUSTOMER = "customer"  # a `customer_id`
    ROW = "row"  # a row of the customer
    KEY = "key"  # a row of the customer whose key says who that is: it has a stand-in


@dataclass(frozen=True, slots=True)
class Named:
    """One keyed hash, of something of the customer whose own hash is `customer`."""

    hash: bytes
    customer: bytes
    what: What


@dataclass(frozen=True, slots=True)
class Target:
    """A row that another one names over `link`. `column`: the only one that is no constant; empty if it takes more."""

    link: Link
    column: str
    source: str
    key: str
    hash: bytes


@dataclass(frozen=True, slots=True)
class Probe:
    """What is asked of a row to tell whose it is. `who`: the hash of its `customer_id`, if the row alone tells that."""

    source: str
    key: str
    hash: bytes
    who: bytes | None
    looks_up: tuple[Target, ...]
    hangs_below: tuple[Target, ...]

    def hashes(self) -> Iterator[bytes]:
        """All that may be known of it."""
        yield self.hash
        if self.who is not None:
            yield self.who
        yield from (target.hash for target in (*self.looks_up, *self.hangs_below))


def mark_of(customer: bytes) -> str:
    """What stands for an erased customer: the `customer_id` that is sent instead."""
    return f"{_PREFIX}{customer.hex()}"


def customer_of(mark: str) -> bytes:
    """The hash of the customer that a mark stands for."""
    return bytes.fromhex(mark.removeprefix(_PREFIX))


class Eraser:
    """Erases by one mapping and one key."""

    def __init__(self, mapping: Mapping, key: str) -> None:
        self._mapping = mapping
        self._key = key.encode()
        self._empties = Empties(mapping)
        self._uses = uses = mapping.uses
        self._sources = mapping.structure.sources
        root = self._sources[mapping.root]
        own_key = frozenset(root.key or ())
        self._identity = sorted(
            column
            for source, column in uses.identity
            if source == root.name and column not in own_key and (source, column) not in uses.order_id
        )
        self.root = mapping.root
        # Looked-up rows that are needed and absent are noticed; rows that hang below others are just not there.
        self.by_root_alone = all(
            source == root.name or not self._sources[source].owners for source, _ in uses.identity if source
        )
        self.needs_root_alone = all(source == root.name for source, _ in uses.identity)
        self._looks_up = {name: tuple(self._shared_links(name)) for name in mapping.sources}
        self._contact = {name: {column for at, column in uses.contact if at == name} for name in mapping.sources}

    def _shared_links(self, name: str) -> Iterator[tuple[Link, str]]:
        """The steps from rows of a source to shared rows, with the column that leads there where it is one alone."""
        for one in self._mapping.sources[name].one.values():
            if one.link is not None and self._sources[one.target].role is Role.SHARED:
                columns = [column for column in one.link.columns if not column.startswith(FIXED)]
                yield one.link, columns[0] if len(columns) == 1 else ""

    # Hashes

    def _hash(self, what: What | str, *parts: str) -> bytes:
        text = "\x00".join((what, *parts)).encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, text, "sha256")[:_SIZE]

    @property
    def key_check(self) -> Named:
        """Tells this key from another."""
        found = self._hash(What.KEY_CHECK)
        return Named(found, found, What.KEY_CHECK)

    def customer(self, customer_id: str) -> bytes:
        """The hash of a customer, by its `customer_id` in documents."""
        return self._hash(What.CUSTOMER, customer_id)

    def row(self, source: str, key: str) -> bytes:
        """The hash of a row."""
        return self._hash(What.ROW, source, key)

    def stand_in(self, value: Any) -> Any:
        """What stands for a value that says who it was: of the same kind, and the same wherever that value stands."""
        try:
            text = key_text(value)
        except ValueError:
            return None
        digest = self._hash("value", text)
        if not (text.isascii() and text.isdigit()):
            return f"{_PREFIX}{digest.hex()}"
        number = int.from_bytes(digest[:6], "big") | 1 << 48
        return str(number) if isinstance(value, str) else number

    # Whose a row is

    def probe(self, source: str, key: str, columns: Dict[str, Any]) -> Probe:
        """What is to be asked about a row."""
        who = None
        if source == self.root and self.by_root_alone and columns:
            told = self.customer_id(key, [StoredRow(source, key, key, columns)])
            who = None if told is None else self.customer(told)
        below = [
            self._target(link, next((name for name in link.columns if not name.startswith(FIXED)), ""), columns)
            for link in self._sources[source].owners
        ]
        return Probe(
            source,
            key,
            self.row(source, key),
            who,
            tuple(self._targets(source, columns)),
            tuple(target for target in below if target is not None),
        )

    def _targets(self, source: str, columns: Dict[str, Any]) -> Iterator[Target]:
        for link, column in self._looks_up[source]:
            if (target := self._target(link, column, columns)) is not None:
                yield target

    def _target(self, link: Link, column: str, columns: Dict[str, Any]) -> Target | None:
        try:
            key = link.target_key(columns)
        except ValueError:
            return None
        if key is None:
            return None
        return Target(link, column, link.target, key, self.row(link.target, key))

    def owner(self, probe: Probe, known: Dict[bytes, Named]) -> bytes | None:
        """The erased customer whose row it is; None where it is nobody's, as far as is known."""
        role = self._sources[probe.source].role
        if role is Role.ROOT and probe.who is not None:
            return probe.who if probe.who in known else None
        if probe.hash in known:
            return known[probe.hash].customer
        if role is Role.OWNED:
            return next((known[one.hash].customer for one in probe.hangs_below if one.hash in known), None)
        if role is Role.SHARED and probe.source not in self._uses.people:
            return None
        leads = (*probe.looks_up, *probe.hangs_below)
        return next(
            (known[one.hash].customer for one in leads if one.hash in known and known[one.hash].what is What.KEY), None
        )

    def customer_id(self, order_key: str, rows: Iterable[StoredRow]) -> str | None:
        """The `customer_id` of an order, as far as these rows tell it."""
        try:
            return self._told(order_key, rows)
        except (Fault, NotYet):
            return None

    def _told(self, order_key: str, rows: Iterable[StoredRow]) -> str | None:
        with closing(Graph(self._mapping, self._empties, order_key, rows, final=False)) as graph:
            if graph.root is None or graph.root.deleted:
                return None
            rule = self._mapping.document["customer_id"]
            value = rule.evaluate({"row": graph.order, "order": graph.order}) if isinstance(rule, Expression) else None
            return as_text(value) or None

    def carriers(self, root: StoredRow) -> frozenset[str]:
        """The columns of an order's own row that say which customer it is: those with which `customer_id` changes.

        A column that merely decides, such as a kind of order, gives the same id for any two other values of it.
        """
        if ALL_COLUMNS in root.unknown or ERASED in root.columns:
            return frozenset()
        root = replace(root, deleted=False)  # one that was deleted for another key has kept its values
        told = self.customer_id(root.key, [root]) if self.by_root_alone else None
        if told is None:  # it takes more rows: the customer is whoever is looked up
            return frozenset(self._identity) & {column for _, column in self._looks_up[self.root]}
        return frozenset(column for column in self._identity if self._carries(root, column))

    def _carries(self, root: StoredRow, column: str) -> bool:
        """Whether two other values in this column give two other customers, or one that is nowhere."""
        value = root.columns.get(column)
        if value is None:
            return False
        one = self.stand_in(value)
        told: list[str | None] = []
        for other in (one, self.stand_in(one)):
            changed = replace(root, columns={**root.columns, column: other})
            try:
                told.append(self._told(root.key, [changed]))
            except NotYet:
                return True
            except Fault:
                told.append(None)
        return told[0] != told[1]

    def key_targets(self, row: StoredRow, carriers: Iterable[str] = ()) -> Iterator[Target]:
        """The shared rows that a row of the customer leads to whose key says who that is."""
        if ERASED in row.columns:
            return
        for target in self._targets(row.source, row.columns):
            if not target.column:  # a key of several columns has no stand-in
                continue
            key = self._sources[target.source].key or ()
            told = {(row.source, target.column), *((target.source, column) for column in key)}
            if target.column in carriers or told & self._uses.telling:
                yield target

    def people_targets(self, row: StoredRow) -> Iterator[Target]:
        """The shared rows that a row of the customer leads to and that say who somebody is."""
        return (target for target in self._targets(row.source, row.columns) if target.source in self._uses.people)

    def is_of_people(self, source: str) -> bool:
        """Whether rows of this source say who somebody is."""
        return source in self._uses.people

    # What is left of it

    def blanked(
        self, source: str, columns: Dict[str, Any], customer: bytes, replaced: Iterable[str] = ()
    ) -> dict[str, Any]:
        """What a row of the customer keeps. `replaced`: columns for whose values there are stand-ins."""
        again = ERASED in columns
        with_stand_in = frozenset() if again else frozenset(replaced)
        return {
            **{name: self._left(source, name, value, with_stand_in, again) for name, value in columns.items()},
            ERASED: columns.get(ERASED, mark_of(customer)),
        }

    def _left(self, source: str, name: str, value: Any, replaced: frozenset[str], again: bool) -> Any:
        if value is None:
            return None
        if name in replaced:
            return self.stand_in(value)
        if name not in self._uses.kept.get(source, ()):
            # What a hook reads cannot be seen: then it goes by names alone.
            return value if self._mapping.hooks.file and not self._is_contact(source, name) else None
        if (source, name) in self._uses.order_id or again:
            return value
        if name in self._contact[source] and is_personal(name):
            return self.stand_in(value) if isinstance(value, str) else None
        return in_json(value, lambda told: without_leaves(told, None)) if isinstance(value, str) else value

    def _is_contact(self, source: str, name: str) -> bool:
        return name in self._contact[source] or is_personal(name)

    def telling(self, source: str, columns: Dict[str, Any]) -> Iterator[str]:
        """The texts of a row by which its customer can be found elsewhere, such as in a reject."""
        for name, value in columns.items():
            if (source, name) in self._uses.telling and isinstance(value, str | int | Decimal):
                yield str(value)
