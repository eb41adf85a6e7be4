"""Laws of what is parked instead of sent: shadow, the backfill's turn, the void guard."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from delivery_bench import Bench, Order, accepting, refusing
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.delivery import core
from daemon.delivery.destination import Fetch, Fetched, Intake, Item, Park, Released, Told
from daemon.delivery.verdict import Kind, Verdict
from daemon.document.outcome import Document
from daemon.settings import Delivery
from daemon.state.delivery_records import Asked, DueOrder, Hold, LedgerEntry, OpenRequest, Placed, Standing
from daemon.state.schedule import Lane

HOUR = 3600.0


def chosen(**changes: object) -> Delivery:
    """Settings that do not get in the way, with changes."""
    return Delivery(**({"resend_gap_secs": 0.0, "poll_interval_ms": 100, "max_voids_per_hour": 10} | changes))


def sent(count: int, bench: Bench) -> None:
    """Orders that the API has."""
    bench.add(count)
    bench.run(bench.now + 60, done=bench.finished)
    assert len(bench.accepted()) == count


def accepted_zero(bench: Bench) -> set[str]:
    """Orders that went to 0 at the API."""
    return {key for key in bench.accepted() if bench.orders[key].zero}


def test_single_cancelled_order_flows() -> None:
    """The void of one order is as quick as any change."""
    bench = Bench(chosen(), accepting)
    sent(20, bench)
    bench.void("00007")
    began = bench.now
    bench.run(began + 30, done=bench.finished)
    assert accepted_zero(bench) == {"00007"}
    assert bench.now - began < 2


@pytest.mark.parametrize("slots", [1, 4])
def test_mass_of_voids_is_guarded_beyond_the_number(slots: int) -> None:
    """Exactly the number goes out, the others wait for a person, also in the next hour; everything else flows."""
    bench = Bench(chosen(requests_in_flight=slots, max_orders_per_request=7), accepting)
    sent(200, bench)
    bench.void(*list(bench.orders)[:150])
    bench.orders |= {name: order_of(name, Lane.LIVE, 0.0) for name in ("fresh", "fresher")}
    bench.run(bench.now + 60)
    assert len(accepted_zero(bench)) == 10
    assert len(bench.parked(Hold.GUARDED)) == 140
    guarded = bench.parked(Hold.GUARDED)
    assert {"fresh", "fresher"} <= bench.accepted()
    bench.now += 2 * HOUR
    bench.run(bench.now + 60)
    assert bench.parked(Hold.GUARDED) == guarded
    bench.void(*list(bench.orders)[150:155])
    bench.run(bench.now + 60)
    assert len(accepted_zero(bench)) == 15


def test_zero_guards_every_void() -> None:
    """max_voids_per_hour: 0 lets none pass."""
    bench = Bench(chosen(max_voids_per_hour=0), accepting)
    sent(3, bench)
    bench.void("00001")
    bench.run(bench.now + 10)
    assert bench.parked(Hold.GUARDED) == {"00001"}


def test_orders_without_a_total_from_the_beginning_are_not_counted() -> None:
    """A free order takes nothing from anybody, new or changed."""
    bench = Bench(chosen(max_voids_per_hour=0), accepting)
    bench.add(30)
    for order in bench.orders.values():
        order.zero = True
    bench.run(10, done=bench.finished)
    bench.void(*bench.orders)
    bench.run(20, done=bench.finished)
    assert len(bench.accepted()) == 30


def test_order_whose_void_got_no_answer_is_counted_once() -> None:
    """It may be zeroed already: sending it again takes nothing away."""
    unanswered = {"left": 0}

    def vendor(_at: float, _ids: Sequence[str], _size: int) -> Verdict:
        unanswered["left"] -= 1
        return Verdict(Kind.UNKNOWN, None, cause="timeout") if unanswered["left"] >= 0 else Verdict(Kind.ACCEPTED, 200)

    bench = Bench(chosen(), vendor)
    sent(30, bench)
    unanswered["left"] = 3
    bench.void(*list(bench.orders)[:10])
    bench.run(bench.now + 1200, done=bench.finished)
    assert len(accepted_zero(bench)) == 10
    assert bench.parked(Hold.GUARDED) == set()


@pytest.mark.parametrize("kind", [Kind.NOT_SENT, Kind.REFUSED])
def test_voids_that_were_never_taken_give_their_room_back(kind: Kind) -> None:
    """A vendor that cannot be reached, or that refuses the key, for hours has not been sent what was tried."""
    now = {"kind": Kind.ACCEPTED}

    def vendor(_at: float, _ids: Sequence[str], _size: int) -> Verdict:
        return Verdict(now["kind"], 401 if now["kind"] is Kind.REFUSED else 200)

    bench = Bench(chosen(max_orders_per_request=5, circuit_failures=100), vendor)
    sent(30, bench)
    now["kind"] = kind
    bench.void(*list(bench.orders)[:10])
    bench.run(bench.now + 900)
    assert len(bench.arrivals) > 5 or kind is Kind.NOT_SENT
    assert bench.parked(Hold.GUARDED) == set()
    now["kind"] = Kind.ACCEPTED
    bench.run(bench.now + 900, done=bench.finished)
    assert len(accepted_zero(bench)) == 10


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 12), st.integers(1, 4))
def test_no_hour_as_the_vendor_sees_it_holds_more_zeroed_orders(lot: random.Random, number: int, slots: int) -> None:
    """Whatever becomes of requests, and whenever orders come and go: never more in an hour than the number."""
    zeroed: list[float] = []
    seen: dict[str, bool] = {}

    def vendor(at: float, ids: Sequence[str], _size: int) -> Verdict:
        kind = lot.choice([Kind.ACCEPTED, Kind.ACCEPTED, Kind.UNKNOWN, Kind.NOT_SENT, Kind.LIMITED])
        if kind in (Kind.ACCEPTED, Kind.UNKNOWN):
            for one in ids:
                zero = bench.orders[one].zero
                if zero and seen.get(one) is False:
                    zeroed.append(at)
                seen[one] = zero
        return Verdict(kind, None, cause="x", pause_secs=1.0 if kind is Kind.LIMITED else None)

    bench = Bench(
        chosen(
            max_voids_per_hour=number,
            requests_in_flight=slots,
            max_orders_per_request=9,
            backoff_max_secs=5.0,
            poll_interval_ms=2000,
        ),
        vendor,
    )
    bench.add(40)
    for _ in range(9):
        bench.run(bench.now + lot.choice([20.0, 200.0]))
        bench.now += lot.choice([0.0, 900.0])
        for order in bench.orders.values():
            if order.accepted_at is not None and lot.random() < 0.3:
                order.zero, order.accepted_at = lot.random() < 0.7, None
    for at in zeroed:
        assert sum(at <= other < at + HOUR for other in zeroed) <= number


def test_whoever_takes_over_counts_on() -> None:
    """What earlier leaders zeroed, in open requests too, counts; what is an hour old does not."""
    requests = [OpenRequest(1, 0, 10, ("x", "y"), zeroed=2)]
    state = core.start(chosen(), Standing(), requests, [LedgerEntry(0, 10, -3000.0, zeroed=3)], 100.0)
    assert state.ledger.zeroed(100.0) == 5
    assert state.ledger.used(100.0) == 10
    assert state.ledger.zeroed(701.0) == 2


def test_shadow_sends_nothing_and_parks_everything() -> None:
    """Good orders are parked, bad ones quarantined, and the vendor never hears of it."""
    bench = Bench(chosen(), refusing(set(), named=True), intake=Intake(shadow=True))
    bench.add(300)
    bench.add(300, Lane.BACKFILL, prefix="b")
    bad = {list(bench.orders)[number] for number in (3, 200)}
    bench.unassembled = dict.fromkeys(bad, "invalid")
    bench.run(20)
    assert bench.arrivals == []
    assert bench.quarantined() == bad
    assert bench.parked(Hold.SHADOW) == bench.orders.keys() - bad


def test_shadow_halts_for_a_mass_of_faults_and_goes_on_when_they_end() -> None:
    """A mapping that fails for everything is our fault there too; a probe that finds a good order lifts the halt."""
    bench = Bench(chosen(halt_probe_secs=1.0), accepting, intake=Intake(shadow=True))
    bench.add(200)
    bench.unassembled = dict.fromkeys(bench.orders, "invalid")
    bench.run(20)
    assert len(bench.halts) == 1
    assert bench.quarantined() == set()
    bench.unassembled = {}
    bench.run(60)
    assert len(bench.parked(Hold.SHADOW)) == 200
    assert bench.state.halted is None
    assert bench.arrivals == []


def test_backfill_waits_for_its_turn() -> None:
    """Orders placed before live_since go only where they were asked for and released; the live lane always flows."""
    asked = Asked(Placed(100.0, 200.0), reached=150.0)
    bench = Bench(chosen(), accepting, intake=Intake(live_since=1000.0, asked=asked))
    old = {"too_old": 99.0, "not_yet": 150.1, "too_young": 200.0}
    due = {"first": 100.0, "reached": 150.0, "fresh": 1000.0, "known": 1.0}
    for name, placed_at in (old | due).items():
        bench.orders[name] = order_of(name, Lane.BACKFILL, placed_at)
    bench.orders["known"].ever_attempted = True  # the API has it: it must not stay stale
    bench.orders["live"] = order_of("live", Lane.LIVE, 1.0)
    bench.run(20)
    assert bench.accepted() == {*due, "live"}
    assert bench.parked(Hold.BACKFILL) == old.keys()


@pytest.mark.parametrize(("void", "parks"), [(False, True), (True, False)])
def test_doubt_after_the_state_went_back_asks_for_no_backfill(void: bool, parks: bool) -> None:
    """Old orders that only a lost future may have sent wait like any other; what is gone since is the guard's."""
    state = core.start(chosen(), Standing(), [], [], 0.0, Intake(live_since=math.inf))
    due = DueOrder("1", Lane.BACKFILL, 1, 0.0, ever_attempted=True, in_doubt=True)
    item = Item(due, Document("1", b"x", b"", 0.0, zero=void), 0.0, void)
    _, actions = core.step(state, Fetched(Fetch(Lane.BACKFILL, 10), (item,)), 0.0)
    holds = [one.hold for park in actions if isinstance(park, Park) for one in park.judgements]
    assert holds == [Hold.BACKFILL] * parks


