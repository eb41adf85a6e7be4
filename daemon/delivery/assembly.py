"""From due orders to what is to be done about each: reads their rows, assembles, judges. Changes nothing itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from daemon.delivery.destination import Item, OrderFault
from daemon.delivery.judge import Fault, Next, Post, Rules, Void, judge, posted, settled
from daemon.document.assemble import Assembler
from daemon.document.order import read_document, void_document
from daemon.document.outcome import Document, Ineligible, Outcome, Ready
from daemon.mapping.model import Mapping
from daemon.mapping.rows import StoredRow, Wanted
from daemon.state.delivery_records import DeliveryState, DueOrder, Hold, Holder, Judgement

CHUNK_ORDERS = 200
"""Orders assembled in one go, in a thread beside the event loop: some tens of milliseconds."""

NO_VOID = "it may have been sent before the state went back; neither a document of it is left nor rows to make one of"

MAX_HOPS = 16
"""Look-ups of look-ups. A mapping has a handful; more is a cycle."""


@dataclass(slots=True)
class Gathered:
    """What due orders came to: documents to send, faults, and records to make without a request."""

    items: list[Item] = field(default_factory=list)
    faults: list[OrderFault] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)
    unchanged: set[str] = field(default_factory=set)
    oddities: Counter[str] = field(default_factory=Counter)


class Assembly:
    """Assembles for one destination, `name` in the mapping and number `destination` in the state."""

    def __init__(self, store: DeliveryState, mapping: Mapping, name: str, destination: int, rules: Rules) -> None:
        self._store = store
        self._assembler = Assembler(mapping, name)
        self._root = mapping.root
        self._destination = destination
        self._rules = rules

    async def gather(self, due: Sequence[DueOrder], clock: Callable[[], float]) -> Gathered:
        """Judge these orders by their present rows, which are read after the orders were.

        Items are stamped by the clock once all are there: however slow this machine is, some of them can be sent.
        """
        gathered = Gathered()
        posts: list[tuple[DueOrder, Post]] = []
        for start in range(0, len(due), CHUNK_ORDERS):
            chunk = due[start : start + CHUNK_ORDERS]
            rows = await self._rows(chunk)
            outcomes = await asyncio.to_thread(self._assemble, chunk, rows)
            clearing = await self._last_of_erased(chunk)
            voids: list[tuple[DueOrder, Void]] = []
            for order, outcome in zip(chunk, outcomes, strict=True):
                if order.key in clearing:
                    _sort(gathered, posts, order, posted(order, clearing[order.key], void=order.voided))
                    continue
                verdict = judge(order, outcome, self._rules)
                if isinstance(verdict, Void):
                    voids.append((order, verdict))
                else:
                    _sort(gathered, posts, order, verdict)
                if isinstance(outcome, Ready):
                    gathered.oddities.update(outcome.oddities)
                    if isinstance(verdict, Judgement):
                        gathered.unchanged.add(order.key)
            for order, verdict in await self._voided(voids, rows):
                _sort(gathered, posts, order, verdict)
        await self._claim_ids(gathered, posts, clock)
        return gathered

    async def _last_of_erased(self, chunk: Sequence[DueOrder]) -> dict[str, Document]:
        """Of orders that the API is to lose something of: the last document, which says nothing of it any more.

        It goes first, whatever the order comes to now; then the PATCH; then the order is judged as any other.
        """
        keys = [order.key for order in chunk if order.clear]
        last = await self._store.last_documents(self._destination, keys) if keys else {}
        return {key: read_document(body) for key, body in last.items()}

    async def _rows(self, chunk: Sequence[DueOrder]) -> dict[str, list[StoredRow]]:
        """Of each order all rows, also those that it looks up."""
        rows = await self._store.rows_of([order.key for order in chunk])
        found: dict[Wanted, list[StoredRow]] = {}
        for _ in range(MAX_HOPS):
            missing = await asyncio.to_thread(self._missing, rows.values(), found)
            if not missing:
                break
            found.update({name: [] for name in missing})
            for row in await self._store.rows_at(sorted(missing)):
                for name in (Wanted(row.source, row.key), Wanted(row.source, row.parent or "", below=True)):
                    if name in missing:
                        found[name].append(row)
        return rows

    def _missing(self, orders: Iterable[list[StoredRow]], found: dict[Wanted, list[StoredRow]]) -> set[Wanted]:
        """Shared rows that some order needs and nobody asked for yet. Completes each order's rows by those found."""
        missing: set[Wanted] = set()
        for rows in orders:
            taken: set[Wanted] = set()
            while True:
                wanted = self._assembler.needs(rows) - taken
                here = wanted & found.keys()
                missing |= wanted - here
                if not here:
                    break
                rows.extend(row for name in sorted(here) for row in found[name])
                taken |= here
        return missing

    def _assemble(self, chunk: Sequence[DueOrder], rows: dict[str, list[StoredRow]]) -> list[Outcome]:
        return [
            self._assembler.assemble(order.key, rows[order.key], final=self._rules.patience_ended(order))
            for order in chunk
        ]

    async def _voided(
        self, voids: list[tuple[DueOrder, Void]], rows: dict[str, list[StoredRow]]
    ) -> Iterator[tuple[DueOrder, Next]]:
        """The zeroed form of what was last sent; where that is lost with a future, of what would be sent now."""
        if not voids:
            return iter(())
        last = await self._store.last_documents(self._destination, [order.key for order, _ in voids])

        def verdicts() -> Iterator[tuple[DueOrder, Next]]:
            for order, void in voids:
                body = last.get(order.key)
                if body is None:
                    outcome = self._assembler.assemble(order.key, rows[order.key], final=True, regardless=True)
                    if not isinstance(outcome, Ready):
                        yield order, _without_void(order, outcome)
                        continue
                    body = outcome.document.body
                yield order, posted(order, void_document(body, void.tag), void=True)

        return await asyncio.to_thread(lambda: iter(list(verdicts())))

    async def _claim_ids(
        self, gathered: Gathered, posts: list[tuple[DueOrder, Post]], clock: Callable[[], float]
    ) -> None:
        """One order for each vendor id: whoever holds it, else the first that asks for it."""
        if not posts:
            return
        ids = sorted({post.document.order_id for _, post in posts})
        holders = await self._store.holders(self._destination, ids, self._root)
        claimed = {vendor_id: holder.key for vendor_id, holder in holders.items()}
        owners, at = set(claimed.values()), clock()
        for order, post in sorted(posts, key=lambda one: one[0].key not in owners):
            item = Item(order, post.document, at, post.void, clears=post.clears)
            holder = holders.get(post.document.order_id)
            if claimed.setdefault(post.document.order_id, order.key) == order.key:
                gathered.items.append(item)
            elif post.void:
                gathered.judgements.append(settled(order, Hold.SUPERSEDED))
            elif holder is not None and holder.gone and not holder.in_flight:
                claimed[post.document.order_id] = order.key
                gathered.items.append(replace(item, take_over=holder.key))
            else:
                self._contest(gathered, order, holder)

    def _contest(self, gathered: Gathered, order: DueOrder, holder: Holder | None) -> None:
        """Another order holds the vendor id: a while of patience if it may yet turn out to be gone."""
        flying = holder is not None and holder.in_flight
        unsettled = holder is None or holder.owed
        if flying or (unsettled and not self._rules.patience_ended(order)):
            recheck = self._rules.recheck_secs
            detail = "the API's id of this order belongs to another order that is not settled yet"
            gathered.judgements.append(Judgement(order.key, order.revision, False, Hold.WAITING, detail, recheck))
        else:
            text = "another order was sent under the same id at the API: make `order_id` unique in the mapping"
            gathered.faults.append(OrderFault(order, "duplicate_vendor_id", text))


def _without_void(order: DueOrder, outcome: Outcome) -> Judgement:
    """Of an order that may have been sent in a future that was lost; one of another destination was not sent here."""
    if isinstance(outcome, Ineligible):
        return settled(order, Hold.HELD, outcome.reason)
    return settled(order, Hold.LOST, NO_VOID)


def _sort(gathered: Gathered, posts: list[tuple[DueOrder, Post]], order: DueOrder, verdict: Next) -> None:
    if isinstance(verdict, Post):
        posts.append((order, verdict))
    elif isinstance(verdict, Fault):
        gathered.faults.append(OrderFault(order, verdict.reason, verdict.problems))
    elif isinstance(verdict, Judgement):
        gathered.judgements.append(verdict)
