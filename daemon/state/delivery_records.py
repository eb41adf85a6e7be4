"""What the delivery store hands out and is handed: one vocabulary for Postgres and for its memory twin."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from daemon.mapping.rows import StoredRow, Wanted
from daemon.state.era import Era


class Hold(StrEnum):
    """Why an order is not at the API as it stands, although nothing is wrong with it."""

    WAITING = "waiting"  # a needed part has not arrived
    HELD = "held"  # the mapping says it is not an order (yet, or any more)
    VOID = "void"  # cancelled: before it was ever sent, or the API has its void already
    DELETED = "deleted"  # the root row is deleted and the mapping keeps what was sent
    SUPERSEDED = "superseded"  # gone, and another order has taken over its vendor id
    DISCARDED = "discarded"  # guarded, and a person had the API keep what it has
    LOST = "lost"  # gone; it may stand at the API from a future that was lost, and nothing is left to void it with
    # Parked: judged and owed, and not sent while it is at this revision.
    SHADOW = "shadow"  # the destination sends nothing
    BACKFILL = "backfill"  # placed before live_since, and not asked for, or not its turn yet
    GUARDED = "guarded"  # would be zeroed, beyond what the void guard lets pass in an hour


PARKED = (Hold.SHADOW, Hold.BACKFILL, Hold.GUARDED)


class Fate(StrEnum):
    """What a request did to one of its orders."""

    ACCEPTED = "accepted"
    NOT_SENT = "not_sent"  # no byte of it left: everything is put back as it was
    NOT_APPLIED = "not_applied"  # the vendor refused it before looking at orders; owed as before
    DOUBTFUL = "doubtful"  # refused, but a part may have been applied: owed, and never taken as unsent
    QUARANTINED = "quarantined"  # refused for this order's own fault
    UNKNOWN = "unknown"  # may or may not have been applied: owed, held until it can no longer land


UNDONE = (Fate.NOT_SENT, Fate.NOT_APPLIED, Fate.QUARANTINED)
"""What was known of the order before is true again, unless the record says otherwise."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Leadership of one destination. `epoch` is raised by every take-over; `renewals` that its holder knows of."""

    destination: int
    epoch: int
    holder: UUID
    renewals: int = 0


@dataclass(frozen=True, slots=True)
class Placed:
    """Orders by the time they were placed: from `since` on, before `until`; epoch seconds, which may be infinite."""

    since: float = -math.inf
    until: float = math.inf

    def __contains__(self, at: float) -> bool:
        return self.since <= at < self.until


@dataclass(frozen=True, slots=True)
class Asked:
    """Which orders of the backfill were asked for, and up to which time of placing they were released."""

    placed: Placed
    reached: float = -math.inf