def order_of(key: str, lane: Lane, placed_at: float) -> Order:
    """An owed order that was placed then."""
    return Order(key, lane, b"x", placed_at=placed_at)


def test_core_hears_what_is_asked_for() -> None:
    """News of the range changes what is sent; released orders are looked for at once."""
    state = core.start(chosen(), Standing(), [], [], 0.0, Intake(live_since=math.inf))
    assert not state.intake.in_turn(5.0)
    assert state.backfill_runs_low
    asked = Asked(Placed(), reached=math.inf)
    state, _ = core.step(state, Told(paused=False, asked=asked), 1.0)
    assert state.intake.in_turn(5.0)
    state, _ = core.step(state, Released(), 1.0)
    assert not state.backfill_runs_low
    assert state.look_at[Lane.BACKFILL] == 1.0
    state, _ = core.step(state, Told(paused=True, asked=None), 2.0)
    assert not state.intake.in_turn(5.0)


def test_holds_have_an_age() -> None:
    """Backing off, a 429 and the fence of what an earlier leader left open are told with their age."""
    now = {"kind": Kind.NOT_SENT}
    bench = Bench(chosen(), lambda _at, _ids, _size: Verdict(now["kind"], None, pause_secs=50.0))
    assert set(bench.state.holds(bench.now).values()) == {0.0}
    bench.add(5)
    bench.run(40)
    assert bench.state.holds(bench.now)["backoff"] == pytest.approx(40, abs=3)
    now["kind"] = Kind.LIMITED
    bench.run(600, done=lambda: bench.state.limited_until > bench.now)
    bench.run(bench.now + 30)
    assert bench.state.holds(bench.now)["limited"] == pytest.approx(30, abs=2)
    now["kind"] = Kind.ACCEPTED
    bench.run(bench.now + 600, done=bench.finished)
    assert set(bench.state.holds(bench.now).values()) == {0.0}
    left = core.start(chosen(), Standing(), [OpenRequest(1, 0, 10, ("x",))], [], 100.0)
    assert left.holds(110.0)["fence"] == pytest.approx(10)
