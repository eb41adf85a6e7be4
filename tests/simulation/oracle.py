"""What must hold while a world runs, and at its end. It looks at the vendor, at the rows and at what the state is told.

Every violation is a text that begins with the promise it breaks.
"""

from __future__ import annotations

import json
import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from daemon.delivery.reconcile import Ours, compare, missed
from daemon.document.difference import parsed
from daemon.document.outcome import Deleted, Ineligible, Invalid, Ready, Voided, Waiting
from daemon.state.delivery_records import Fate, Freshness, Hold, Judgement, Outgoing, Placed, Settlement
from daemon.state.memory_delivery import OrderRecord
from daemon.state.schedule import Lane
from simulation.climate import FLAWS, PROCESSES, STATE, Fault, Style
from simulation.shop import Truth, crashes, refused
from simulation.store import EPOCH

if TYPE_CHECKING:
    from simulation.network import Line
    from simulation.process import Process
    from simulation.world import World

FAIR = ("waiting_", "invalid")
"""Reasons of a quarantine that the order's own rows give."""


PAUSE_HEARD_SECS = 3.0
AT_HAND_SECS = 30.0
"""So long after it was judged an order may still be put in flight, by a process that is held up a little."""

ZERO = b'"purchase_total":0,'
T = TypeVar("T")


@dataclass(slots=True)
class Zeros:
    """Of one order: the POSTs that gave it a total, the one that last took it and was counted, whether one may."""

    totals: list[int] = field(default_factory=list)
    counted: int = -1
    allowed: bool = False


@dataclass(slots=True)
class Seen:
    """What was seen of one order: the revision settled last and when; when it was last read and put in flight."""

    settled: int = 0
    settled_at: float = 0.0
    read_at: float = float("inf")
    reserved_at: float = float("-inf")
    unknown: bool = False


