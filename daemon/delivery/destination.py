"""One destination as the core sees it: plain frozen data, and what can be read off it. Times are monotonic seconds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from daemon.delivery.budget import Ledger, Shares
from daemon.document.outcome import Document
from daemon.settings import Delivery
from daemon.state.delivery_records import Asked, DueOrder, Judgement, Settled, array_bytes
from daemon.state.schedule import Lane

PROBE_ORDERS = 10
"""A probe is small: it costs little where the vendor is down, and leaves few orders in doubt."""

BLAME_AFTER = 3
"""Equal failures of one batch after which the batch itself is suspected."""

CHANCE = 1e-6
"""A lone order is judged once its failures in a row are less likely than this, had it failed as often as the others."""

FIRST_OF_BISECTION = 10
"""So many lone refusals without one acceptance between them are no coincidence: the fault is ours."""

STALE_SECS = 5.0
"""A document that has been there for longer than this is not sent but assembled anew."""

MAX_TRIED = 1000
"""So many orders that the probes of a halt have tried are passed over by the next ones."""

REJECTED = "rejected"
"""The cause of groups that a 400 left: sent on at once, ahead of everything."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decide."""

    settings: Delivery

    @property
    def shares(self) -> Shares:
        """The byte budget and its parts."""
        chosen = self.settings
        return Shares(chosen.budget_bytes, chosen.live_min_share, chosen.backfill_min_share)

    @property
    def first_of_bisection(self) -> int:
        """Lone refusals, none accepted among them, that halt the destination."""
        return min(FIRST_OF_BISECTION, self.settings.quarantine_budget_orders)

    @property
    def remembered_verdicts(self) -> int:
        """How many verdicts on orders the quarantine budget looks back on."""
        return 20 * self.settings.quarantine_budget_orders

    def backoff(self, failures: int, jitter: float) -> float:
        """Seconds to stay away after so many failures in a row; `jitter` in [0, 1) takes off up to a half."""
        grown = self.settings.backoff_initial_secs * 2.0 ** min(failures - 1, 30)
        return min(grown, self.settings.backoff_max_secs) * (1.0 - jitter / 2.0)


@dataclass(frozen=True, slots=True)
class Item:
    """One order with the document that would be sent. At `at`, what was assembled with it was all there."""

    due: DueOrder
    document: Document
    at: float
    void: bool = False
    take_over: str | None = None
    clears: bool = False  # a PATCH, which says nothing but what the API is to lose of the order

    @property
    def key(self) -> str:
        """The order's key."""
        return self.due.key

    @property
    def zeroes(self) -> bool:
        """Whether it takes a total from an order that the API may have with one: what the void guard counts."""
        return self.document.zero and self.due.ever_attempted and not self.due.zeroed

    @property
    def order_id(self) -> str:
        """What the API calls it."""
        return self.document.order_id


@dataclass(frozen=True, slots=True)
class Tally:
    """How many requests were accepted, and how many of those that carried no suspected order failed."""

    passed: int = 0
    failed: int = 0

    def since(self, before: Tally) -> Tally:
        """What came after `before`."""
        return Tally(self.passed - before.passed, self.failed - before.failed)

    def explains(self, failures: int) -> bool:
        """Whether so many failures of one order in a row may be chance, going by what others met meanwhile."""
        rate = (self.failed + 1.0) / (self.passed + self.failed + 2.0)
        return not self.passed or failures < BLAME_AFTER or rate**failures >= CHANCE


@dataclass(frozen=True, slots=True)
class Group:
    """Orders that are sent together and with no others, because of `cause`, not before `ready_at`.

    `failures` counts equal failures of this batch, the first one at `since`; `alone` those since it is one order.
    `others` is what had become of other requests when they began. Where its orders are not due when it is, it waits for
    them until `missed_until`.
    """

    keys: tuple[str, ...]
    lane: Lane
    cause: str
    ready_at: float
    failures: int = 0
    since: float = 0.0
    alone: int = 0
    others: Tally = Tally()
    missed_until: float = 0.0

    def halves(self) -> tuple[Group, ...]:
        """The same in two, or as it is where it cannot be cut."""
        middle = len(self.keys) // 2
        if not middle:
            return (self,)
        return replace(self, keys=self.keys[:middle]), replace(self, keys=self.keys[middle:])


@dataclass(frozen=True, slots=True)
class Flight:
    """A request that was started and not settled yet."""

    number: int
    lane: Lane
    items: tuple[Item, ...]
    size: int
    group: Group | None = None


@dataclass(frozen=True, slots=True)
class Inherited:
    """A request that an earlier leader left open: it may land until `until`."""

    number: int
    lane: Lane
    keys: tuple[str, ...]
    until: float
    zeroed: int = 0


@dataclass(frozen=True, slots=True)
class Withheld:
    """An order refused alone within a bisection, before anything was accepted in it."""

    item: Item
    detail: str


@dataclass(frozen=True, slots=True)
class NoRoom:
    """A document of a lane that others pass since `since`, because the budget has no room for its `size`."""

    key: str
    size: int
    since: float


def nothing_ready() -> dict[Lane, tuple[Item, ...]]:
    """Both lanes without assembled orders."""
    return dict.fromkeys(Lane, ())


@dataclass(frozen=True, slots=True)
class Intake:
    """Which orders may be sent at all. `live_since` is epoch seconds."""

    shadow: bool = False
    live_since: float = -math.inf
    asked: Asked | None = None

    def in_turn(self, placed_at: float) -> bool:
        """Whether an order of the backfill that was placed then is to be sent now."""
        asked = self.asked
        was_asked = asked is not None and placed_at in asked.placed and placed_at <= asked.reached
        return placed_at >= self.live_since or was_asked


