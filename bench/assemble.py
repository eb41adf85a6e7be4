"""Assemble: orders a second from stored rows to validated bytes, on one core: what delivery does between requests."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import orjson
from rig import Figure, Size, in_turn
from workload import EPOCH_MS, Named, envelope, order_key, order_rows, shared_rows, shop_mapping

from daemon.app import calm_collector
from daemon.document.assemble import Assembler
from daemon.document.outcome import Ready
from daemon.ingest.change import Change, Message
from daemon.ingest.debezium import Decoder
from daemon.mapping.model import Mapping
from daemon.mapping.rows import StoredRow, Wanted
from daemon.state.columns import columns_json
from daemon.state.database import exact_json

WANTED = 3000

Kept: TypeAlias = tuple[str, str, str | None, str]
"""(source, key, root, columns as JSON)"""


def measure(size: Size) -> list[Figure]:
    """From rows as the store hands them out, and from their JSON on with the search for what an order looks up."""
    calm_collector()
    orders = Orders(size.documents)
    plain = Figure("assemble", "orders/s", [], wanted=f">= {WANTED} orders/s")
    whole = Figure("assemble with reading", "orders/s", [], note="from the columns' JSON on, as it comes from Postgres")
    in_turn(
        size.rounds,
        [
            lambda: plain.values.append(size.documents / orders.assemble()),
            lambda: whole.values.append(size.documents / orders.read_and_assemble()),
        ],
    )
    plain.holds = plain.value >= WANTED
    return [plain, whole]


def kept(mapping: Mapping, rows: Iterable[Named], root: str | None) -> list[Kept]:
    """As the mirror keeps them: decoded as ingest does."""
    decoder = Decoder(mapping.structure)
    stored: list[Kept] = []
    for source, key, row in rows:
        value = envelope(source, row, 1, EPOCH_MS)
        topic = mapping.structure.sources[source].topic
        change = decoder.decode(Message(topic, 0, 0, None, orjson.dumps({"id": row.get("id")}), value, None))
        assert isinstance(change, Change), change
        stored.append((source, key, root, columns_json(change.columns)))
    return stored


def _read(rows: Iterable[Kept]) -> list[StoredRow]:
    return [StoredRow(source, key, root, exact_json(columns)) for source, key, root, columns in rows]


class Orders:
    """Orders with the rows that each needs, read once and for all."""

    def __init__(self, count: int) -> None:
        self._mapping = shop_mapping()
        self._shared = {(row.source, row.key): row for row in _read(kept(self._mapping, shared_rows(), None))}
        assembler = Assembler(self._mapping)
        self.texts: dict[str, list[Kept]] = {}
        self.rows: dict[str, list[StoredRow]] = {}
        for number in range(count):
            key = order_key(number)
            self.texts[key] = kept(self._mapping, order_rows(number), key)
            self.rows[key] = assembler.complete(_read(self.texts[key]), self._found)

    def bytes(self) -> float:
        """Of a document, on average."""
        assembler = Assembler(self._mapping)
        outcomes = [assembler.assemble(key, rows) for key, rows in self.rows.items()]
        return sum(len(one.document.body) for one in outcomes if isinstance(one, Ready)) / len(outcomes)

    def assemble(self) -> float:
        """Seconds to assemble all of them once."""
        assembler = Assembler(self._mapping)
        started = time.perf_counter()
        for key, rows in self.rows.items():
            outcome = assembler.assemble(key, rows)
            assert isinstance(outcome, Ready), outcome
        return time.perf_counter() - started

    def read_and_assemble(self) -> float:
        """The same, from the columns' JSON on, with the search for what the order looks up."""
        assembler = Assembler(self._mapping)
        started = time.perf_counter()
        for key, texts in self.texts.items():
            assembler.assemble(key, assembler.complete(_read(texts), self._found))
        return time.perf_counter() - started

    def _found(self, wanted: set[Wanted]) -> Iterator[StoredRow]:
        return (self._shared[one.source, one.key] for one in wanted if (one.source, one.key) in self._shared)
