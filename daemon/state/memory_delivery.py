"""The memory twin of the delivery store, held to it by one contract suite. Its clock is a parameter.

`touch` and `put_row` stand in for ingest; `pause`, `ask`, `release_guarded`, `discard_guarded` and `erase` for an
operator's commands; everything else is `DeliveryState`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from daemon.errors import LeaseLost, Superseded
from daemon.mapping.rows import StoredRow, Wanted
from daemon.state.delivery_records import (
    UNDONE,
    Asked,
    Counts,
    Drift,
    DueOrder,
    Fate,
    Freshness,
    Gone,
    Hold,
    Holder,
    Judgement,
    Lease,
    LedgerEntry,
    OpenRequest,
    Outgoing,
    Parked,
    Placed,
    Settled,
    Settlement,
    Standing,
    array_bytes,
)
from daemon.state.delivery_store import check_identity
from daemon.state.era import FIRST, Era
from daemon.state.schedule import Lane

NEVER = float("-inf")
HOUR = 3600.0


@dataclass(slots=True)
class OrderRecord:
    """One order's record: the columns of order_sync. Times are epoch seconds."""

    key: str
    lane: int
    due_at: float
    revision: int = 1
    first_change: float | None = None
    first_commit: float | None = None
    not_before: float = NEVER
    settled_revision: int = 0
    request: int | None = None
    sent_revision: int = 0
    sent_first_change: float | None = None
    sent_first_commit: float | None = None
    accepted_at: float | None = None
    attempts: int = 0
    ever_attempted: bool = False
    send_alone: bool = False
    voided: bool = False
    vendor_order_id: str | None = None
    digest: bytes | None = None
    mapping_version: str | None = None
    quarantine_revision: int | None = None
    quarantine_mapping: str | None = None
    quarantine_reason: str | None = None
    quarantined_at: float | None = None
    hold: Hold | None = None
    hold_detail: str | None = None
    hold_since: float | None = None
    last_error: str | None = None
    last_attempted: bytes | None = None
    last_accepted: bytes | None = None
    parked_revision: int | None = None
    placed_at: float | None = None
    body_bytes: int | None = None
    zeroed: bool = False
    owed_era: int = 0
    digest_era: int = 0
    erased_revision: int = 0
    clear: tuple[str, ...] = ()

    def owed(self) -> bool:
        """Whether a delivery is owed."""
        return self.revision > self.settled_revision

    def due(self, now: float) -> bool:
        """Whether it may be sent now."""
        sendable = self.owed() and self.request is None and not self.held_back()
        return sendable and max(self.due_at, self.not_before) <= now

    def held_back(self) -> bool:
        """Whether it is in quarantine or parked, at this revision."""
        return self.revision in (self.quarantine_revision, self.parked_revision)

    def parked(self) -> bool:
        """Whether it was judged at this revision and must not be sent yet."""
        return self.parked_revision == self.revision

    def hold_back(self, until: float) -> None:
        """Not before then."""
        self.not_before = max(self.not_before, until)


@dataclass(slots=True)
class RequestRecord:
    """One row of delivery_request."""

    id: int
    lane: int
    epoch: int
    size: int
    keys: tuple[str, ...]
    revisions: tuple[int, ...]
    outcome: str | None = None
    status: int | None = None
    counts_until: float | None = None
    zeroed: int = 0
    clears: bool = False


@dataclass(slots=True)
class DestinationRecord:
    """A destination with its lease, orders and requests."""

    id: int
    name: str
    base_url: str
    client_id: str
    standing: Standing = field(default_factory=Standing)
    paused_until: float = NEVER
    paused_at: float | None = None
    halted_at: float | None = None
    epoch: int = 0
    holder: UUID | None = None
    renewals: int = 0
    expires_at: float = NEVER
    orders: dict[str, OrderRecord] = field(default_factory=dict)
    requests: dict[int, RequestRecord] = field(default_factory=dict)