OPEN = Intake()
"""Everything may be sent."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything the core remembers of one destination."""

    policy: Policy
    intake: Intake = OPEN
    ledger: Ledger = field(default_factory=Ledger)
    in_flight: tuple[Flight, ...] = ()
    inherited: tuple[Inherited, ...] = ()
    groups: tuple[Group, ...] = ()
    ready: dict[Lane, tuple[Item, ...]] = field(default_factory=nothing_ready)
    look_at: dict[Lane, float] = field(default_factory=lambda: dict.fromkeys(Lane, 0.0))
    no_room: dict[Lane, NoRoom] = field(default_factory=dict)
    backfill_waits: bool = False
    next_number: int = 1
    paused: bool = False
    halted: str | None = None
    halted_for_orders: bool = False  # by the quarantine budget: no order pays until one is accepted
    tried: tuple[str, ...] = ()  # by probes while halted for orders, the last ones
    dry: frozenset[Lane] = frozenset()  # lanes in which such a probe found no order that was not tried
    probe_at: float = 0.0
    limited_until: float = 0.0  # 429
    limited_since: float = 0.0
    backoff_until: float = 0.0
    failures: int = 0  # transport failures in a row
    failing_since: float = 0.0  # where there are any
    last_success: float = -1.0
    tally: Tally = Tally()
    largest_body: int | None = None
    batch_orders: int = 1 << 30
    verdicts: tuple[str, ...] = ()  # of the last orders judged: "" accepted, else the kind of fault
    withheld: tuple[Withheld, ...] = ()
    surgery_accepted: bool = False

    @property
    def circuit_open(self) -> bool:
        """The vendor is taken to be down."""
        return self.failures >= self.policy.settings.circuit_failures

    @property
    def order_limit(self) -> int:
        """Orders in the next request."""
        return min(self.policy.settings.max_orders_per_request, self.batch_orders)

    @property
    def byte_limit(self) -> int:
        """Bytes of the next request, unless one document alone is larger."""
        limit = self.policy.settings.max_request_bytes
        return limit if self.largest_body is None else min(limit, self.largest_body)

    @property
    def backfill_runs_low(self) -> bool:
        """Nothing more of the backfill was due at the last look, and nothing is at hand."""
        stopped = self.paused or self.halted or self.circuit_open
        return not (stopped or self.backfill_waits or self.ready[Lane.BACKFILL])

    def holds(self, now: float) -> dict[str, float]:
        """For how many seconds what the core knows of has held orders back; 0 where it holds nothing."""
        fences = [now - group.since for group in self.groups if group.cause != REJECTED and group.ready_at > now]
        fences += [now - (one.until - self.policy.settings.fence_secs) for one in self.inherited]
        return {
            "backoff": now - self.failing_since if self.failures else 0.0,
            "limited": now - self.limited_since if self.limited_until > now else 0.0,
            "fence": max(fences, default=0.0),
        }

    def busy(self) -> list[str]:
        """Orders that are not to be fetched from a lane: they are somewhere in here already."""
        keys = [item.key for items in self.ready.values() for item in items]
        for group in self.groups:
            keys.extend(group.keys)
        for request in self.inherited:
            keys.extend(request.keys)
        keys.extend(item.key for flight in self.in_flight for item in flight.items)
        keys.extend(one.item.key for one in self.withheld)
        return keys


# What happens to a destination


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


@dataclass(frozen=True, slots=True)
class OrderFault:
    """A due order that cannot become a document, by its own fault."""

    due: DueOrder
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """The answer to a Fetch. `more`: as many were due as had been asked for. `failed`: the state was away.

    `judged`: orders that were due and about which something else than sending was decided.
    """

    fetch: Fetch
    items: tuple[Item, ...] = ()
    faults: tuple[OrderFault, ...] = ()
    more: bool = False
    failed: bool = False
    judged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reserved:
    """Of a Send, only these orders could be put in flight; none: there is no request."""

    number: int
    keys: frozenset[str]


@dataclass(frozen=True, slots=True)
class Told:
    """News from outside: paused or not; what of the backfill was asked for; `resume` lifts a halt; `new_key` makes a
    halted destination worth a try."""

    paused: bool
    asked: Asked | None
    resume: bool = False
    new_key: bool = False


@dataclass(frozen=True, slots=True)
class Released:
    """Orders of the backfill that were parked are due now."""


# What the core wants done


@dataclass(frozen=True, slots=True)
class Fetch:
    """Read and assemble due orders: the next `limit` of a lane without the `busy` ones, or those of a group."""

    lane: Lane
    limit: int
    busy: tuple[str, ...] = ()
    group: Group | None = None
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Send:
    """Write the request's row and POST these, or PATCH them where they clear something; never some of each."""

    number: int
    lane: Lane
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Settle:
    """Record the end of request `number`."""

    number: int
    outcome: str
    status: int | None
    error: str | None
    counts_secs: float
    orders: tuple[Settled, ...]
    zeroed: int = 0


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Keep these from being sent until they change. `attempt`: the vendor said so."""

    faults: tuple[OrderFault, ...]
    attempt: bool


@dataclass(frozen=True, slots=True)
class Park:
    """Record that these could be sent and must not yet."""

    judgements: tuple[Judgement, ...]


Action = Fetch | Send | Settle | Quarantine | Park


def body_size(items: Iterable[Item]) -> int:
    """Bytes of the request that carries these."""
    return array_bytes(item.document.body for item in items)
