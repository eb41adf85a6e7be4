"""What a seed asks for: settings, orders, faults and how often. Everything is scaled to a fence of some twenty seconds.

Faults of one request, one store call or one order have a rate; the others are episodes, which the world schedules.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from daemon.sandbox.options import ErrorShape, Refusal, SandboxOptions
from daemon.settings import Delivery
from daemon.state.schedule import DebouncePolicy


class Fault(StrEnum):
    """Everything that can happen besides plain changes. The text is what the summary calls it."""

    # one request
    UNREACHABLE = "connection refused"
    CUT_UNAPPLIED = "cut after the first byte, not applied"
    CUT_APPLIED = "applied, then cut"
    UNANSWERED = "applied, never answered"
    SLOW_ANSWER = "answered slowly"
    SLOW_VENDOR = "applied slowly"
    LATE_AFTER_CUT = "cut, applied late"
    LATE_AFTER_5XX = "5xx, applied late"
    ERROR = "5xx, not applied"
    ERROR_APPLIED = "5xx, applied"
    LIMITED = "429"
    LIMITED_WAIT = "429 with a time"
    BEYOND_SETTLE = "applied beyond vendor_settle"
    # the vendor for a while
    OUTAGE = "vendor unreachable for a while"
    BROWNOUT = "vendor answers 503 for a while"
    REVOKED = "key revoked (401) for a while"
    FORBIDDEN = "key forbidden (403) for a while"
    NEW_KEY = "key replaced"
    SMALL_BODIES = "413 above a size for a while"
    OTHER_WRITER = "budget used up by another writer"
    # processes
    CRASH = "killed at a random time"
    CRASH_AT_STORE = "killed before a store call"
    CRASH_AFTER_STORE = "killed after a store call"
    CRASH_AT_POST = "killed before a POST"
    CRASH_IN_POST = "killed with a POST under way"
    STOP = "told to stop"
    PAUSE = "paused for a while"
    LONG_PAUSE = "paused for longer than lease and fence"
    PAUSE_AT_STORE = "paused right before a store call reaches Postgres"
    PAUSE_AT_SETTLE = "paused right before a settlement reaches Postgres"
    PAUSE_AT_SEND = "paused between the last check and the first byte"
    # the state
    STATE_FAILS = "store call fails, without effect"
    STATE_IN_DOUBT = "store call fails, with its effect"
    STATE_IN_DOUBT_LATE = "store call fails, its effect comes later"
    STATE_CONTENDED = "store call gives way"
    STATE_SLOW = "store call takes seconds"
    STATE_AWAY = "Postgres away for a while"
    RESTORED = "state restored from an older copy"
    # orders
    REFUSED_ORDER = "order that the vendor refuses"
    CRASHING_ORDER = "order that the vendor answers 5xx"
    CANCELLED = "order cancelled"
    DELETED = "order deleted"
    INELIGIBLE = "order not eligible"
    LATE_PART = "part of an order arrives later"
    MISSING_PART = "part of an order never arrives"
    BACKFILL = "backfill against live traffic"
    GATE = "gate closed by ingest"
    MAPPING_SWITCH = "another mapping put in force"
    MASS_VOID = "mass of orders gone at once"
    # the operator
    PAUSED = "delivery paused by an operator"
    ASKED = "backfill parked, then asked for"
    SHADOW = "delivery in shadow for a while"


OF_REQUEST = {
    Fault.UNREACHABLE: 0.04,
    Fault.CUT_UNAPPLIED: 0.04,
    Fault.CUT_APPLIED: 0.06,
    Fault.UNANSWERED: 0.05,
    Fault.SLOW_ANSWER: 0.06,
    Fault.SLOW_VENDOR: 0.06,
    Fault.LATE_AFTER_CUT: 0.08,
    Fault.LATE_AFTER_5XX: 0.08,
    Fault.ERROR: 0.04,
    Fault.ERROR_APPLIED: 0.05,
    Fault.LIMITED: 0.02,
    Fault.LIMITED_WAIT: 0.03,
    Fault.PAUSE_AT_SEND: 0.03,
    Fault.CRASH_AT_POST: 0.02,
    Fault.CRASH_IN_POST: 0.03,
}
OF_STORE_CALL = {
    Fault.STATE_FAILS: 0.01,
    Fault.STATE_IN_DOUBT: 0.01,
    Fault.STATE_IN_DOUBT_LATE: 0.01,
    Fault.STATE_CONTENDED: 0.01,
    Fault.STATE_SLOW: 0.004,
    Fault.CRASH_AT_STORE: 0.002,
    Fault.CRASH_AFTER_STORE: 0.002,
    Fault.PAUSE_AT_STORE: 0.002,
    Fault.PAUSE_AT_SETTLE: 0.08,  # of settlements alone
}
OF_CHANGE = {
    Fault.REFUSED_ORDER: 0.03,
    Fault.CRASHING_ORDER: 0.01,
    Fault.CANCELLED: 0.06,
    Fault.DELETED: 0.03,
    Fault.INELIGIBLE: 0.03,
    Fault.LATE_PART: 0.05,
    Fault.MISSING_PART: 0.02,
}
EPISODES = {
    Fault.OUTAGE: 1,
    Fault.BROWNOUT: 1,
    Fault.REVOKED: 1,
    Fault.FORBIDDEN: 1,
    Fault.NEW_KEY: 1,
    Fault.SMALL_BODIES: 1,
    Fault.OTHER_WRITER: 1,
    Fault.CRASH: 4,
    Fault.STOP: 2,
    Fault.PAUSE: 6,
    Fault.LONG_PAUSE: 4,
    Fault.STATE_AWAY: 2,
    Fault.RESTORED: 1,
    Fault.BACKFILL: 2,
    Fault.GATE: 2,
    Fault.MAPPING_SWITCH: 1,
    Fault.MASS_VOID: 2,
    Fault.PAUSED: 2,
    Fault.ASKED: 4,
    Fault.SHADOW: 1,
}
"""How often each happens in a storm that asks for it."""

LINE = frozenset(OF_REQUEST) - {Fault.PAUSE_AT_SEND, Fault.CRASH_AT_POST, Fault.CRASH_IN_POST}
PROCESSES = frozenset(
    {
        Fault.CRASH,
        Fault.CRASH_AT_STORE,
        Fault.CRASH_AFTER_STORE,
        Fault.CRASH_AT_POST,
        Fault.CRASH_IN_POST,
        Fault.STOP,
        Fault.PAUSE,
        Fault.LONG_PAUSE,
        Fault.PAUSE_AT_STORE,
        Fault.PAUSE_AT_SETTLE,
        Fault.PAUSE_AT_SEND,
    }
)
STATE = frozenset(OF_STORE_CALL) - PROCESSES | {Fault.STATE_AWAY, Fault.GATE, Fault.MAPPING_SWITCH, Fault.RESTORED}
VENDOR = frozenset(
    {
        Fault.OUTAGE,
        Fault.BROWNOUT,
        Fault.REVOKED,
        Fault.FORBIDDEN,
        Fault.NEW_KEY,
        Fault.SMALL_BODIES,
        Fault.OTHER_WRITER,
    }
)
ORDERS = frozenset(OF_CHANGE)
GOOD_ORDERS = ORDERS - {Fault.REFUSED_ORDER, Fault.CRASHING_ORDER, Fault.LATE_PART, Fault.MISSING_PART}
OPERATOR = frozenset({Fault.PAUSED, Fault.ASKED, Fault.SHADOW})
FLAWS = frozenset({Fault.LIMITED, Fault.LIMITED_WAIT, Fault.OTHER_WRITER})
"""With these the vendor answers 429 although the budget was kept."""


NAMING: tuple[ErrorShape, ...] = ("encoded", "list", "bare")
NOT_NAMING: tuple[ErrorShape, ...] = ("detail", "text", "error", "empty")


class Style(StrEnum):
    """The kinds of worlds."""

    CLEAN = "clean"  # changes and backfills alone: bounds are strict
    LINE = "line"
    PROCESSES = "processes"
    STATE = "state"
    VENDOR = "vendor"
    ORDERS = "orders"
    EVERYTHING = "everything"
    BEYOND = "beyond"  # the stated assumption about the vendor does not hold


STYLES = (
    *(Style.CLEAN, Style.EVERYTHING, Style.PROCESSES, Style.LINE, Style.EVERYTHING),
    *(Style.STATE, Style.VENDOR, Style.EVERYTHING, Style.ORDERS, Style.BEYOND),
)


@dataclass(frozen=True, slots=True)
class Climate:
    """One world's nature: so many storms, each of `storm_secs`, and calms between them. Times are seconds; `rates` are
    probabilities, `episodes` counts over all storms."""

    seed: int
    style: Style
    delivery: Delivery
    debounce: DebouncePolicy
    sandbox: SandboxOptions
    on_delete: str
    on_leave: str
    processes: int
    orders: int
    phases: int
    storm_secs: float
    change_secs: float
    latency_secs: float
    rates: Mapping[Fault, float]
    episodes: Mapping[Fault, int]

    @property
    def asked(self) -> frozenset[Fault]:
        """Every fault that this world asks for."""
        return frozenset(self.rates) | frozenset(self.episodes)

    @property
    def strict(self) -> bool:
        """Nothing goes wrong at all: bounds on time hold to the second."""
        return self.style is Style.CLEAN


def climate_of(seed: int, *, scale: float = 1.0, restore: bool = False) -> Climate:
    """The climate of a seed. `scale` makes fewer storms; `restore` lets the state go back to an older copy."""
    lot = random.Random(f"{seed} climate")
    style = STYLES[seed % len(STYLES)]
    asked = _asked(style, lot)
    asked |= _steered(style, random.Random(f"{seed} operator"))
    if restore:
        asked |= {Fault.RESTORED}
    busy = 1.0 if style is Style.EVERYTHING else 1.6
    calm = style is Style.CLEAN
    refusal: Refusal = lot.choice(["batch", "orders", "listed"])
    return Climate(
        seed=seed,
        style=style,
        delivery=_delivery(lot, asked),
        debounce=DebouncePolicy(
            timedelta(seconds=lot.choice([0.5, 2.0, 4.0])), timedelta(seconds=lot.choice([4.0, 12.0]))
        ),
        sandbox=SandboxOptions(
            unique_product_ids=True,
            refusal=refusal,
            # A 2xx that tells of errors names them: one that does not cannot be told from a good one.
            error_shape=lot.choice(NAMING if refusal == "listed" else NAMING + NOT_NAMING),
        ),
        on_delete=lot.choice(["keep", "void"]),
        on_leave=lot.choice(["keep", "void"]),
        processes=lot.choice([2, 2, 3]),
        orders=lot.choice([4, 8, 40]),
        phases=max(round(4 * scale), 1),
        storm_secs=lot.uniform(60.0, 120.0),
        change_secs=lot.choice([2.0, 4.0]) if calm else lot.choice([0.3, 1.0, 3.0]),
        latency_secs=lot.choice([0.05, 0.5]) if calm else lot.choice([0.05, 0.5, 2.0]),
        rates={
            fault: busy * rate * lot.uniform(0.5, 1.5)
            for fault, rate in (OF_REQUEST | OF_STORE_CALL | OF_CHANGE | {Fault.BEYOND_SETTLE: 0.15}).items()
            if fault in asked
        },
        episodes={fault: max(round(count * busy * scale), 1) for fault, count in EPISODES.items() if fault in asked},
    )


def _asked(style: Style, lot: random.Random) -> frozenset[Fault]:
    everything = LINE | PROCESSES | STATE | VENDOR | ORDERS | {Fault.BACKFILL}
    match style:
        case Style.CLEAN:
            return GOOD_ORDERS | {Fault.BACKFILL}
        case Style.LINE:
            return LINE | GOOD_ORDERS | {Fault.CRASH, Fault.STOP}
        case Style.PROCESSES:
            return PROCESSES | GOOD_ORDERS | {Fault.SLOW_VENDOR, Fault.SLOW_ANSWER}
        case Style.STATE:
            return STATE | GOOD_ORDERS | {Fault.CRASH, Fault.BACKFILL}
        case Style.VENDOR:
            return VENDOR | {Fault.CUT_APPLIED, Fault.LATE_AFTER_5XX, Fault.BACKFILL}
        case Style.ORDERS:
            return ORDERS | {Fault.LATE_AFTER_CUT, Fault.CRASH, Fault.BACKFILL}
        case Style.EVERYTHING:
            return frozenset(fault for fault in sorted(everything) if lot.random() < 0.5)
        case Style.BEYOND:
            return frozenset({Fault.BEYOND_SETTLE, Fault.CUT_APPLIED, Fault.CRASH, *GOOD_ORDERS})


def _steered(style: Style, lot: random.Random) -> frozenset[Fault]:
    """What an operator does, and what he has to decide about. In half of the worlds that can bear it, each."""
    match style:
        case Style.CLEAN:
            may = {Fault.ASKED}
        case Style.LINE | Style.PROCESSES:
            may = {Fault.MASS_VOID, Fault.SHADOW}
        case Style.STATE:
            may = {Fault.ASKED, Fault.PAUSED, Fault.MASS_VOID}
        case Style.VENDOR:
            may = {Fault.ASKED, Fault.PAUSED, Fault.SHADOW}
        case Style.ORDERS:
            may = {Fault.ASKED, Fault.PAUSED, Fault.MASS_VOID}
        case Style.EVERYTHING:
            may = OPERATOR | {Fault.MASS_VOID}
        case Style.BEYOND:
            may = set()
    chosen = frozenset(fault for fault in sorted(may) if lot.random() < 0.5)
    # What an operator asks for has to be there, and orders have to have a way to go.
    if Fault.ASKED in chosen:
        chosen |= {Fault.BACKFILL}
    return chosen | {Fault.CANCELLED} if Fault.MASS_VOID in chosen else chosen


def _delivery(lot: random.Random, asked: frozenset[Fault]) -> Delivery:
    tight = Fault.BACKFILL in asked and lot.random() < 0.6
    chosen: dict[str, Any] = {
        "start_grace_secs": 2.0,
        "request_timeout_secs": 8.0,
        "connect_timeout_secs": 4.0,
        "vendor_settle_secs": 10.0,
        "lease_secs": 16.0,
        "lease_renew_secs": 3.0,
        "resend_gap_secs": lot.choice([0.0, 1.0]),
        "poll_interval_ms": lot.choice([500, 1000, 1500]),
        "backoff_initial_secs": 0.5,
        "backoff_max_secs": 8.0,
        "halt_probe_secs": 5.0,
        "waiting_recheck_secs": 3.0,
        "waiting_max_secs": 30.0,
        "budget_window_secs": 20.0,
        "requests_in_flight": lot.choice([1, 2, 2, 4]),
        "max_orders_per_request": lot.choice([3, 10, 100]),
        "max_request_bytes": 4_000 if tight else 100_000,
        "budget_bytes": 20_000 if tight else 1_000_000,
        "max_voids_per_hour": lot.choice([2, 5]) if Fault.MASS_VOID in asked else 1_000_000,
    }
    return Delivery(**chosen)