class Oracle:
    """Judges one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._newest: dict[str, Line] = {}
        self._open: dict[str, set[Line]] = defaultdict(set)
        self._seen: dict[str, Seen] = defaultdict(Seen)
        self._bodies: dict[str, set[bytes]] = defaultdict(set)
        self._judged: Counter[str] = Counter()
        self._late_begin = float("-inf")
        self._drift: set[str] = set()
        self._parked: dict[str, int] = {}
        self._asked: list[tuple[float, Placed]] = []
        self._reached: list[tuple[float, float]] = []
        self._known: set[str] = set()
        self._paused_at: float | None = None
        self._zeros: dict[str, Zeros] = defaultdict(Zeros)
        self._zeroed_at: list[float] = []
        self._discarded: dict[str, int] = {}
        self._guarded_at: dict[str, float] = {}
        self._gaps: list[tuple[float, float]] = []
        self.violations: list[str] = []
        self.counts: Counter[str] = Counter()
        self.worst_live = 0.0

    def breaks(self, promise: str, text: str) -> None:
        """A violation, now."""
        world = self._world
        self.violations.append(f"{promise} at {world.now:.3f}: {text}")
        world.trace(f"VIOLATION {promise}: {text}")

    # What the state is told

    def reserved(
        self, process: Process, request: int, lane: int, orders: Sequence[Outgoing], going: Collection[str]
    ) -> None:
        """Orders were put in flight."""
        world = self._world
        world.trace(f"{process.name} reserves request {request}: {', '.join(sorted(going))}")
        self._not_paused()
        records = world.state.orders(going)
        for order in orders:
            if order.key in going:
                self._may_go(records[order.key], Lane(lane), order.placed_at)
                self._on_time(order.key, order.revision, Lane(lane))
                seen = self._seen[order.key]
                seen.read_at, seen.reserved_at = order.read_at - EPOCH, world.now

    def _on_time(self, key: str, revision: int, lane: Lane) -> None:
        """P4: not before its debounce is over; in a world without faults not long after it, and P9 for a live order."""
        world, seen = self._world, self._seen[key]
        truth = world.shop.orders[key]
        if seen.unknown or revision > len(truth.touches):
            return
        unsent = truth.touches[seen.settled : revision]
        if not unsent:
            return
        policy = world.climate.debounce
        # A change between reading and claiming was debounced by the older first change; a later one by the reading.
        earliest = policy_due(min(unsent[0], seen.read_at), unsent[-1], policy)
        if unsent[-1] > seen.reserved_at and world.now < earliest - 0.001:
            self.breaks("P4", f"order {key} goes out {earliest - world.now:.3f} s before it is due")
        if not world.climate.strict or lane is not Lane.LIVE or any(truth.lanes[seen.settled : revision]):
            return
        due = self._due(truth, seen)
        lag = world.now - max(due, seen.settled_at + world.climate.delivery.resend_gap_secs)
        self.worst_live = max(self.worst_live, lag)
        if lag > self._patience():
            self.breaks(
                "P9", f"live order {key} goes out {lag:.1f} s after it is due; {self._patience():.1f} s is fair"
            )

    def _due(self, truth: Truth, seen: Seen) -> float:
        """The first moment at which the order's debounce was over, for long enough to be looked for."""
        unsent = truth.touches[seen.settled :]
        looks = 2 * self._world.climate.delivery.poll_interval_ms / 1000.0
        for at, following in zip(unsent, [*unsent[1:], float("inf")], strict=True):
            due = policy_due(unsent[0], at, self._world.climate.debounce)
            if due + looks < following:
                return due
        raise AssertionError(f"order {truth.key} was never due")

    def _patience(self) -> float:
        """Polls, a request that takes the slot, one's own, and the statements between."""
        climate = self._world.climate
        return 2 * climate.delivery.poll_interval_ms / 1000.0 + 5 * climate.latency_secs + 3.0

    def settled(self, process: Process, settlement: Settlement, accepted: Sequence[Freshness]) -> None:
        """A request ended in the state."""
        world = self._world
        world.trace(f"{process.name} settles request {settlement.request}: {settlement.outcome} {settlement.status}")
        records = world.state.orders([order.key for order in settlement.orders])
        for one in accepted:
            self._settles(one.key, records[one.key].settled_revision)
        for order in settlement.orders:
            if order.fate is Fate.QUARANTINED:
                self._convicted(order.key, order.reason or "", order.detail or "")
            elif order.key in records and records[order.key].attempts > self._judged[order.key]:
                self.breaks("P7", f"order {order.key} pays an attempt for {settlement.outcome} {settlement.status}")

    def judged(self, process: Process, judgements: Sequence[Judgement], held: Collection[str]) -> None:
        """Orders were judged without a request."""
        for one in judgements:
            if one.key not in held:
                continue
            if one.settle:
                self._settles(one.key, one.revision)
            if one.parked and one.hold is not None:
                self.counts[f"parked: {one.hold}"] += 1
                self._parked[one.key] = one.revision
                self._world.trace(f"{process.name} parks {one.key}: {one.hold}")
                if one.hold is Hold.GUARDED:
                    self._guarded_at[one.key] = self._world.now
            if one.quarantine is not None:
                self._world.trace(f"{process.name} quarantines {one.key}: {one.quarantine}")
                self._convicted(one.key, one.quarantine, one.detail or "")

    def reopened(self, keys: Collection[str]) -> None:
        """The daemon raised revisions by itself, as if the last change had come again."""
        for key in keys:
            truth = self._world.shop.orders[key]
            truth.touches.append(truth.touches[-1])
            truth.lanes.append(truth.lanes[-1])
        self._world.trace(f"owed anew: {', '.join(sorted(keys))}")

    # What an operator does, and what must follow from it

    def told_to_pause(self, *, paused: bool) -> None:
        """Delivery is paused, or goes on."""
        self._paused_at = self._world.now if paused else None

    def _not_paused(self) -> None:
        """A pause is heard within a turn or two, where nothing keeps processes and statements waiting."""
        world = self._world
        slow = world.climate.asked & (PROCESSES | STATE)
        if self._paused_at is not None and not slow and world.now > self._paused_at + PAUSE_HEARD_SECS:
            self.breaks(
                "pause", f"orders are put in flight {world.now - self._paused_at:.1f} s after delivery was paused"
            )

    def asked_for(self, placed: Placed | None) -> None:
        """Old orders that were placed then are to be sent; None: none any more."""
        self._asked.append((self._world.now, Placed(math.inf, math.inf) if placed is None else placed))

    def released(self, process: Process, hold: Hold, placed: Placed, keys: Sequence[str]) -> None:
        """Parked orders were released: of those that were to be, none that stays is older."""
        world = self._world
        for key in keys:
            self._parked.pop(key, None)
        if not keys:
            return
        world.trace(f"{process.name} releases {len(keys)} orders ({hold})")
        records = world.state.orders()
        newest = max(records[key].placed_at or 0.0 for key in keys)
        if hold is Hold.BACKFILL:
            self._reached.append((world.now, newest))
        for key, record in records.items():
            at = record.placed_at
            if record.parked() and record.hold is hold and at is not None and at in placed and at < newest:
                self.breaks("oldest first", f"order {key} stays parked though it is older than what was released")

    def decides(self, keys: Collection[str], *, release: bool) -> None:
        """Guarded orders are released or discarded."""
        records = self._world.state.orders(keys)
        for key in keys:
            self._parked.pop(key, None)
            self.counts["guarded, then released" if release else "guarded, then discarded"] += 1
            if release:
                self._zeros[f"A-{key}"].allowed = True
            else:
                self._discarded[key] = records[key].revision

    def _may_go(self, record: OrderRecord, lane: Lane, placed_at: float) -> None:
        """Neither a parked or discarded revision, nor an old order that nobody asked for or whose turn has not come."""
        world, key = self._world, record.key
        if self._lawless:
            return
        if self._parked.get(key) == record.revision:
            self.breaks("parked", f"order {key} goes out though it is parked at revision {record.revision}")
        if self._discarded.get(key) == record.revision:
            self.breaks("guard", f"order {key} goes out though it was discarded at revision {record.revision}")
        self._parked.pop(key, None)
        new = key not in self._known
        self._known.add(key)
        if not new or lane is Lane.LIVE or Fault.ASKED not in world.climate.episodes or placed_at >= EPOCH:
            return
        ranges = [placed for at, placed in self._recent(self._asked)]
        if not any(placed_at in placed for placed in ranges):
            self.breaks("backfill", f"old order {key} goes out though nobody asked for it")
        if placed_at > max((reached for _, reached in self._recent(self._reached)), default=-math.inf):
            self.breaks("oldest first", f"old order {key} goes out before its turn")

    def _recent(self, events: list[tuple[float, T]]) -> list[tuple[float, T]]:
        """The events since which documents at hand may have been judged, and the one before them."""
        since = self._world.now - AT_HAND_SECS
        before = [event for event in events if event[0] <= since]
        return [*before[-1:], *(event for event in events if event[0] > since)]

    def _zeroes(self, line: Line, order_id: str) -> None:
        """No more orders go from a total to 0 within an hour than may, but those that an operator let go."""
        zeros, world = self._zeros[order_id], self._world
        if ZERO not in line.documents[order_id]:
            zeros.totals.append(line.number)
            return
        before = max((number for number in zeros.totals if number < line.number), default=-1)
        if before <= zeros.counted:
            return
        zeros.counted = line.number
        if zeros.allowed:
            zeros.allowed = False
            return
        self._zeroed_at = [at for at in self._zeroed_at if at > world.now - 3600.0] + [world.now]
        self.counts["zeroed"] += 1
        most = world.climate.delivery.max_voids_per_hour
        if len(self._zeroed_at) > most and not self._lawless:
            self.breaks("guard", f"{len(self._zeroed_at)} orders went to 0 within an hour; {most} may: {order_id}")

    def forgotten(self) -> None:
        """The state went back: revisions do not count changes any more."""
        for key in self._world.shop.orders:
            self._seen[key].unknown = True

    def went_back(self) -> None:
        """Until somebody sees it, whoever leads believes what it finds: an era promises from its beginning on."""
        self._gaps.append((self._world.now, float("inf")))
        self._parked.clear()  # with the revisions at which they were
        self._zeroed_at.clear()  # the guard's count goes back too
        self._discarded.clear()
        self.forgotten()

    def era_begins(self) -> None:
        """What was put in flight before may still start within its grace."""
        began, _ = self._gaps.pop()
        self._gaps.append((began, self._world.now + self._world.climate.delivery.start_grace_secs))

    def _unseen(self, line: Line) -> bool:
        """Whether it was sent after the state went back and before anybody saw that."""
        return any(began <= line.since <= ended for began, ended in self._gaps)

    def _settles(self, key: str, revision: int) -> None:
        seen = self._seen[key]
        seen.settled, seen.settled_at = max(seen.settled, revision), self._world.now

    def _convicted(self, key: str, reason: str, detail: str) -> None:
        """P7: whoever is quarantined has done something."""
        truth = self._world.shop.orders[key]
        self.counts["convictions"] += 1
        self._judged[key] += 1
        if truth.ever_bad or (truth.ever_late and reason.startswith(FAIR)):
            return
        self.counts["innocents convicted"] += 1
        self._world.trace(f"innocent order {key} convicted: {reason} {detail}")
        if not reason.startswith("fails_") or reason == "fails_403":
            self.breaks("P7", f"innocent order {key} is quarantined: {reason}: {detail}")

    # What the vendor sees

    def sent(self, line: Line) -> None:
        """The first byte of a request left."""
        if line.process.mode == "shadow":
            self.breaks("shadow", f"POST {line.number} comes from a process in shadow")
        grace = self._world.climate.delivery.start_grace_secs
        if line.begun - line.since > grace + self._world.climate.delivery.connect_timeout_secs:
            self._late_begin = line.begun
        for order_id, body in line.documents.items():
            self._newest[order_id] = line
            self._bodies[order_id].add(body)

    def arrived(self, line: Line) -> None:
        """The vendor has a request whole."""
        course = line.course
        answer = course.answer if course is not None else None
        self.counts["requests"] += 1
        if answer is not None and answer.status == 429:
            self._over_budget(line)
        if answer is not None and answer.status in (401, 403, 429):
            return
        for order_id in line.order_ids:
            others = [other for other in self._open[order_id] if not (other.disturbed or line.disturbed)]
            if others and not self._lawless and not self._unseen(line):
                self.breaks("P3", f"POST {line.number} and POST {others[0].number} are in flight together: {order_id}")
            if line.ended_at is None:
                self._open[order_id].add(line)

    def _over_budget(self, line: Line) -> None:
        """P5: nobody else writes, so there is no 429."""
        self.counts["429"] += 1
        world = self._world
        if world.climate.asked & FLAWS or self._lawless or self._unseen(line):
            return
        if world.now - self._late_begin < 2 * world.climate.delivery.budget_window_secs:
            return  # bytes of a process that was paused between its last check and the first byte
        self.breaks("P5", f"POST {line.number} of {len(line.body)} bytes meets a 429")

    def ended(self, line: Line) -> None:
        """Answered, cut or given up."""
        for order_id in line.order_ids:
            self._open[order_id].discard(line)

    def applies(self, line: Line, taken: Collection[str]) -> None:
        """P3: nothing is applied after a newer request for the same order left, but of a process that was paused."""
        for order_id in taken:
            self._zeroes(line, order_id)
            newer = self._newest[order_id]
            if newer.number <= line.number:
                continue
            self.counts["overtaken"] += 1
            if line.disturbed or newer.disturbed:
                self.counts["overtaken by a late finisher"] += 1
            elif not self._lawless and not self._unseen(newer):
                text = f"POST {line.number} is applied after POST {newer.number} left: {order_id}"
                self.breaks("P3", text)

    @property
    def _lawless(self) -> bool:
        """Worlds in which what P3 and P5 stand on does not hold."""
        return Fault.BEYOND_SETTLE in self._world.climate.rates

    # The end

    def final(self) -> None:
        """Everything is quiet: the vendor holds what the rows say, and whoever is quarantined has earned it."""
        world = self._world
        records = world.state.orders()
        held = {key[1]: version.raw for key, version in world.network.vendor.book.latest()}
        self._reconcile(records)
        for key, truth in world.shop.orders.items():
            record = records.get(key)
            if record is None:
                self.breaks("P2", f"order {key} has no record")
            else:
                self._order(truth, record, held.get(f"A-{key}"))
        for order_id in held:
            if order_id.removeprefix("A-") not in world.shop.orders:
                self.breaks("P2", f"{order_id} is at the vendor and nowhere else")
        if (halted := world.state.halted()) is not None:
            self.breaks("P7", f"the destination is still halted: {halted}")

    def _reconcile(self, records: Mapping[str, OrderRecord]) -> None:
        """Hold what the vendor shows against what was last accepted, as `reconcile` does: no false alarms.

        Where the vendor keeps to what is assumed of it and the state never went back, nothing drifts.
        """
        shown = {order["order_id"]: order for order in self._world.network.read_back()}
        for key, record in records.items():
            order_id = f"A-{key}"
            document = parsed(zlib.decompress(record.last_accepted)) if record.last_accepted is not None else None
            finished = record.request is None and record.last_attempted == record.last_accepted
            ours = Ours(key, order_id, document, finished)
            drift = compare(ours, shown[order_id]) if order_id in shown else missed(ours)
            if drift is not None:
                self._drift.add(key)
                # What is kept as a lost future left it differs from what this state knows, and so may what was kept
                # (by a person, or as no order any more) while a request was in doubt; reconcile is to say so.
                kept = bool(self._gaps) or record.hold is Hold.DISCARDED or record.digest is None
                if not self._lawless and not kept:
                    self.breaks("P3", f"reconcile calls order {key} {drift.kind}, and all is as it should be")

    def _detected(self, key: str) -> None:
        """What nobody else can notice has to be noticed by reconcile."""
        self.counts["stale beyond vendor_settle"] += 1
        if key not in self._drift:
            self.breaks("P3", f"order {key} was changed beyond vendor_settle, and reconcile does not see it")

    def _order(self, truth: Truth, record: OrderRecord, held: bytes | None) -> None:
        world = self._world
        mapping = world.mapping_under(record, truth)
        outcome = world.shop.outcome(truth.key, mapping, final=False)
        if isinstance(outcome, Waiting):
            outcome = world.shop.outcome(truth.key, mapping, final=True)
        held_back = quarantined(record)
        match outcome:
            case Ready(document=document):
                guilty = _guilty(document.body)
                if guilty and not held_back:
                    self.breaks("P6", f"order {truth.key}, which the vendor refuses, is not quarantined")
                elif guilty and not record.quarantine_reason:
                    self.breaks("P6", f"order {truth.key} is quarantined without a reason")
                elif not guilty and held_back:
                    self.breaks("P6", f"innocent order {truth.key} is still quarantined: {record.quarantine_reason}")
                elif not guilty and held != document.body:
                    self._differs(truth, record, document.body, held)
            case Invalid() | Waiting():
                if not held_back or not (record.quarantine_reason or "").startswith(FAIR):
                    self.breaks("P6", f"order {truth.key}, which makes no document, is not quarantined for it")
            case Voided():
                self._void(truth, record, held, must=True)
            case Deleted():
                self._void(truth, record, held, must=world.climate.on_delete == "void")
            case Ineligible():
                self._void(truth, record, held, must=world.climate.on_leave == "void")

    def _differs(self, truth: Truth, record: OrderRecord, expected: bytes, held: bytes | None) -> None:
        """P2, and P3 where a stale document stands."""
        if self._beyond(f"A-{truth.key}"):
            self._detected(truth.key)
            return
        stale = held is not None and held in self._bodies[f"A-{truth.key}"]
        promise = "P3" if stale and record.last_accepted is not None else "P2"
        self.breaks(promise, f"order {truth.key}: the vendor holds {_short(held)}, the rows say {_short(expected)}")

    def _beyond(self, order_id: str) -> bool:
        """Whether what stands was applied beyond what the vendor is assumed to do: reconcile alone can tell."""
        world = self._world
        if world.climate.style is not Style.BEYOND:
            return False
        versions = [version for _, version in world.network.vendor.book.versions(order_id)]
        if not versions:
            return False
        last = versions[-1].at - EPOCH
        settle = world.climate.delivery.vendor_settle_secs
        return any(
            line.applied_at is not None
            and line.ended_at is not None
            and abs(line.applied_at - last) < 0.001
            and line.applied_at - line.ended_at > settle
            for line in world.network.lines
            if order_id in line.documents
        )

    def _void(self, truth: Truth, record: OrderRecord, held: bytes | None, *, must: bool) -> None:
        """P2: what was ever sent and is no order any more is zeroed, under its tag, and otherwise as it was."""
        order_id = f"A-{truth.key}"
        if held is None or not must:
            return
        document = json.loads(held)
        if record.hold is Hold.DISCARDED and not record.owed():
            # In a future that was lost a person may have released it: the vendor keeps what it has, which may be 0 from
            # a former end of the order that the guard let pass.
            since = [version.at for _, version in self._world.network.vendor.book.versions(order_id)][-1] - EPOCH
            if not document["purchase_total"] and not self._gaps and since >= self._guarded_at.get(truth.key, 0.0):
                self.breaks("guard", f"order {truth.key} was discarded, and the vendor holds it with 0")
            return
        zero = [document["purchase_total"], document["tax"], document["shipping_cost"]]
        zero += [product[name] for product in document["products"] for name in ("price", "quantity")]
        if any(zero) or "Cancelled" not in document.get("order_tags", []):
            if self._gaps and record.hold is Hold.LOST:
                self.counts["lost with a future, and known to be"] += 1
            elif self._beyond(order_id):
                self._detected(truth.key)
            elif quarantined(record) and _guilty(zlib.decompress(record.last_attempted or b"")):
                self.counts["voids that the vendor refuses"] += 1
            else:
                self.breaks("P2", f"order {truth.key} is no order any more, and the vendor holds {_short(held)}")
        elif _unzeroed(document) not in [_unzeroed(json.loads(body)) for body in self._bodies[order_id]]:
            self.breaks("P2", f"the void of order {truth.key} is none of what was sent: {_short(held)}")

    def fresh(self, key: str) -> None:
        """Whether a new order flows, now that all is quiet."""
        held = {order_id for (_, order_id), _ in self._world.network.vendor.book.latest()}
        if f"A-{key}" not in held:
            self.breaks("P2", "a fresh order does not flow any more")


def quarantined(record: OrderRecord) -> bool:
    """Whether the order is kept from being sent."""
    return record.owed() and record.quarantine_revision == record.revision


def _guilty(body: bytes) -> bool:
    return refused(body) or crashes(body)


def policy_due(first: float, last: float, policy: Any) -> float:
    """When an order is due whose first unsent change and last one were then."""
    return float(min(last + policy.quiet.total_seconds(), first + policy.max_wait.total_seconds()))


def _unzeroed(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a void leaves as it was."""
    kept = {name: value for name, value in document.items() if name not in ("purchase_total", "order_tags", "refunds")}
    return {**kept, "products": [{**one, "price": 0, "quantity": 0} for one in document["products"]]}


def _short(body: bytes | None) -> str:
    if body is None:
        return "nothing"
    document = json.loads(body)
    total, name = document.get("purchase_total"), document.get("customer_name")
    return f"{name}/{total}/{len(document['products'])} product(s)"
