"""`order-sync erase`: finds what the state holds of one customer and erases it, in steps that may be taken again.

First of all the fold is told, so that nothing comes in any more that would be missed; then a page of orders is a
transaction. Whoever is interrupted runs the command again: what is erased already stays as it is.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import psycopg

from daemon.document.assemble import Assembler
from daemon.errors import SettingsError, StateContended
from daemon.mapping.erasure import ERASED, Eraser, mark_of
from daemon.mapping.model import Mapping as Rules
from daemon.mapping.rows import StoredRow, Wanted
from daemon.settings import Postgres, Settings
from daemon.state import reads
from daemon.state.database import Cursor, Row, connect, exact_json, transaction
from daemon.state.erase import SQL, Erased, StateEraser, eraser_of
from daemon.state.migrate import check_schema
from daemon.state.queries import queries

_INGEST, _MEND = queries("ingest.sql"), queries("mend.sql")

PAGE = 1000  # rows, documents or rejects looked at in one read
ORDERS = 200  # erased in one transaction
ATTEMPTS = 5  # of a transaction that gave way to another
TELLING = 5  # characters of a text by which a reject is taken for this customer's

NEEDS_KEY = (
    "ingest.erase_key_env is not set: what is erased is known again by a keyed hash. Name an environment variable that "
    "holds a long random text (openssl rand -hex 32), for everything that runs on this state, and keep it as long"
)


@dataclass(slots=True)
class Report:
    """What was found or erased, and what there is to know about the rest."""

    orders: int = 0
    rows: int = 0
    documents: int = 0
    rejects: int = 0
    request_errors: int = 0
    rejects_without_bytes: int = 0
    shared_rows_kept: int = 0
    destinations: list[dict[str, Any]] = field(default_factory=list)  # name, waiting, in_flight, paused, halted

    def counting(self, erased: Erased) -> Report:
        """With what was erased."""
        self.orders, self.rows, self.documents = len(erased.orders), erased.rows, erased.documents
        self.shared_rows_kept = len(erased.kept_for_others)
        return self

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


@dataclass(slots=True)
class _Found:
    """The customer's orders: those whose rows say so, and those of which only a stored document does."""

    of_rows: set[str] = field(default_factory=set)
    of_documents: set[str] = field(default_factory=set)
    documents: int = 0

    @property
    def all(self) -> set[str]:
        return self.of_rows | self.of_documents


def erase_customer(
    settings: Settings,
    mapping: Rules,
    customer_id: str,
    who: str,
    *,
    dry_run: bool = False,
    looked: Callable[[int], None] = lambda _: None,
) -> Report:
    """Erase a customer, by the `customer_id` in documents; with `dry_run` only count.

    `looked` is told how many orders or rejects were looked at. Raises SettingsError without a key, or with another key
    than that of earlier erasures; SchemaError; StateUnavailable.
    """
    eraser = eraser_of(settings, mapping)
    if eraser is None:
        raise SettingsError(NEEDS_KEY)
    with connect(settings.postgres) as connection:
        with transaction(connection, settings.postgres) as cursor:
            check_schema(cursor, settings.postgres.schema_name)
        return _Command(connection, settings.postgres, eraser, mapping, customer_id, looked).run(who, dry_run=dry_run)