@dataclass(frozen=True, slots=True)
class Standing:
    """What is remembered of a destination across restarts. `pause_secs` counts from reading or writing it.

    `registered_at` is epoch seconds.
    """

    paused: bool = False
    halted: str | None = None
    pause_secs: float = 0.0
    failures: int = 0
    largest_body: int | None = None
    mapping_version: str | None = None
    registered_at: float = 0.0
    asked: Asked | None = None


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A request of an earlier epoch that nobody settled: its orders may still change at the API.

    `zeroed` of them may go from a total to 0.
    """

    id: int
    lane: int
    size: int
    keys: tuple[str, ...]
    zeroed: int = 0


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """Bytes of a settled request that count against the budget for `secs` more seconds, its `zeroed` orders for an hour
    more. The bytes of one with negative `secs` count no more."""

    lane: int
    size: int
    secs: float
    zeroed: int = 0


@dataclass(frozen=True, slots=True)
class DueOrder:
    """One order that may be sent now, as it stood at `revision`. Rows are read after it, never before.

    `digest` is that of the last accepted document while nothing since is in doubt. `ever_attempted`: also in a future
    that may have been lost; `in_doubt`: only there, as far as is known. `waited_secs`: how long it has been waiting for
    a missing part, 0 if it is not. `zeroed`: sending it with a total of 0 takes nothing away. `read_at` is the
    database's clock, epoch seconds. `clear`: attributes that the API is to lose, since the customer was erased.
    """

    key: str
    lane: int
    revision: int
    read_at: float
    digest: bytes | None = None
    ever_attempted: bool = False
    voided: bool = False
    send_alone: bool = False
    vendor_order_id: str | None = None
    waited_secs: float = 0.0
    zeroed: bool = False
    in_doubt: bool = False
    clear: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a vendor id. `gone`: its root row is deleted, or its void was accepted; `owed`: not settled yet."""

    key: str
    vendor_order_id: str
    gone: bool
    owed: bool
    in_flight: bool


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a due order without a request. Applies only while its revision is still `revision`.

    `settle`: nothing is owed any more. `recheck_secs`: judged again then at the latest. `quarantine`: the reason.
    `parked`: not sent at this revision, because of `hold`; then its document's `placed_at` (epoch seconds) and
    `body_bytes` are kept. `zero`: whether the document that the API has, and that is to stay, has a total of 0.
    """

    key: str
    revision: int
    settle: bool = False
    hold: Hold | None = None
    detail: str | None = None
    recheck_secs: float = 0.0
    quarantine: str | None = None
    attempt: bool = False
    parked: bool = False
    placed_at: float | None = None
    body_bytes: int | None = None
    zero: bool | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One order of a request about to be made, with the document that is going to be sent (not compressed).

    `take_over` names the order whose vendor id it takes. `placed_at` is epoch seconds. `zero`: its total is 0;
    `zeroes`: it was not before, and the void guard counts it. `clears`: `body` is no document but a PATCH that clears
    attributes, as are those of all other orders of the request.
    """

    key: str
    revision: int
    read_at: float
    vendor_order_id: str
    body: bytes
    take_over: str | None = None
    placed_at: float = 0.0
    zero: bool = False
    zeroes: bool = False
    clears: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """What a request did to one order.

    `digest`: of the accepted document; for NOT_SENT the one that was stored before. `attempted_before`: whether it was
    ever attempted before this request; `zeroed_before` likewise. `hold_secs`: not to be sent again sooner. `clears`: it
    was a PATCH that clears what the API is to lose of the order; before that is accepted, no acceptance settles it.
    """

    key: str
    fate: Fate
    digest: bytes | None = None
    attempted_before: bool = True
    void: bool = False
    hold_secs: float = 0.0
    reason: str | None = None
    detail: str | None = None
    zeroed_before: bool = False
    clears: bool = False


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of one request. Its bytes count against the budget for `counts_secs` more seconds.

    `zeroed` of its orders may have gone from a total to 0.
    """

    request: int
    outcome: str
    status: int | None
    error: str | None
    counts_secs: float
    orders: tuple[Settled, ...]
    zeroed: int = 0


@dataclass(frozen=True, slots=True)
class Freshness:
    """An accepted order: seconds from the OMS commit of its first unsent change, where that is known."""

    key: str
    lane: int
    secs: float | None


@dataclass(frozen=True, slots=True)
class Gone:
    """What was old and was removed: partitions of requests, operators' actions."""

    request_partitions: int = 0
    actions: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """Orders that are not clean and not parked, by state, and for each lane the age of the oldest owed one.

    `holds`: the age in seconds of what the state knows to hold orders: waiting, gate, paused, halted; 0 where nothing.
    """

    orders: Mapping[str, int]
    oldest_secs: Mapping[int, float]
    holds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Parked:
    """Orders parked for one reason, with the bytes of their documents and the age of the oldest of these holds."""

    orders: int
    size: int
    oldest_secs: float


@dataclass(frozen=True, slots=True)
class Drift:
    """What the newest reconcile found: orders by kind, and when, in epoch seconds."""

    orders: Mapping[str, int]
    at: float


def array_bytes(bodies: Iterable[bytes]) -> int:
    """The size of a JSON array of these."""
    return 1 + sum(len(body) + 1 for body in bodies)


