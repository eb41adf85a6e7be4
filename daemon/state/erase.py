"""Erases customers from the state: what `order-sync erase` does to what is here, and the fold to what comes.

Both take the same steps within a transaction that holds the mirror's lock: the order's rows, the rows that it looks up
and that are its customer's alone, its documents. Whatever is erased is named by a keyed hash, so that its row is
erased as well when it comes again, after a rebuild and under another mapping too.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from daemon.document.order import erased_document
from daemon.errors import SettingsError
from daemon.ingest.change import Kind
from daemon.ingest.fold import Place, StagedRow, placer, row_hash
from daemon.mapping.attributes import PERSONAL
from daemon.mapping.erasure import ERASED, Eraser, Named, Probe, What, customer_of, mark_of
from daemon.mapping.model import Mapping as Rules
from daemon.mapping.rows import StoredRow
from daemon.mapping.structure import Role
from daemon.settings import Secret, Settings
from daemon.state.columns import columns_json
from daemon.state.database import Cursor, Row, exact_json
from daemon.state.queries import queries

SQL, _INGEST = queries("erase.sql"), queries("ingest.sql")

NO_KEY = (
    "customers were erased from this state, and what comes again of them is known by a key alone: "
    "name its environment variable in ingest.erase_key_env"
)
OTHER_KEY = (
    "ingest.erase_key_env: this is another key than that by which customers were erased before: what comes again of "
    "them would not be known; set the key of then"
)

Name = tuple[str, str]
"""(source, key)"""


def eraser_of(settings: Settings, mapping: Rules) -> Eraser | None:
    """The eraser of these settings; None where they name no key. Raises SettingsError where it cannot be read."""
    variable = settings.ingest.erase_key_env
    return None if variable is None else Eraser(mapping, Secret(variable).read())


@dataclass(slots=True)
class Erased:
    """What was erased, and the texts by which it can be found elsewhere."""

    orders: set[str] = field(default_factory=set)
    rows: int = 0
    documents: int = 0
    kept_for_others: set[Name] = field(default_factory=set)
    telling: set[str] = field(default_factory=set)
    looked_at: set[Name] = field(default_factory=set)

    def add(self, other: Erased) -> None:
        """Count in what another transaction erased."""
        self.orders |= other.orders
        self.rows += other.rows
        self.documents += other.documents
        self.kept_for_others |= other.kept_for_others
        self.telling |= other.telling
        self.looked_at |= other.looked_at


@dataclass(slots=True)
class Incoming:
    """Staged rows as they may be stored, and what is to follow: rows, by name and customer, that get a stand-in for
    their key from now on, and rows of people to which erased rows lead that belong to no order."""

    rounds: Sequence[Sequence[StagedRow]]
    keys: dict[Name, bytes] = field(default_factory=dict)
    people: dict[Name, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class _Work:
    """The rows to rewrite: as they are, whose they are, and the columns that get stand-ins."""

    rows: dict[Name, StoredRow] = field(default_factory=dict)
    customers: dict[Name, bytes] = field(default_factory=dict)
    replaced: dict[Name, set[str]] = field(default_factory=dict)
    named: list[Named] = field(default_factory=list)


class StateEraser:
    """Erases within transactions that the caller makes."""

    def __init__(self, eraser: Eraser, rules: Rules, numbers: Mapping[str, int]) -> None:
        """`numbers` of the sources."""
        self._eraser = eraser
        self._structure = rules.structure
        self._numbers = numbers
        self._names = {number: name for name, number in numbers.items()}
        self._optional = PERSONAL & rules.document.keys()
        self._above = {step.above for step in rules.structure.steps(shared=False)} | {rules.root}
        self._shared_steps = rules.structure.steps(shared=True)

    # What comes

    def incoming(self, cursor: Cursor, rounds: Sequence[Sequence[StagedRow]]) -> Incoming:
        """The staged rows as they may be stored. What they say of erased customers is named. Needs the mirror's lock:
        else an erasure, or another fold, could name one of these rows and look for it before it is stored.
        """
        probes = {id(row): self._probe(row) for rows in rounds for row in rows}
        known = self.known(cursor, (found for probe in probes.values() for found in probe.hashes()))
        if not known:
            return Incoming(rounds)
        before, made = set(known), Incoming([])
        made.rounds = [[self._incoming(row, probes[id(row)], known, made) for row in rows] for rows in rounds]
        self._name(cursor, [one for found, one in known.items() if found not in before or one.what is What.KEY])
        return made

    def _probe(self, row: StagedRow) -> Probe:
        return self._eraser.probe(row.source, row.key, row.columns if row.kind is Kind.UPSERT else {})

    def known(self, cursor: Cursor, hashes: Iterable[bytes]) -> dict[bytes, Named]:
        """What of these is erased."""
        cursor.execute(SQL["known"], {"hashes": sorted(set(hashes))})
        return {found: Named(found, customer, What(what)) for found, customer, what in cursor.fetchall()}

    def _incoming(self, row: StagedRow, probe: Probe, known: dict[bytes, Named], made: Incoming) -> StagedRow:
        """One staged row; adds to `known` what is erased with it, and to `made` what there is to follow."""
        new = replace(
            row,
            key=self._new_key(row.source, row.key, known),
            old_key=row.old_key and self._new_key(row.source, row.old_key, known),
            new_key=row.new_key and self._new_key(row.source, row.new_key, known),
        )
        if row.kind is not Kind.UPSERT:
            return new
        customer = self._eraser.owner(probe, known)
        stored = StoredRow(row.source, row.key, row.root, row.columns, frozenset(row.unknown))
        carriers: frozenset[str] = frozenset()
        if customer is not None:
            if row.source == self._eraser.root:
                carriers = self._eraser.carriers(stored)
            for target in self._eraser.key_targets(stored, carriers):
                if not _has_stand_in(known, target.hash):
                    known[target.hash] = Named(target.hash, customer, What.KEY)
                    made.keys[target.source, target.key] = customer
            if self._structure.sources[row.source].role is Role.SHARED:
                made.people.update(
                    ((one.source, one.key), customer)
                    for one in self._eraser.people_targets(stored)
                    if one.hash not in known
                )
            if row.source in self._above:
                known.setdefault(probe.hash, Named(probe.hash, customer, What.ROW))
        replaced = {one.column for one in (*probe.looks_up, *probe.hangs_below) if _has_stand_in(known, one.hash)}
        if new.key != row.key:
            replaced.update(self._structure.sources[row.source].key or ())
        if customer is None and not replaced:
            return new
        if customer is None:
            columns = {n: self._eraser.stand_in(v) if n in replaced else v for n, v in row.columns.items()}
        else:
            columns = self._eraser.blanked(row.source, row.columns, customer, replaced | carriers)
        root, parent, refs = self._place(row.source, new.key, columns)
        return replace(new, columns=columns, root=root, parent=parent, refs=refs)

    def _new_key(self, source: str, key: str, known: Mapping[bytes, Named]) -> str:
        if _has_stand_in(known, self._eraser.row(source, key)):
            return str(self._eraser.stand_in(key))
        return key

    def _place(self, source: str, key: str, columns: dict[str, Any]) -> Place:
        return placer(self._structure, self._structure.sources[source])(key, columns)

    def erased_keys(self, cursor: Cursor, names: Iterable[Name]) -> dict[Name, str]:
        """Those of these rows that are erased, with the keys under which they are stored."""
        hashes = {self._eraser.row(*name): name for name in names}
        known = self.known(cursor, hashes)
        return {hashes[found]: self._new_key(*hashes[found], known) for found in known}

    def follow(self, cursor: Cursor, touched: Collection[str], incoming: Incoming) -> None:
        """After a fold: what else is stored of those of these orders that are erased, and rows that get a new key.

        Needs the mirror's lock.
        """
        parameters = {"root": self._numbers[self._eraser.root], "keys": list(touched), "mark": ERASED}
        cursor.execute(SQL["erased_orders"], parameters)
        customers = {key: customer_of(mark) for key, mark in cursor.fetchall()}
        if customers or incoming.keys:
            self.orders(cursor, customers, customers, Erased(), keys=incoming.keys)
        if incoming.people:
            self.people(cursor, incoming.people, customers, Erased())

    # What is here

    def begin(self, cursor: Cursor, customer: bytes) -> None:
        """Have every fold from now on erase this customer. Waits for those under way."""
        self.check_key(cursor)
        cursor.execute(SQL["begin_erasing"])
        self._name(cursor, [self._eraser.key_check, Named(customer, customer, What.CUSTOMER)])

    def check_key(self, cursor: Cursor) -> None:
        """Raises SettingsError where customers were erased by another key."""
        cursor.execute(SQL["key_checks"])
        if any(found != self._eraser.key_check.hash for (found,) in cursor.fetchall()):
            raise SettingsError(OTHER_KEY)

    def orders(
        self,
        cursor: Cursor,
        customers: Mapping[str, bytes],
        all_orders: Collection[str],
        erased: Erased,
        *,
        keys: Mapping[Name, bytes] = MappingProxyType({}),
        documents: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        """Erase these orders, each of that customer, of whom `all_orders` are. Needs the mirror's lock.

        `keys`: rows that get a new key besides. `documents`: orders of which the documents alone are erased.
        """
        work = _Work()
        for name, customer in keys.items():
            self._add_key(work, name, customer)
        for row in self._rows(cursor, "rows_of", keys=list(customers)):
            self._add_own(work, row, customers[row.root or row.key])
        self._add_keys(cursor, work, all_orders)
        self._add_people(cursor, work, all_orders, erased)
        changed = self._write(cursor, work, erased)
        self._name(cursor, work.named)
        self._records(cursor, {**customers, **documents}, changed, erased)

    def people(self, cursor: Cursor, names: Mapping[Name, bytes], all_orders: Collection[str], erased: Erased) -> None:
        """Erase rows of people, each of that customer, unless an order or a row of another customer leads there."""
        work = _Work()
        self._add_own_people(cursor, work, names, all_orders, erased)
        self._add_people(cursor, work, all_orders, erased)
        self._write(cursor, work, erased)
        self._name(cursor, work.named)

    @property
    def shared_people(self) -> list[str]:
        """The sources whose rows say who somebody is and belong to no order."""
        sources = self._structure.sources
        return [name for name in sources if sources[name].role is Role.SHARED and self._eraser.is_of_people(name)]

    def _add_own(self, work: _Work, row: StoredRow, customer: bytes) -> None:
        name = (row.source, row.key)
        work.rows[name], work.customers[name] = row, customer
        carriers = self._eraser.carriers(row) if row.source == self._eraser.root else frozenset[str]()
        targets = list(self._eraser.key_targets(row, carriers))
        work.replaced[name] = set(carriers) | {target.column for target in targets}
        for target in targets:
            self._add_key(work, (target.source, target.key), customer)
        if row.source in self._above:
            work.named.append(Named(self._eraser.row(row.source, row.key), customer, What.ROW))

    def _add_key(self, work: _Work, name: Name, customer: bytes) -> None:
        work.customers[name] = customer
        work.replaced.setdefault(name, set()).update(self._structure.sources[name[0]].key or ())
        work.named.append(Named(self._eraser.row(*name), customer, What.KEY))

    def _add_keys(self, cursor: Cursor, work: _Work, all_orders: Collection[str]) -> None:
        """Rows whose key says who the customer is, and those that name them."""
        names = [name for name in work.customers if name not in work.rows]
        if not names:
            return
        found = self._rows(cursor, "rows_at", **self._numbered(names))
        steps = [(step, name) for step in self._shared_steps for name in names if step.above == name[0]]
        below = {
            "sources": [self._numbers[step.child] for step, _ in steps],
            "parents": [step.prefix + key for step, (_, key) in steps],
        }
        naming = self._rows(cursor, "rows_below", **below) if steps else []
        cursor.execute(_INGEST["no_full_scan"])
        naming += self._rows(cursor, "rows_that_look_up", hashes=sorted({row_hash(*name) for name in names}))
        cursor.execute(_INGEST["full_scan"])
        for row in found:
            work.rows.setdefault((row.source, row.key), row)
        for row in naming:
            if row.root is None or row.root not in all_orders:  # theirs are erased whole
                self._add_naming(work, row, set(names))

    def _add_naming(self, work: _Work, row: StoredRow, names: set[Name]) -> None:
        """A row that names rows which get another key."""
        name = (row.source, row.key)
        work.rows.setdefault(name, row)
        probe = self._eraser.probe(row.source, row.key, row.columns)
        leads = [one for one in (*probe.looks_up, *probe.hangs_below) if (one.source, one.key) in names]
        work.replaced.setdefault(name, set()).update(one.column for one in leads)
        shared = self._structure.sources[row.source].role is Role.SHARED
        if name not in work.customers and leads and shared and self._eraser.is_of_people(row.source):
            work.customers[name] = work.customers[leads[0].source, leads[0].key]
            work.named.append(Named(probe.hash, work.customers[name], What.ROW))

    def _add_people(self, cursor: Cursor, work: _Work, all_orders: Collection[str], erased: Erased) -> None:
        """Looked-up rows of people, such as addresses, over however many rows the way leads."""
        seen: set[Name] = set()
        while targets := {
            (target.source, target.key): work.customers[name]
            for name, row in work.rows.items()
            if name in work.customers
            for target in self._eraser.people_targets(row)
            if (target.source, target.key) not in work.customers.keys() | seen
        }:
            seen |= targets.keys()
            self._add_own_people(cursor, work, targets, all_orders, erased)

    def _add_own_people(
        self,
        cursor: Cursor,
        work: _Work,
        targets: Mapping[Name, bytes],
        all_orders: Collection[str],
        erased: Erased,
    ) -> None:
        if not targets:
            return
        hashes = {row_hash(*name): name for name in targets}
        own = self._numbered(list(work.customers))
        parameters = {
            "hashes": list(hashes),
            "orders": list(all_orders),
            "root": self._numbers[self._eraser.root],
            "mark": ERASED,
            "own_sources": own["sources"],
            "own_keys": own["keys"],
        }
        cursor.execute(_INGEST["no_full_scan"])
        cursor.execute(SQL["looked_up_by_others"], parameters)
        others = {hashes[number] for (number,) in cursor.fetchall()}
        cursor.execute(_INGEST["full_scan"])
        erased.kept_for_others |= others
        alone = {name: customer for name, customer in targets.items() if name not in others}
        work.named += [Named(self._eraser.row(*name), customer, What.ROW) for name, customer in alone.items()]
        for row in self._rows(cursor, "rows_at", **self._numbered(list(alone))):
            name = (row.source, row.key)
            work.rows.setdefault(name, row)
            work.customers[name] = alone[name]

    def _write(self, cursor: Cursor, work: _Work, erased: Erased) -> set[str]:
        """Write what differs; the orders of which a row did."""
        changed: list[tuple[StoredRow, str, dict[str, Any]]] = []
        keys = {one.hash for one in work.named if one.what is What.KEY}
        for name, row in work.rows.items():
            customer, replaced = work.customers.get(name), work.replaced.get(name, set())
            if customer is None:
                columns = {n: self._eraser.stand_in(v) if n in replaced else v for n, v in row.columns.items()}
            elif row.deleted and not row.columns:
                columns = {}
            else:
                columns = self._eraser.blanked(row.source, dict(row.columns), customer, replaced)
                erased.telling.update(
                    self._eraser.telling(row.source, row.columns) if ERASED not in row.columns else ()
                )
            key = row.key
            if self._eraser.row(*name) in keys:
                key = str(self._eraser.stand_in(row.key))
                erased.telling.add(row.key)
            if columns != row.columns or key != row.key:
                changed.append((row, key, columns))
        if changed:
            self._write_rows(cursor, changed)
        erased.looked_at |= work.rows.keys()
        erased.rows += len(changed)
        return {row.root for row, _, _ in changed if row.root is not None}

    def _write_rows(self, cursor: Cursor, changed: Sequence[tuple[StoredRow, str, dict[str, Any]]]) -> None:
        placed = [self._place(row.source, key, columns) for row, key, columns in changed]
        named = {
            "sources": [self._numbers[row.source] for row, _, _ in changed],
            "keys": [row.key for row, _, _ in changed],
            "new_keys": [key for _, key, _ in changed],
        }
        cursor.execute(SQL["drop_rows"], named)
        cursor.execute(
            SQL["write_rows"],
            {
                **named,
                "columns": [columns_json(columns) for _, _, columns in changed],
                # Where a row hangs among those of an order does not change; what it lacks may have told where.
                "parents": [
                    row.parent if row.root is not None or row.parent is None else parent
                    for (row, _, _), (_, parent, _) in zip(changed, placed, strict=True)
                ],
                "refs": ["{" + ",".join(map(str, refs)) + "}" if refs else None for _, _, refs in placed],
            },
        )

    def _records(self, cursor: Cursor, customers: Mapping[str, bytes], changed: set[str], erased: Erased) -> None:
        """The orders' documents. Those of which anything was erased are owed anew."""
        cursor.execute(SQL["lock_records"], {"keys": sorted(customers)})
        owed: list[tuple[int, str, bytes | None, bytes | None, str | None]] = []
        for destination, key, attempted, accepted in cursor.fetchall():
            stands_for = mark_of(customers[key])
            names = set(self._optional)
            bodies: list[bytes | None] = []
            differs = key in changed
            for packed in (attempted, accepted):
                if packed is None:
                    bodies.append(None)
                    continue
                before = zlib.decompress(packed)
                after, left_out = erased_document(before, stands_for)
                erased.telling.update(telling_texts(before) if after != before else ())
                erased.documents += after != before
                differs = differs or after != before
                names |= left_out
                bodies.append(zlib.compress(after, 1))
            if differs:
                erased.orders.add(key)
                owed.append((destination, key, bodies[0], bodies[1], " ".join(sorted(names)) or None))
        if owed:
            columns = ("destinations", "keys", "attempted", "accepted", "clear")
            values = (list(part) for part in zip(*owed, strict=True))
            cursor.execute(SQL["erase_records"], dict(zip(columns, values, strict=True)))

    def _name(self, cursor: Cursor, named: Iterable[Named]) -> None:
        # Strongest first, and each once: a statement cannot touch a row twice.
        by_hash = {one.hash: one for one in sorted(named, key=lambda one: one.what is What.KEY)}
        if by_hash:
            ordered = [by_hash[found] for found in sorted(by_hash)]
            cursor.execute(
                SQL["name"],
                {
                    "hashes": [one.hash for one in ordered],
                    "customers": [one.customer for one in ordered],
                    "whats": [one.what.value for one in ordered],
                },
            )

    def _rows(self, cursor: Cursor, statement: str, **parameters: object) -> list[StoredRow]:
        cursor.execute(SQL[statement], parameters)
        return [self.stored(row) for row in cursor.fetchall() if row[0] in self._names]

    def stored(self, row: Row) -> StoredRow:
        """A row as the statements here give it."""
        source, key, root, columns, unknown, deleted, parent = row
        told = exact_json(columns)
        return StoredRow(self._names[source], key, root, told, frozenset(unknown or ()), deleted, None, parent)

    def _numbered(self, names: Sequence[Name]) -> dict[str, list[Any]]:
        return {"sources": [self._numbers[source] for source, _ in names], "keys": [key for _, key in names]}


def _has_stand_in(known: Mapping[bytes, Named], found: bytes) -> bool:
    return found in known and known[found].what is What.KEY


def telling_texts(body: bytes) -> set[str]:
    """The texts of a document by which its customer can be found elsewhere."""
    order = exact_json(body.decode())
    address = order.get("customer_shipping_address") or {}
    values = [order.get(name) for name in PERSONAL] + [address.get("address1"), order.get("customer_id")]
    return {value for value in values if isinstance(value, str)}