class _Command:
    def __init__(
        self,
        connection: psycopg.Connection[Row],
        settings: Postgres,
        eraser: Eraser,
        mapping: Rules,
        customer_id: str,
        looked: Callable[[int], None],
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._eraser = eraser
        self._mapping = mapping
        self._assembler = Assembler(mapping)
        self._customer_id = customer_id
        self._customer = eraser.customer(customer_id)
        self._looked = looked
        with self._transaction() as cursor:
            cursor.execute(_INGEST["register_sources"], {"names": sorted(mapping.sources)})
            cursor.execute(_INGEST["read_sources"])
            numbers = {name: number for number, name in cursor.fetchall() if name in mapping.sources}
        self._numbers = numbers
        self._root = numbers[mapping.root]
        self._state = StateEraser(eraser, mapping, numbers)

    def run(self, who: str, *, dry_run: bool) -> Report:
        erased = Erased()
        if dry_run:
            with self._transaction() as cursor:
                self._state.check_key(cursor)
            return self._counted()
        with self._transaction() as cursor:
            self._state.begin(cursor, self._customer)
            arguments = json.dumps({"customer": self._customer.hex()})  # never the id itself
            cursor.execute(_MEND["begin_action"], {"who": who, "command": "erase", "arguments": arguments})
            [(action,)] = cursor.fetchall()
        found, report = self._find(), Report()
        orders = sorted(found.all)
        # By what the orders tell now the rest is found, so the rest goes first: who is interrupted finds it again.
        foreseen = self._foreseen(orders, found)
        telling = foreseen.telling
        self._people(foreseen, orders, erased, given_up=False)
        self._rejects(report, telling, write=True)
        self._requests(report, orders, telling, write=True)
        for start in range(0, len(orders), ORDERS):
            before = len(erased.orders)
            self._erase(orders[start : start + ORDERS], found, erased)
            with self._transaction() as cursor:
                cursor.execute(_MEND["count_action"], {"action": action, "affected": len(erased.orders) - before})
        self._standing(report, orders)
        return report.counting(erased)

    def _counted(self) -> Report:
        """What `run` would find."""
        found, report = self._find(), Report()
        orders = sorted(found.all)
        erased = self._foreseen(orders, found)
        telling = set(erased.telling)
        self._people(erased, orders, erased, given_up=True)
        self._rejects(report, telling, write=False)
        self._requests(report, orders, telling, write=False)
        self._standing(report, orders)
        return report.counting(erased)

    def _foreseen(self, orders: Sequence[str], found: _Found) -> Erased:
        """What will be erased of these orders: it is, in transactions that are given up."""
        erased = Erased()
        for start in range(0, len(orders), ORDERS):
            self._erase(orders[start : start + ORDERS], found, erased, given_up=True)
        return erased

    # The customer's orders

    def _find(self) -> _Found:
        found = _Found()
        said: dict[str, str | None] = {}
        for row in self._roots():
            told = self._told(row)
            if told is None:
                continue
            if told in (self._customer_id, mark_of(self._customer)):
                found.of_rows.add(row.key)
            elif told:
                said[row.key] = told
        needle = b'"customer_id":' + json.dumps(self._customer_id, ensure_ascii=False).encode()
        for key, bodies in self._documents():
            if any(needle in body for body in bodies):
                found.documents += 1
                # Rows that are gone, or say nothing of a customer, are the customer's too.
                (found.of_documents if said.get(key) else found.of_rows).add(key)
        return found

    def _roots(self) -> Iterator[StoredRow]:
        after = ""
        while True:
            with self._transaction() as cursor:
                cursor.execute(SQL["row_page"], {"source": self._root, "after": after, "limit": PAGE})
                page = cursor.fetchall()
            for key, columns, unknown in page:
                yield StoredRow(self._mapping.root, key, key, exact_json(columns), frozenset(unknown or ()))
            self._looked(len(page))
            if len(page) < PAGE:
                return
            after = page[-1][0]

    def _told(self, row: StoredRow) -> str | None:
        mark = row.columns.get(ERASED)
        if isinstance(mark, str):
            return mark
        told = self._eraser.customer_id(row.key, [row]) if self._eraser.by_root_alone else None
        if told is not None or self._eraser.needs_root_alone:
            return told
        with self._transaction() as cursor:
            rows = reads.rows_of_order(cursor, row.key)

            def read(wanted: set[Wanted]) -> Iterable[StoredRow]:
                return reads.rows_at(cursor, wanted)

            return self._eraser.customer_id(row.key, self._assembler.complete(rows, read))

    def _documents(self) -> Iterator[tuple[str, list[bytes]]]:
        destination, after = -1, ""
        while True:
            with self._transaction() as cursor:
                cursor.execute(SQL["document_page"], {"destination": destination, "after": after, "limit": PAGE})
                page = cursor.fetchall()
            for _, key, attempted, accepted in page:
                yield key, [zlib.decompress(packed) for packed in (attempted, accepted) if packed is not None]
            self._looked(len(page))
            if len(page) < PAGE:
                return
            destination, after = page[-1][0], page[-1][1]

    # What is done

    def _erase(self, page: Sequence[str], found: _Found, erased: Erased, *, given_up: bool = False) -> None:
        of_rows = {key: self._customer for key in page if key in found.of_rows}
        documents = {key: self._customer for key in page if key not in found.of_rows}
        for attempt in range(ATTEMPTS):
            made = Erased()
            try:
                with self._transaction(given_up=given_up) as cursor:
                    cursor.execute(_INGEST["lock_mirror"])
                    self._state.orders(cursor, of_rows, found.all, made, documents=documents)
            except StateContended:
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(0.1)
            else:
                erased.add(made)
                return

    def _people(self, foreseen: Erased, orders: Sequence[str], erased: Erased, *, given_up: bool) -> None:
        """Rows of people that no order leads to any more, such as an address before another one, and that tell nothing
        but what this customer's rows tell."""
        for source in self._state.shared_people:
            after = ""
            while True:
                with self._transaction(given_up=given_up) as cursor:
                    parameters = {"source": self._numbers[source], "after": after, "limit": PAGE}
                    cursor.execute(SQL["row_page"], parameters)
                    page = cursor.fetchall()
                    same = [
                        (source, key)
                        for key, columns, _ in page
                        if (source, key) not in foreseen.looked_at and self._same(source, columns, foreseen.telling)
                    ]
                    if same:
                        cursor.execute(_INGEST["lock_mirror"])
                        self._state.people(cursor, dict.fromkeys(same, self._customer), orders, erased)
                self._looked(len(page))
                if len(page) < PAGE:
                    break
                after = page[-1][0]

    def _same(self, source: str, columns: str, telling: Collection[str]) -> bool:
        told = exact_json(columns)
        texts = [] if ERASED in told else [text for text in self._eraser.telling(source, told) if text]
        return len(texts) > 1 and all(text in telling for text in texts)

    def _rejects(self, report: Report, telling: Collection[str], *, write: bool) -> None:
        """Of rejects that name the customer, or are of erased rows, a digest is kept, as where columns are hashed."""
        needles = [text for text in {*telling, self._customer_id} if len(text) >= TELLING]
        names_them = _naming(needles)
        after = 0
        while True:
            with self._transaction() as cursor:
                cursor.execute(SQL["reject_page"], {"after": after, "limit": PAGE})
                page = cursor.fetchall()
                names = {(source, key) for _, source, key, *_ in page if source and key}
                new_keys = self._state.erased_keys(cursor, names)
                reduced: list[tuple[int, bytes, str | None]] = []
                for number, source, key, raw_key, value, headers, digested in page:
                    report.rejects_without_bytes += digested
                    content = b"\x00".join(
                        (raw_key or b"", value or b"", (headers or "").encode(), (key or "").encode())
                    )
                    name = (source, key)
                    if digested and new_keys.get(name, key) == key:
                        continue
                    if name in new_keys or names_them(content):
                        digest = hashlib.sha256(value or b"").digest()
                        reduced.append((number, digest, new_keys.get(name, key)))
                if reduced and write:
                    ids, digests, row_keys = (list(part) for part in zip(*reduced, strict=True))
                    cursor.execute(SQL["reduce_rejects"], {"ids": ids, "digests": digests, "row_keys": row_keys})
            report.rejects += len(reduced)
            self._looked(len(page))
            if len(page) < PAGE:
                return
            after = page[-1][0]

    def _requests(self, report: Report, orders: Collection[str], telling: Collection[str], *, write: bool) -> None:
        """What the vendor said about requests may quote what it was sent."""
        texts = sorted((text for text in {*telling, self._customer_id} if len(text) >= TELLING), key=len, reverse=True)
        with self._transaction() as cursor:
            cursor.execute(SQL["requests_with_errors"], {"keys": list(orders)})
            found = cursor.fetchall()
            changed = [(number, new) for number, error in found if (new := _without(error, texts)) != error]
            if changed and write:
                ids, errors = (list(part) for part in zip(*changed, strict=True))
                cursor.execute(SQL["rewrite_errors"], {"ids": ids, "errors": errors})
        report.request_errors = len(changed)
        self._last_errors(texts, write=write)

    def _last_errors(self, texts: Sequence[str], *, write: bool) -> None:
        """An error of a request stands at every order of it, those of others too."""
        destination, after = -1, ""
        while True:
            with self._transaction() as cursor:
                cursor.execute(SQL["error_page"], {"destination": destination, "after": after, "limit": PAGE})
                page = cursor.fetchall()
                changed = [(*row, new) for row in page if (new := _without(row[2], texts)) != row[2]]
                if changed and write:
                    columns = (list(part) for part in zip(*changed, strict=True))
                    names = ("destinations", "keys", "old", "new")
                    cursor.execute(SQL["rewrite_last_errors"], dict(zip(names, columns, strict=True)))
            self._looked(len(page))
            if len(page) < PAGE:
                return
            destination, after = page[-1][0], page[-1][1]

    def _standing(self, report: Report, orders: Collection[str]) -> None:
        with self._transaction() as cursor:
            cursor.execute(SQL["standing_of_orders"], {"keys": list(orders)})
            names = ("name", "paused", "halted", "waiting", "in_flight")
            report.destinations = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    @contextmanager
    def _transaction(self, *, given_up: bool = False) -> Iterator[Cursor]:
        try:
            with transaction(self._connection, self._settings) as cursor:
                yield cursor
                if given_up:
                    raise _GivenUp  # noqa: TRY301 - rolls back
        except _GivenUp:
            return


class _GivenUp(Exception):  # noqa: N818 - a signal: nothing of the transaction is to stay
    """The transaction was for counting alone."""


def _naming(texts: Iterable[str]) -> Callable[[bytes], bool]:
    """Whether bytes hold one of these texts; digits as a whole number only, as ids are short and numbers many."""
    needles = set[bytes]()
    for text in texts:
        written = {form.encode("utf-8", "surrogatepass") for form in (text, json.dumps(text)[1:-1])}
        whole = (rb"(?<!\d)", rb"(?!\d)") if text.isdecimal() else (b"", b"")
        needles |= {re.escape(form).join(whole) for form in written}
    pattern = re.compile(b"|".join(sorted(needles)))
    return lambda content: bool(needles) and pattern.search(content) is not None


def _without(text: str, parts: Iterable[str]) -> str:
    for part in parts:
        text = text.replace(part, "***")
    return text