class DeliveryState(Protocol):
    """The delivery loop's view of the state. Every method is one transaction.

    Methods that take a `lease` raise LeaseLost, having changed nothing, where its epoch is not the present one.
    All raise StateUnavailable where the state is away.
    """

    async def register(self, name: str, base_url: str, client_id: str) -> int:
        """The destination's number. Raises DestinationError where name and identity were paired otherwise before."""
        ...

    async def take_lease(self, destination: int, holder: UUID, secs: float) -> Lease | None:
        """A new epoch if nobody holds an unexpired lease (by the database's clock), else None."""
        ...

    async def renew_lease(self, lease: Lease, secs: float) -> Lease:
        """Extend the lease to `secs` from now. One of which the state knows fewer renewals is lost: it went back."""
        ...

    async def release_lease(self, lease: Lease) -> None:
        """End the lease. Nothing happens where it is lost already."""
        ...

    async def inherit(self, lease: Lease, hold_secs: float) -> tuple[list[OpenRequest], list[LedgerEntry]]:
        """After a take-over: requests that nobody settled, their orders held meanwhile, and the byte ledger."""
        ...

    async def era(self) -> Era:
        """The present era. A new one begins, and every lease ends, where the server is another one than before."""
        ...

    async def standing(self, destination: int) -> Standing:
        """What is remembered of the destination."""
        ...

    async def save_standing(self, lease: Lease, standing: Standing, *, was_halted: bool = False) -> None:
        """Remember all of it but `paused`, `registered_at` and `asked`, which are not the leader's to change.

        `was_halted`: as far as the leader has heard, a halt is stored. Where none is, a person ended it: none is saved.
        """
        ...

    async def due(self, destination: int, lane: int, limit: int, busy: Collection[str]) -> list[DueOrder]:
        """The next due orders of a lane, longest due first, without the `busy` ones."""
        ...

    async def due_among(self, destination: int, keys: Collection[str]) -> list[DueOrder]:
        """Those of `keys` that are due, in whatever lane."""
        ...

    async def rows_of(self, roots: Collection[str]) -> dict[str, list[StoredRow]]:
        """All rows of each order."""
        ...

    async def rows_at(self, wanted: Collection[Wanted]) -> list[StoredRow]:
        """The rows with these keys, or below these rows, as far as there are any; one asked for twice comes twice."""
        ...

    async def last_documents(self, destination: int, keys: Collection[str]) -> dict[str, bytes]:
        """The document last accepted, else last attempted, of each order that has one."""
        ...

    async def holders(self, destination: int, vendor_ids: Collection[str], root_source: str) -> dict[str, Holder]:
        """Who holds each of these vendor ids, by vendor id."""
        ...

    async def next_request(self) -> int:
        """A number for a request. Known before its row is written, so that no row can be written unnoticed."""
        ...

    async def reserve(
        self, lease: Lease, request: int, lane: int, orders: Sequence[Outgoing], mapping_version: str
    ) -> list[str]:
        """Write the request's row and put its orders in flight; the keys of those that still could be.

        Its bytes are those of a JSON array of these bodies. No row is written for none, nor where this request was
        settled already: its writer had given it up.
        """
        ...

    async def settle(self, lease: Lease, settlement: Settlement) -> list[Freshness]:
        """End a request and its flight; the accepted orders. Nothing happens where it was settled before.

        A request that was never written, or is just being written by a transaction whose end its writer never heard
        of, is settled all the same: it will not be written, or is settled as soon as it is.
        """
        ...

    async def judge(self, lease: Lease, judgements: Iterable[Judgement], mapping_version: str) -> list[str]:
        """Record what became of orders without a request; the keys for which it still held."""
        ...

    async def reopen(self, destination: int, keys: Collection[str], hold_secs: float) -> None:
        """A request that ended late may have overwritten these: owed anew after a hold, nothing about them trusted."""
        ...

    async def release_quarantines(self, lease: Lease, mapping_version: str, limit: int) -> int:
        """Release orders that another mapping version put into quarantine, `limit` at most; how many."""
        ...

    async def resend_changed(
        self, lease: Lease, mapping_version: str, after: str, limit: int
    ) -> tuple[str | None, int]:
        """Have orders that were accepted under another mapping assembled anew, in the backfill lane.

        Looks at `limit` records after this key; the last one's key (None: there are no more), and how many are owed
        now that were not. A document that comes out as it was accepted costs no request.
        """
        ...

    async def drift(self, destination: int) -> Drift | None:
        """The result of the newest reconcile, if there was one."""
        ...

    async def release_parked(self, lease: Lease, hold: Hold, placed: Placed, limit: int) -> list[str]:
        """Release the `limit` oldest orders that are parked as `hold` and were placed then; their keys, oldest first.

        They are due in that order. Of the backfill it is remembered how far it was released, where `placed` is what
        was asked for.
        """
        ...

    async def let_go(self, request_keep_secs: float, action_keep_secs: float) -> Gone:
        """Remove some of the requests and operators' actions that are older than that; the others go the next times.

        Requests that nobody settled, or whose bytes count, stay.
        """
        ...

    async def counts(self, destination: int) -> Counts:
        """For the metrics; reads neither clean nor parked orders."""
        ...

    async def parked(self, destination: int) -> Mapping[Hold, Parked]:
        """What is parked, by reason; reads its index alone."""
        ...