@dataclass(slots=True)
class EraRecord:
    """One row of era."""

    began_at: float
    cause: str
    targeted: bool = True
    replaying: bool = False


class MemoryDeliveryStore:
    """See `DeliveryState` for what each method promises."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._destinations: dict[int, DestinationRecord] = {}
        self._rows: dict[tuple[str, str], StoredRow] = {}
        self._last_request = 0
        self.gate_closed = False
        """Ingest folds a backlog: nothing is due."""
        self.reconciled: dict[int, Drift] = {}
        """The result of the newest reconcile, by destination."""
        self.eras: list[EraRecord] = [EraRecord(NEVER, FIRST.cause)]
        """The last one is the present."""
        self.mapping_in_force = ""
        """Sends and judgements under another one are refused, where one is named."""

    # What ingest does

    def put_row(self, row: StoredRow) -> None:
        """The row as it is now."""
        self._rows[row.source, row.key] = row

    def begin_era(self, cause: str) -> None:
        """Ingest, or somebody who met another server, saw that the state went back."""
        self.eras.append(EraRecord(self._clock(), cause, targeted=False, replaying=True))
        for record in self._destinations.values():
            record.epoch += 1
            record.holder, record.expires_at = None, NEVER

    def replay(self) -> None:
        """Ingest noted how far it reads again; until then `gate_closed` is its affair."""
        self.eras[-1].targeted = True

    def end_replay(self) -> None:
        """Ingest has read again what there was."""
        self.eras[-1].replaying = False

    @property
    def _era(self) -> int:
        return len(self.eras) - 1

    def touch(self, destination: int, key: str, *, lane: int = 0, due_in: float = 0.0) -> None:
        """The order changed: owed, due in so many seconds."""
        now = self._clock()
        orders = self._destinations[destination].orders
        record = orders.get(key)
        era = self._era - self.eras[-1].replaying
        if record is None:
            orders[key] = OrderRecord(key, lane, now + due_in, first_change=now, first_commit=now, owed_era=era)
            return
        record.lane = min(record.lane, lane) if record.owed() else lane
        record.owed_era = min(record.owed_era, era) if record.owed() else era
        record.revision += 1
        record.due_at = now + due_in
        record.first_change = now if record.first_change is None else record.first_change
        record.first_commit = now if record.first_commit is None else record.first_commit

    # What an operator does

    def pause(self, destination: int, *, paused: bool) -> None:
        """Pause or resume; the latter lifts a halt too."""
        record = self._destinations[destination]
        record.standing = replace(record.standing, paused=paused, halted=record.standing.halted if paused else None)
        record.paused_at = self._clock() if paused else None
        record.halted_at = record.halted_at if paused else None

    def ask(self, destination: int, placed: Placed | None) -> None:
        """Ask for orders of the backfill; None: for none any more."""
        record = self._destinations[destination]
        before = record.standing.asked
        if placed is None or before is None or before.placed != placed:
            record.standing = replace(record.standing, asked=None if placed is None else Asked(placed))

    def release_guarded(self, destination: int, keys: Collection[str]) -> None:
        """Let these be zeroed."""
        for order in self._guarded(destination, keys):
            order.zeroed = order.ever_attempted = True
            order.owed_era = self._era
            _unpark(order)

    def discard_guarded(self, destination: int, keys: Collection[str]) -> None:
        """Have the API keep what it has of these, until they change."""
        for order in self._guarded(destination, keys):
            _unpark(order)
            order.hold, order.hold_since = Hold.DISCARDED, self._clock()
            order.settled_revision, order.ever_attempted = order.revision, True
            order.first_change = order.first_commit = None

    def erase(
        self, destination: int, keys: Collection[str], change: Callable[[bytes], bytes], clear: list[str]
    ) -> None:
        """Change the documents of these orders, which are owed anew; the API is to lose these attributes of them."""
        for order in (self._destinations[destination].orders[key] for key in keys):
            for name in ("last_attempted", "last_accepted"):
                packed = getattr(order, name)
                if packed is not None:
                    setattr(order, name, zlib.compress(change(zlib.decompress(packed)), 1))
            if not order.owed():
                order.owed_era, order.due_at = self._era, self._clock()
                order.lane = Lane.LIVE if order.accepted_at is not None else order.lane
            order.revision += 1
            order.erased_revision = order.revision
            order.digest = order.last_error = order.hold_detail = None
            order.first_change = self._clock() if order.first_change is None else order.first_change
            if order.ever_attempted and order.vendor_order_id is not None:
                order.clear = order.clear or tuple(clear)

    def _guarded(self, destination: int, keys: Collection[str]) -> list[OrderRecord]:
        orders = self._destinations[destination].orders
        named = [orders[key] for key in keys if key in orders]
        return [order for order in named if order.parked() and order.hold is Hold.GUARDED]

    def destination(self, destination: int) -> DestinationRecord:
        """The destination itself, for a look."""
        return self._destinations[destination]

    # DeliveryState

    async def register(self, name: str, base_url: str, client_id: str) -> int:
        known = [
            one
            for one in self._destinations.values()
            if one.name == name or (one.base_url, one.client_id) == (base_url, client_id)
        ]
        check_identity(name, base_url, client_id, [(one.name, one.base_url, one.client_id) for one in known])
        if known:
            return known[0].id
        number = len(self._destinations) + 1
        standing = Standing(registered_at=self._clock())
        self._destinations[number] = DestinationRecord(number, name, base_url, client_id, standing)
        return number

    async def take_lease(self, destination: int, holder: UUID, secs: float) -> Lease | None:
        record, now = self._destinations[destination], self._clock()
        if record.expires_at >= now:
            return None
        record.epoch += 1
        record.renewals = 0
        record.holder, record.expires_at = holder, now + secs
        return Lease(destination, record.epoch, holder)

    async def renew_lease(self, lease: Lease, secs: float) -> Lease:
        record = self._led(lease)
        record.expires_at = self._clock() + secs
        record.renewals += 1
        return replace(lease, renewals=record.renewals)

    async def release_lease(self, lease: Lease) -> None:
        record = self._destinations[lease.destination]
        if _holds(record, lease):
            record.expires_at = NEVER

    async def inherit(self, lease: Lease, hold_secs: float) -> tuple[list[OpenRequest], list[LedgerEntry]]:
        record, now = self._led(lease), self._clock()
        open_requests = [request for request in record.requests.values() if request.counts_until is None]
        numbers = {request.id for request in open_requests}
        for order in record.orders.values():
            if order.request in numbers:
                order.digest = None
                order.hold_back(now + hold_secs)
        ledger = [
            LedgerEntry(request.lane, request.size, request.counts_until - now, request.zeroed)
            for request in record.requests.values()
            if request.counts_until is not None and request.counts_until > now - (HOUR if request.zeroed else 0.0)
        ]
        return [OpenRequest(one.id, one.lane, one.size, one.keys, one.zeroed) for one in open_requests], ledger

    async def era(self) -> Era:
        record = self.eras[-1]
        secs = self._clock() - record.began_at
        return Era(self._era, "memory", secs, record.cause, record.targeted, record.replaying)

    async def standing(self, destination: int) -> Standing:
        record = self._destinations[destination]
        return replace(record.standing, pause_secs=max(record.paused_until - self._clock(), 0.0))

    async def save_standing(self, lease: Lease, standing: Standing, *, was_halted: bool = False) -> None:
        record = self._led(lease)
        known = record.standing
        if was_halted and known.halted is None:
            standing = replace(standing, halted=None)
        record.standing = replace(standing, paused=known.paused, registered_at=known.registered_at, asked=known.asked)
        if standing.halted is None or record.halted_at is None:
            record.halted_at = None if standing.halted is None else self._clock()
        record.paused_until = self._clock() + standing.pause_secs if standing.pause_secs > 0 else NEVER

    async def due(self, destination: int, lane: int, limit: int, busy: Collection[str]) -> list[DueOrder]:
        now, away = self._clock(), frozenset(busy)
        orders = [] if self._held() else self._destinations[destination].orders.values()
        found = [order for order in orders if order.lane == lane and order.due(now) and order.key not in away]
        found.sort(key=lambda order: max(order.due_at, order.not_before))
        return [_due(order, now, self._era) for order in found[:limit]]

    async def due_among(self, destination: int, keys: Collection[str]) -> list[DueOrder]:
        now, orders = self._clock(), {} if self._held() else self._destinations[destination].orders
        era = self._era
        return [_due(orders[key], now, era) for key in sorted(set(keys)) if key in orders and orders[key].due(now)]

    def _held(self) -> bool:
        """Ingest folds a backlog, or is about to."""
        return self.gate_closed or not self.eras[-1].targeted

    async def rows_of(self, roots: Collection[str]) -> dict[str, list[StoredRow]]:
        found: dict[str, list[StoredRow]] = {root: [] for root in roots}
        for row in self._rows.values():
            if row.root is not None and row.root in found:
                found[row.root].append(row)
        return found

    async def rows_at(self, wanted: Collection[Wanted]) -> list[StoredRow]:
        keyed = [self._rows[name.source, name.key] for name in wanted if not name.below and name[:2] in self._rows]
        hanging = [name for name in wanted if name.below]
        return keyed + [row for row in self._rows.values() for name in hanging if name.fits(row)]

    async def last_documents(self, destination: int, keys: Collection[str]) -> dict[str, bytes]:
        orders = self._destinations[destination].orders
        last = {key: orders[key].last_accepted or orders[key].last_attempted for key in keys if key in orders}
        return {key: zlib.decompress(body) for key, body in last.items() if body is not None}

    async def holders(self, destination: int, vendor_ids: Collection[str], root_source: str) -> dict[str, Holder]:
        found = {}
        for order in self._destinations[destination].orders.values():
            if order.vendor_order_id is not None and order.vendor_order_id in vendor_ids:
                row = self._rows.get((root_source, order.key))
                gone = order.voided or order.hold is Hold.DELETED or (row is not None and row.deleted)
                found[order.vendor_order_id] = Holder(
                    order.key, order.vendor_order_id, gone, order.owed(), self._flies(order)
                )
        return found

    def _flies(self, order: OrderRecord) -> bool:
        """A request of it is open, or may still land."""
        return order.request is not None or order.not_before > self._clock()

    async def next_request(self) -> int:
        self._last_request += 1
        return self._last_request

    async def reserve(
        self, lease: Lease, request: int, lane: int, orders: Sequence[Outgoing], mapping_version: str
    ) -> list[str]:
        record, now = self._led_under(lease, mapping_version), self._clock()
        going = [order for order in orders if not self._held() and _can_go(record.orders, order, now)]
        if not going or request in record.requests:
            return []
        for order in going:
            if order.take_over is not None:
                self._give_up(record.orders[order.take_over], now)
        record.requests[request] = RequestRecord(
            request,
            lane,
            lease.epoch,
            array_bytes(order.body for order in going),
            tuple(order.key for order in going),
            tuple(order.revision for order in going),
            zeroed=sum(order.zeroes for order in going),
            clears=any(order.clears for order in going),
        )
        for order in going:
            _put_in_flight(record.orders[order.key], order, request, mapping_version)
        return [order.key for order in going]

    def _give_up(self, order: OrderRecord, now: float) -> None:
        order.vendor_order_id, order.digest = None, None
        order.hold, order.hold_since = Hold.SUPERSEDED, now

    async def settle(self, lease: Lease, settlement: Settlement) -> list[Freshness]:
        record, now = self._led(lease), self._clock()
        request = record.requests.get(settlement.request)
        if request is None:
            record.requests[settlement.request] = RequestRecord(
                settlement.request, 0, lease.epoch, 0, (), (), settlement.outcome, counts_until=now
            )
            return []
        if request.counts_until is not None:
            return []
        request.outcome, request.status, request.zeroed = settlement.outcome, settlement.status, settlement.zeroed
        request.counts_until = now + settlement.counts_secs
        accepted = []
        for one in settlement.orders:
            order = record.orders.get(one.key)
            if order is None or order.request != settlement.request:
                continue
            _land(order, one, now)
            order.digest_era = self._era
            if one.fate is Fate.ACCEPTED:
                commit = order.sent_first_commit
                accepted.append(Freshness(one.key, order.lane, None if commit is None else now - commit))
        return accepted

    async def judge(self, lease: Lease, judgements: Iterable[Judgement], mapping_version: str) -> list[str]:
        record, now, held = self._led_under(lease, mapping_version), self._clock(), []
        for one in judgements:
            order = record.orders.get(one.key)
            if order is None or order.revision != one.revision or order.request is not None or not order.owed():
                continue
            order.ever_attempted = order.ever_attempted or (one.settle and order.owed_era < self._era)
            _apply(order, one, mapping_version, now)
            held.append(one.key)
        return held

    async def reopen(self, destination: int, keys: Collection[str], hold_secs: float) -> None:
        now, orders = self._clock(), self._destinations[destination].orders
        for order in (orders[key] for key in keys if key in orders):
            order.owed_era = order.owed_era if order.owed() else self._era
            order.revision += 1
            order.digest = None
            order.first_change = now if order.first_change is None else order.first_change
            order.hold_back(now + hold_secs)

    async def release_quarantines(self, lease: Lease, mapping_version: str, limit: int) -> int:
        held = [
            order
            for _, order in sorted(self._led(lease).orders.items())
            if order.quarantine_revision is not None and order.quarantine_mapping != mapping_version
        ]
        for order in held[:limit]:
            order.quarantine_revision = None
        return len(held[:limit])

    async def resend_changed(
        self, lease: Lease, mapping_version: str, after: str, limit: int
    ) -> tuple[str | None, int]:
        orders, now = self._led_under(lease, mapping_version).orders, self._clock()
        page = sorted(key for key in orders if key > after)[:limit]
        wanted = [orders[key] for key in page if _judged_otherwise(orders[key], mapping_version)]
        for order in wanted:
            if not order.owed():
                order.lane, order.due_at, order.owed_era = Lane.BACKFILL, now, self._era
            order.revision += 1
            order.first_change = now if order.first_change is None else order.first_change
        return (page[-1] if page else None), len(wanted)

    async def drift(self, destination: int) -> Drift | None:
        return self.reconciled.get(destination)

    async def release_parked(self, lease: Lease, hold: Hold, placed: Placed, limit: int) -> list[str]:
        record, now = self._led(lease), self._clock()
        found = [
            (order.placed_at, order.key, order)
            for order in record.orders.values()
            if order.parked() and order.hold is hold and order.placed_at is not None and order.placed_at in placed
        ]
        page = sorted(found)[:limit]
        for number, (_, _, order) in enumerate(page, 1):
            _unpark(order)
            order.hold_back(now + number * 1e-6)
        asked = record.standing.asked
        if page and hold is Hold.BACKFILL and asked is not None and asked.placed == placed:
            record.standing = replace(record.standing, asked=Asked(placed, max(asked.reached, page[-1][0])))
        return [key for _, key, _ in page]

    async def let_go(self, request_keep_secs: float, action_keep_secs: float) -> Gone:  # noqa: ARG002 - it keeps none
        before, gone = self._clock() - request_keep_secs, 0
        for record in self._destinations.values():
            old = [one.id for one in record.requests.values() if (one.counts_until or before) < before]
            gone += bool(old)
            for number in old:
                del record.requests[number]
        return Gone(gone)

    async def counts(self, destination: int) -> Counts:
        now, record = self._clock(), self._destinations[destination]
        counts = dict.fromkeys(("owed_live", "owed_backfill", "in_flight", "quarantined", "waiting"), 0)
        oldest: dict[int, float] = {}
        waits = 0.0
        orders = record.orders.values()
        counts["held"] = sum(order.hold is Hold.HELD and not order.owed() for order in orders)
        counts["lost"] = sum(order.hold is Hold.LOST and not order.owed() for order in orders)
        for order in orders:
            if not order.owed() or order.parked():
                continue
            state = _state(order)
            counts[state] += 1
            first = order.first_change
            if first is None and order.request is not None:
                first = order.sent_first_change
            age = now - first if first is not None and order.quarantine_revision != order.revision else 0.0
            oldest[order.lane] = max(oldest.get(order.lane, 0.0), age)
            if state == "waiting" and order.hold_since is not None:
                waits = max(waits, now - order.hold_since)
        since = {"paused": record.paused_at, "halted": record.halted_at}
        holds = {name: 0.0 if at is None else now - at for name, at in since.items()}
        return Counts(counts, oldest, {"waiting": waits, **holds, "gate": 0.0})

    async def parked(self, destination: int) -> Mapping[Hold, Parked]:
        now, found = self._clock(), dict[Hold, Parked]()
        for order in self._destinations[destination].orders.values():
            if order.parked() and order.hold is not None:
                before = found.get(order.hold, Parked(0, 0, 0.0))
                age = now - (now if order.hold_since is None else order.hold_since)
                size = before.size + (order.body_bytes or 0)
                found[order.hold] = Parked(before.orders + 1, size, max(before.oldest_secs, age))
        return found

    def _led_under(self, lease: Lease, mapping_version: str) -> DestinationRecord:
        record = self._led(lease)
        if self.mapping_in_force not in ("", mapping_version):
            raise Superseded(f"mapping {self.mapping_in_force} is in force now, this process has {mapping_version}")
        return record

    def _led(self, lease: Lease) -> DestinationRecord:
        record = self._destinations[lease.destination]
        if not _holds(record, lease):
            raise LeaseLost(f"another process delivers to destination {lease.destination} now")
        return record


def _judged_otherwise(order: OrderRecord, mapping_version: str) -> bool:
    """Ever accepted, judged under another mapping, and neither assembled anew in any case nor kept by a person."""
    settled = order.request is not None or not (order.owed() or order.hold is Hold.DISCARDED)
    return order.accepted_at is not None and settled and order.mapping_version != mapping_version


def _holds(record: DestinationRecord, lease: Lease) -> bool:
    return (record.epoch, record.holder) == (lease.epoch, lease.holder) and record.renewals >= lease.renewals


def _state(order: OrderRecord) -> str:
    if order.request is not None:
        return "in_flight"
    if order.quarantine_revision == order.revision:
        return "quarantined"
    if order.hold is Hold.WAITING:
        return "waiting"
    return "owed_backfill" if order.lane else "owed_live"


def _due(order: OrderRecord, now: float, era: int) -> DueOrder:
    waited = now - order.hold_since if order.hold is Hold.WAITING and order.hold_since is not None else 0.0
    return DueOrder(
        order.key,
        order.lane,
        order.revision,
        now,
        order.digest if order.digest_era == era else None,
        order.ever_attempted or order.owed_era < era,
        order.voided,
        order.send_alone,
        order.vendor_order_id if order.ever_attempted else None,
        waited,
        order.zeroed and order.owed_era == era,
        not order.ever_attempted and order.owed_era < era,
        order.clear,
    )


def _unpark(order: OrderRecord) -> None:
    order.parked_revision = order.hold = order.hold_detail = order.hold_since = None


def _can_go(orders: dict[str, OrderRecord], going: Outgoing, now: float) -> bool:
    order = orders.get(going.key)
    if order is None or order.request is not None or order.held_back():
        return False
    if not order.settled_revision < going.revision <= order.revision or going.revision < order.erased_revision:
        return False
    return not any(
        other.vendor_order_id == going.vendor_order_id
        and other.key != going.key
        and (other.key != going.take_over or other.request is not None or other.not_before > now)
        for other in orders.values()
    )


def _put_in_flight(order: OrderRecord, going: Outgoing, request: int, mapping_version: str) -> None:
    newer = order.revision > going.revision
    order.request = request
    order.sent_revision = going.revision
    order.sent_first_change, order.sent_first_commit = order.first_change, order.first_commit
    order.first_change = going.read_at if newer else None
    order.first_commit = going.read_at if newer else None
    order.digest = None
    order.ever_attempted = True
    order.vendor_order_id = going.vendor_order_id
    order.mapping_version = mapping_version
    order.placed_at, order.zeroed = going.placed_at, going.zero
    if not going.clears:
        order.last_attempted, order.body_bytes = zlib.compress(going.body, 1), len(going.body)


def _older(one: float | None, other: float | None) -> float | None:
    known = [time for time in (one, other) if time is not None]
    return min(known, default=None)


def _land(order: OrderRecord, end: Settled, now: float) -> None:
    order.request = None
    untouched = order.revision == order.sent_revision
    order.digest = end.digest if end.fate in (Fate.ACCEPTED, Fate.NOT_SENT) and untouched else None
    order.ever_attempted = end.attempted_before if end.fate in UNDONE else True
    order.zeroed = end.zeroed_before if end.fate in UNDONE else order.zeroed
    order.clear = order.clear if order.ever_attempted else ()
    if end.hold_secs > 0:
        order.hold_back(now + end.hold_secs)
    if end.fate is Fate.ACCEPTED:
        _accept(order, end, now)
        return
    order.first_change = _older(order.first_change, order.sent_first_change)
    order.first_commit = _older(order.first_commit, order.sent_first_commit)
    order.last_error = end.detail or order.last_error
    if end.fate is Fate.QUARANTINED:
        order.quarantine_revision = order.sent_revision
        order.quarantine_mapping, order.quarantine_reason = order.mapping_version, end.reason
        order.quarantined_at = now
        order.attempts += 1
        order.send_alone = True


def _accept(order: OrderRecord, end: Settled, now: float) -> None:
    clearing = bool(order.clear)
    if not clearing or (end.clears and order.hold is Hold.DISCARDED):
        order.settled_revision = max(order.settled_revision, order.sent_revision)
    if clearing:
        order.first_change = _older(order.first_change, order.sent_first_change)
        order.first_commit = _older(order.first_commit, order.sent_first_commit)
        order.clear = () if end.clears else order.clear
    else:
        order.hold = order.hold_detail = order.hold_since = None
    order.accepted_at, order.last_accepted, order.voided = now, order.last_attempted, end.void
    order.attempts, order.send_alone = 0, False
    order.last_error = order.parked_revision = None
    order.quarantine_revision = order.quarantine_mapping = order.quarantine_reason = order.quarantined_at = None


def _apply(order: OrderRecord, one: Judgement, mapping_version: str, now: float) -> None:
    order.mapping_version = mapping_version
    order.parked_revision = one.revision if one.parked else None
    order.zeroed = order.zeroed if one.zero is None else one.zero
    order.placed_at = order.placed_at if one.placed_at is None else one.placed_at
    order.body_bytes = order.body_bytes if one.body_bytes is None else one.body_bytes
    if one.recheck_secs > 0:
        order.hold_back(now + one.recheck_secs)
    if one.quarantine is not None:
        order.quarantine_revision, order.quarantine_mapping = one.revision, mapping_version
        order.quarantine_reason, order.quarantined_at = one.quarantine, now
        order.last_error = one.detail
        order.send_alone = order.send_alone or one.attempt
        order.attempts += one.attempt
        order.hold = order.hold_detail = order.hold_since = None
        return
    if one.hold is not order.hold:
        order.hold_since = None if one.hold is None else now
    order.hold, order.hold_detail = one.hold, one.detail
    if one.settle:
        order.settled_revision = one.revision
        order.first_change = order.first_commit = None
        order.quarantine_revision = order.quarantine_reason = order.last_error = None
