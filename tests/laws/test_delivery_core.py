"""Laws of the delivery core under a virtual clock."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from delivery_bench import Bench, accepting, refusing
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.delivery import core
from daemon.delivery.destination import Fetch, Fetched, Item, Send, Settle, Tick
from daemon.delivery.verdict import Fault, Kind, Verdict
from daemon.document.outcome import Document
from daemon.settings import Delivery
from daemon.state.delivery_records import DueOrder, Fate, LedgerEntry, OpenRequest, Standing
from daemon.state.schedule import Lane

OK = Verdict(Kind.ACCEPTED, 200, cause="200")


def chosen(**changes: object) -> Delivery:
    """Settings that do not get in the way, with changes."""
    return Delivery(**({"resend_gap_secs": 0.0, "poll_interval_ms": 100} | changes))


def test_named_orders_cost_three_requests_at_most() -> None:
    """1000 orders with 7 bad ones that are named: 993 accepted, 7 in quarantine, at most 3 requests."""
    bad = {f"{number:05}" for number in (0, 17, 18, 400, 401, 998, 999)}
    bench = Bench(chosen(), refusing(bad, named=True))
    bench.add(1000)
    bench.run(60, done=bench.finished)
    assert bench.quarantined() == bad
    assert len(bench.accepted()) == 993
    assert len(bench.arrivals) <= 3


@pytest.mark.parametrize("seed", range(3))
def test_unnamed_orders_are_found_by_bisection(seed: int) -> None:
    """1000 orders with 7 bad ones that are not named: the same end, in 115 requests and 6 times the bytes at most."""
    lot = random.Random(seed)
    bad = {f"{number:05}" for number in lot.sample(range(1000), 7)}
    bench = Bench(chosen(), refusing(bad, named=False))
    bench.add(1000)
    bench.run(600, done=bench.finished)
    assert bench.quarantined() == bad
    assert len(bench.accepted()) == 993
    assert len(bench.arrivals) <= 115
    assert sum(arrival.size for arrival in bench.arrivals) <= 6 * (1000 * 101 + 1)
    assert bench.halts == []


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.sets(st.integers(0, 59), max_size=5), st.booleans(), st.integers(1, 4))
def test_exactly_the_bad_orders_end_in_quarantine(count: int, bad: set[int], named: bool, slots: int) -> None:
    """Whatever the place of bad orders and the number of requests in flight: they alone are quarantined, once each."""
    bench = Bench(chosen(requests_in_flight=slots), refusing({f"{one:05}" for one in bad if one < count}, named=named))
    bench.add(count)
    bench.run(300, done=bench.finished)
    expected = {f"{one:05}" for one in bad if one < count}
    assert bench.quarantined() == expected
    assert len(bench.accepted()) == count - len(expected)
    assert all(order.attempts == (key in expected) for key, order in bench.orders.items())


@pytest.mark.parametrize("named", [True, False])
def test_orders_all_bad_for_one_reason_halt_the_destination(named: bool) -> None:
    """A mass of refusals is our fault: the destination halts and no order pays."""
    everything = {f"{number:05}" for number in range(1000)}
    bench = Bench(chosen(), refusing(everything, named=named))
    bench.add(1000)
    bench.run(50)
    assert bench.quarantined() == set()
    assert len(bench.halts) == 1
    assert len(bench.arrivals) < 40
    assert sum(order.attempts for order in bench.orders.values()) == 0


def test_mass_of_orders_that_cannot_be_assembled_halts_too() -> None:
    """A mapping that fails for every order is our fault, found before anything was sent."""
    bench = Bench(chosen(), accepting)
    bench.add(200)
    bench.unassembled = dict.fromkeys(bench.orders, "invalid")
    bench.run(50)
    assert bench.quarantined() == set()
    assert len(bench.halts) == 1
    assert bench.arrivals == []


def test_few_orders_that_cannot_be_assembled_are_quarantined() -> None:
    """Single faults found before sending hold up nobody else."""
    bench = Bench(chosen(), accepting)
    bench.add(200)
    bench.unassembled = {"00003": "invalid", "00150": "invalid"}
    bench.run(50, done=bench.finished)
    assert bench.quarantined() == {"00003", "00150"}
    assert len(bench.accepted()) == 198


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 4), st.sampled_from([1.0, 10.0, 60.0]))
def test_no_window_as_the_vendor_sees_it_exceeds_the_budget(lot: random.Random, slots: int, window: float) -> None:
    """Whenever requests arrive between their start and their answer, no sliding window holds more than the budget."""
    budget = 20_000
    bench = Bench(
        chosen(requests_in_flight=slots, budget_bytes=budget, max_request_bytes=6_000, budget_window_secs=window),
        accepting,
        latency=lambda: (lot.uniform(0.01, 5.0), lot.uniform(0.0, 5.0)),
    )
    bench.add(100, Lane.LIVE, size=lot.randint(50, 900), prefix="l")
    bench.add(200, Lane.BACKFILL, size=lot.randint(50, 900), prefix="b")
    bench.run(window * 10, done=bench.finished)
    arrivals = sorted((arrival.at, arrival.size) for arrival in bench.arrivals)
    for start, _ in arrivals:
        assert sum(size for at, size in arrivals if start <= at <= start + window) <= budget
    assert arrivals


def test_refused_requests_count_against_the_budget_too() -> None:
    """Bytes that the vendor refused were bytes all the same."""
    bench = Bench(
        chosen(budget_bytes=20_000, max_request_bytes=10_000),
        lambda _at, _ids, _size: Verdict(Kind.REJECTED, 400, cause="400"),
    )
    bench.add(2000, size=200)
    bench.run(59)
    assert sum(arrival.size for arrival in bench.arrivals) <= 20_000


def test_live_orders_pass_a_backfill() -> None:
    """While a backfill uses all it may, a live order waits for a poll and a request, not for the backfill."""
    bench = Bench(chosen(budget_bytes=100_000, max_request_bytes=20_000), accepting)
    bench.add(20_000, Lane.BACKFILL, size=200)
    bench.run(20)
    for number in range(10):
        bench.add(1, Lane.LIVE, prefix=f"live{number}", due_at=bench.now)
        bench.run(bench.now + 7)
    live = [order for order in bench.orders.values() if order.lane is Lane.LIVE]
    assert all(order.accepted_at is not None and order.accepted_at - order.due_at < 1.0 for order in live)


def test_what_clears_goes_with_nothing_else() -> None:
    """A request is a POST or a PATCH: all of its orders are for the one, or all for the other."""
    bench = Bench(chosen(max_orders_per_request=7), accepting)
    bench.add(40)
    clearing = {key for number, key in enumerate(bench.orders) if number % 3 == 0}
    for key in clearing:
        bench.orders[key].clears = True
    bench.run(60, done=bench.finished)
    assert bench.accepted() == bench.orders.keys()
    shares = [len(clearing.intersection(arrival.order_ids)) / len(arrival.order_ids) for arrival in bench.arrivals]
    assert set(shares) == {0.0, 1.0}
    assert len(shares) < 40  # not one by one


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_live_goes_first(slots: int) -> None:
    """With both lanes due, the first request is a live one, and the backfill never takes the last free slot."""
    bench = Bench(chosen(requests_in_flight=slots), accepting, lambda: (5.0, 5.0))
    bench.add(20_000, Lane.BACKFILL, prefix="b")
    bench.add(10, Lane.LIVE, prefix="l")
    bench.run(1.0)
    lanes = [flight.lane for flight in bench.state.in_flight]
    assert lanes[0] is Lane.LIVE
    assert lanes.count(Lane.BACKFILL) <= max(slots - 1, 0)


def test_backfill_gets_its_share_of_a_busy_live_lane() -> None:
    """With more live orders than the budget can take, the backfill still gets its minimum share, and live the rest."""
    bench = Bench(chosen(budget_bytes=100_000, max_request_bytes=10_000, budget_window_secs=10.0), accepting)
    bench.add(30_000, Lane.LIVE, size=200, prefix="l")
    bench.add(30_000, Lane.BACKFILL, size=200, prefix="b")
    bench.run(200)
    sent = {lane: sum(one.size for one in bench.arrivals if one.lane is lane) for lane in Lane}
    assert sent[Lane.BACKFILL] >= 0.08 * sum(sent.values())
    assert sent[Lane.LIVE] >= 0.5 * sum(sent.values())


def test_backfill_alone_uses_what_latency_allows() -> None:
    """Without live traffic a backfill gets nearly all of the budget less the live share."""
    bench = Bench(
        chosen(budget_bytes=1_200_000, max_request_bytes=200_000, live_min_share=0.2), accepting, lambda: (0.25, 0.25)
    )
    bench.add(12_000, Lane.BACKFILL, size=500)
    bench.run(300)
    possible = 0.8 * 1_200_000 * 5 * 60 / 60.5
    assert sum(arrival.size for arrival in bench.arrivals) >= 0.9 * possible


def test_backfill_beside_a_trickle_of_live_orders_uses_what_latency_allows() -> None:
    """Fresh orders that keep requests under way all the time take of live's bytes, not the turns of the backfill."""
    bench = Bench(chosen(budget_bytes=150_000, max_request_bytes=25_000), accepting, lambda: (0.25, 0.25))
    bench.add(6_000, Lane.BACKFILL, size=200, prefix="b")
    for number in range(5 * 600):
        bench.add(1, Lane.LIVE, size=200, prefix="l", due_at=number / 5)
    bench.run(600)
    sent = sum(one.size for one in bench.arrivals if one.lane is Lane.BACKFILL)
    assert sent >= 0.97 * 75_000 * 600 / 60.5
    live = [order for order in bench.orders.values() if order.lane is Lane.LIVE and order.due_at < 595]
    assert all(order.accepted_at is not None and order.accepted_at - order.due_at < 1.2 for order in live)


def poisoned(bad: str) -> object:
    """A vendor that answers 500 to everything that holds one order."""

    def answer(_at: float, ids: Sequence[str], _size: int) -> Verdict:
        return Verdict(Kind.UNKNOWN, 500, cause="500") if bad in ids else OK

    return answer


@pytest.mark.parametrize("count", [2, 10, 300])
def test_poison_order_is_isolated_and_the_others_arrive(count: int) -> None:
    """An order that makes every request fail with a 500 is found by halving, and judged only as others pass."""
    bench = Bench(chosen(), poisoned("00001"))  # type: ignore[arg-type]
    bench.add(count)
    bench.run(5000, done=bench.finished)
    assert bench.quarantined() == {"00001"}
    assert len(bench.accepted()) == count - 1


def test_lone_failing_order_without_others_is_not_judged() -> None:
    """As long as nothing else passes, a failing order may as well be a vendor that is down."""
    bench = Bench(chosen(), poisoned("00000"))  # type: ignore[arg-type]
    bench.add(1)
    bench.run(5000)
    assert bench.quarantined() == set()
    assert bench.state.circuit_open
    bench.add(1, due_at=bench.now)
    bench.run(bench.now + 5000, done=bench.finished)
    assert bench.quarantined() == {"00000"}


def test_vendor_that_is_down_costs_no_order_an_attempt() -> None:
    """An hour without a connection: few requests, no attempts, and everything drains afterwards."""

    def answer(at: float, _ids: Sequence[str], _size: int) -> Verdict:
        return Verdict(Kind.NOT_SENT, cause="not_sent") if at < 3600 else OK

    tries = []
    bench = Bench(chosen(), lambda at, ids, size: (tries.append(at), answer(at, ids, size))[1])
    bench.add(3000)
    bench.run(3600)
    assert len(tries) < 60
    assert bench.state.circuit_open
    bench.run(4500, done=bench.finished)
    assert len(bench.accepted()) == 3000
    assert not any(order.attempts for order in bench.orders.values())


@pytest.mark.parametrize("kind", [Kind.UNKNOWN, Kind.REFUSED])
def test_fault_that_is_not_the_orders_costs_no_attempt(kind: Kind) -> None:
    """Ten minutes of 503 or 401: nothing is quarantined, probes are few, everything drains afterwards."""
    status = 401 if kind is Kind.REFUSED else 503

    def answer(at: float, _ids: Sequence[str], _size: int) -> Verdict:
        return Verdict(kind, status, cause=str(status)) if at < 600 else OK

    bench = Bench(chosen(), answer)
    bench.add(5000)
    bench.run(600)
    assert len(bench.arrivals) < 40
    bench.run(3000, done=bench.finished)
    assert len(bench.accepted()) == 5000
    assert not any(order.attempts for order in bench.orders.values())


def test_forbidden_batch_is_told_from_a_forbidden_key() -> None:
    """A 403 for one order alone ends in its quarantine, not in a halt for good."""

    def answer(_at: float, ids: Sequence[str], _size: int) -> Verdict:
        return Verdict(Kind.REFUSED, 403, cause="403") if "00001" in ids else OK

    bench = Bench(chosen(), answer)
    bench.add(40)
    bench.run(100)
    bench.add(5, due_at=bench.now, prefix="n")
    bench.run(5000, done=bench.finished)
    assert bench.quarantined() == {"00001"}
    assert bench.state.halted is None


def test_rate_limit_stops_every_request_for_as_long_as_it_asks() -> None:
    """After a 429 nothing goes out before the time it named, in neither lane, and no order pays."""
    answers = iter([Verdict(Kind.LIMITED, 429, pause_secs=37.0, cause="429")])
    bench = Bench(chosen(), lambda _at, _ids, _size: next(answers, OK))
    bench.add(3000)
    bench.add(3000, Lane.BACKFILL, prefix="b")
    bench.run(100, done=bench.finished)
    limited = next(arrival.at for arrival in bench.arrivals if arrival.kind is Kind.LIMITED)
    later = [arrival.at for arrival in bench.arrivals if arrival.at > limited + 0.3]
    assert min(later) >= limited + 37.0
    assert len(bench.accepted()) == 6000
    assert not any(order.attempts for order in bench.orders.values())


@pytest.mark.parametrize("seed", range(12))
def test_any_mix_of_answers_ends_with_every_order_accepted(seed: int) -> None:
    """After any storm of answers other than refused orders all is accepted: no order is taken for what fails."""
    lot = random.Random(seed)
    kinds = [
        OK,
        Verdict(Kind.UNKNOWN, 500, cause="500"),
        Verdict(Kind.UNKNOWN, None, cause="timed_out"),
        Verdict(Kind.NOT_SENT, cause="not_sent"),
        Verdict(Kind.LIMITED, 429, pause_secs=3.0, cause="429"),
        Verdict(Kind.TOO_LARGE, 413, cause="413"),
        Verdict(Kind.REFUSED, 401, cause="401"),
    ]

    def answer(at: float, ids: Sequence[str], _size: int) -> Verdict:
        verdict = lot.choice(kinds) if at < 800 else OK
        lone = verdict.kind is Kind.TOO_LARGE and len(ids) == 1  # which would rightly be the order's own fault
        return OK if lone else verdict

    bench = Bench(
        chosen(requests_in_flight=seed % 4 + 1, max_orders_per_request=20),
        answer,
        latency=lambda: (lot.uniform(0.01, 2.0), lot.uniform(0.0, 2.0)),
    )
    bench.add(60, Lane.LIVE, prefix="l")
    bench.add(60, Lane.BACKFILL, prefix="b")
    bench.run(6000, done=bench.finished)
    assert bench.quarantined() == set()
    assert len(bench.accepted()) == 120


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(2))
def test_vendor_that_fails_now_and_then_convicts_nobody(seed: int, share: float) -> None:
    """Whatever share of requests ends in a 502 for two hours, other requests pass meanwhile: it is no order's fault."""
    lot = random.Random(seed)

    def answer(at: float, _ids: Sequence[str], _size: int) -> Verdict:
        return Verdict(Kind.UNKNOWN, 502, cause="502") if at < 7200 and lot.random() < share else OK

    bench = Bench(chosen(max_orders_per_request=5, poll_interval_ms=2000), answer)
    for number in range(60):
        bench.add(5, prefix=f"{number:02}-", due_at=number * 120.0)
    bench.run(9000, done=bench.finished)
    assert bench.quarantined() == set()
    assert len(bench.accepted()) == 300


def test_poison_orders_are_isolated_while_the_vendor_fails_now_and_then() -> None:
    """One request of ten fails by itself: the two orders that always fail are found all the same, and they alone."""
    lot, bad = random.Random(1), {"00-00003", "00-00004"}

    def answer(_at: float, ids: Sequence[str], _size: int) -> Verdict:
        return Verdict(Kind.UNKNOWN, 502, cause="502") if bad & set(ids) or lot.random() < 0.1 else OK

    bench = Bench(chosen(max_orders_per_request=5, poll_interval_ms=2000), answer)
    for number in range(200):
        bench.add(5, prefix=f"{number:02}-", due_at=number * 30.0)
    bench.run(9000, done=bench.finished)
    assert bench.quarantined() == bad


def test_orders_without_an_answer_are_held_for_the_fence() -> None:
    """A 5xx or a time-out leaves the outcome open: nothing it named goes out before it can no longer land."""
    answers = iter([Verdict(Kind.UNKNOWN, 503, cause="503")])
    bench = Bench(chosen(), lambda _at, _ids, _size: next(answers, OK))
    bench.add(3)
    fence = bench.settings.fence_secs
    bench.run(fence, done=bench.finished)
    assert bench.accepted() == set()
    assert all(order.ever_attempted and order.not_before >= fence for order in bench.orders.values())
    bench.run(fence + 5, done=bench.finished)
    assert len(bench.accepted()) == 3


def test_requests_left_open_are_held_for_the_fence_on_the_leaders_own_clock() -> None:
    """A new leader settles what it inherited one fence after its take-over, names those orders in nothing sooner, and
    counts the bytes one window longer."""
    policy = chosen(budget_bytes=1000, max_request_bytes=1000)
    state = core.start(policy, Standing(), [OpenRequest(7, 0, 900, ("1", "2"))], [LedgerEntry(1, 50, 30.0)], 100.0)
    ends = 100.0 + policy.fence_secs
    state, actions = core.step(state, Tick(), ends - 0.1)
    assert not any(isinstance(action, Settle) for action in actions)
    assert {"1", "2"} <= set(state.busy())
    state, actions = core.step(state, Tick(), ends)
    settle = actions[0]
    assert isinstance(settle, Settle)
    assert {(one.key, one.fate) for one in settle.orders} == {("1", Fate.UNKNOWN), ("2", Fate.UNKNOWN)}
    assert state.ledger.used(ends + 59) == 900
    assert state.ledger.used(ends + 61) == 0


def test_new_era_sends_nothing_for_a_fence_and_takes_the_budget_to_be_used_up() -> None:
    """Of the future that was lost a request may still land, and its last bytes may only just arrive."""
    policy = chosen(budget_bytes=1000, max_request_bytes=1000, budget_window_secs=300)
    state = core.start(policy, Standing(), [], [], 100.0, era_secs=20.0)
    began, fence = 80.0, policy.fence_secs
    assert core.step(state, Tick(), began + fence - 0.1)[1] == ()
    assert core.standing_of(state, 100.0).pause_secs == fence - 20.0
    counts = began + policy.start_grace_secs + policy.request_timeout_secs + policy.budget_window_secs
    assert state.ledger.used(counts - 0.1) == 1000
    assert state.ledger.used(counts + 0.1) == 0
    _, (fetch,) = core.step(state, Tick(), max(counts, began + fence) + 0.1)
    assert isinstance(fetch, Fetch)


def test_orders_of_one_vendor_id_never_share_the_line() -> None:
    """Two orders that claim one id at the API are not in flight together, in one request or in two."""
    state = core.start(chosen(requests_in_flight=4), Standing(), [], [], 0.0)
    twins = tuple(
        Item(DueOrder(key, 0, 1, 0.0), Document("same", b"{}", b"", 0.0, zero=False), 0.0) for key in ("1", "2")
    )
    state, (fetch,) = core.step(state, Tick(), 0.0)
    assert isinstance(fetch, Fetch)
    state, _ = core.step(state, Fetched(fetch, twins), 0.0)
    state, (send,) = core.step(state, Tick(), 0.0)
    assert isinstance(send, Send)
    assert len(send.items) == 1
    state, actions = core.step(state, Tick(), 0.0)
    assert not any(isinstance(action, Send) for action in actions)


@pytest.mark.parametrize("settle_secs", [0.4, 3.0])
def test_poison_order_is_isolated_however_long_settling_takes(settle_secs: float) -> None:
    """A batch under suspicion whose hold ends later than expected stays together, its failures counted."""
    bench = Bench(chosen(), poisoned("00001"), settle_secs=settle_secs)  # type: ignore[arg-type]
    bench.add(10)
    bench.run(3000, done=bench.finished)
    assert bench.quarantined() == {"00001"}
    assert len(bench.accepted()) == 9


def test_suspected_orders_that_never_become_due_are_let_go() -> None:
    """What is not due one fence after it should have been, or was judged otherwise, is under suspicion no more."""
    bench = Bench(chosen(), poisoned("00001"), settle_secs=1e6)  # type: ignore[arg-type]
    bench.add(3)
    fence = bench.settings.fence_secs
    bench.run(fence + 5)
    assert {"00000", "00001", "00002"} <= set(bench.state.busy())
    bench.run(2 * fence + 10)
    assert bench.state.groups == ()


@pytest.mark.parametrize("causes", [("502", "504"), ("timed_out", "500"), ("cut", "408", "503")])
def test_poison_order_is_isolated_whatever_its_failures_look_like(causes: tuple[str, ...]) -> None:
    """All failures without a known outcome are equal: a bad order may end its requests in more than one way."""
    turn = itertools.cycle(causes)

    def answer(_at: float, ids: Sequence[str], _size: int) -> Verdict:
        return Verdict(Kind.UNKNOWN, None, cause=next(turn)) if "00001" in ids else OK

    bench = Bench(chosen(), answer)
    bench.add(10)
    bench.run(5000, done=bench.finished)
    assert bench.quarantined() == {"00001"}
    assert bench.orders["00001"].quarantined in {f"fails_{cause}" for cause in causes}
    assert len(bench.accepted()) == 9


@pytest.mark.parametrize("count", [1, 2, 200])
@pytest.mark.parametrize("alone", [True, False])
def test_orders_named_with_a_2xx_count_as_attempted(count: int, alone: bool) -> None:
    """They may have been taken: within the quarantine budget and beyond it, they are not orders never sent."""

    def answer(_at: float, ids: Sequence[str], _size: int) -> Verdict:
        named = tuple(Fault(one, "odd") for one in ids if one.startswith("bad"))
        return Verdict(Kind.ACCEPTED, 200, named, cause="200")

    bench = Bench(chosen(), answer)
    bench.add(count, prefix="bad")
    if not alone:
        bench.add(5, prefix="good")
    bench.run(10)
    named = [order for key, order in bench.orders.items() if key.startswith("bad")]
    assert bool(bench.quarantined()) == (count <= 50)
    assert bool(bench.halts) == (count > 50)
    assert all(order.ever_attempted for order in named)


def test_orders_named_with_a_400_do_not_count_as_attempted() -> None:
    """A 400 that names an order refuses it: it was never at the API."""
    bench = Bench(chosen(), refusing({"00001"}, named=True))
    bench.add(2)
    bench.run(10, done=bench.finished)
    assert bench.quarantined() == {"00001"}
    assert not bench.orders["00001"].ever_attempted


@pytest.mark.parametrize("lane", list(Lane))
def test_probes_of_a_halt_for_orders_try_other_orders(lane: Lane) -> None:
    """Bad orders at the head of a lane do not keep a halted destination from the good ones behind them."""
    bench = Bench(chosen(quarantine_budget_orders=10), accepting)
    bench.add(35, prefix="bad")
    bench.add(5, lane, prefix="good")
    bench.unassembled = {key: "invalid" for key in bench.orders if key.startswith("bad")}
    bench.run(600)
    assert bench.accepted() == {key for key in bench.orders if key.startswith("good")}
    assert bench.quarantined() == set()


def test_probes_of_a_halt_for_orders_start_over() -> None:
    """Where all orders were tried in vain, they are tried again: what was wrong may be right by now."""
    bench = Bench(chosen(quarantine_budget_orders=10), accepting)
    bench.add(35)
    bench.unassembled = dict.fromkeys(bench.orders, "invalid")
    bench.run(600)
    assert bench.state.halted_for_orders
    bench.unassembled = {}
    bench.run(800, done=bench.finished)
    assert len(bench.accepted()) == 35


@pytest.mark.parametrize("lane", list(Lane))
def test_document_above_the_whole_budget_is_its_orders_fault(lane: Lane) -> None:
    """It can never be sent: it is quarantined, and holds up nobody."""
    bench = Bench(chosen(budget_bytes=3000, max_request_bytes=3000), accepting)
    bench.add(1, lane, size=3000, prefix="huge")
    bench.add(3, lane, prefix="l")
    bench.run(10, done=bench.finished)
    assert {bench.orders[key].quarantined for key in bench.quarantined()} == {"too_large"}
    assert len(bench.accepted()) == 3


@pytest.mark.parametrize("lane", list(Lane))
def test_document_without_room_is_passed_but_not_for_ever(lane: Lane) -> None:
    """Smaller ones of its lane go first while there is no room for it, for one window; then it has its turn."""
    bench = Bench(chosen(budget_bytes=10_000, max_request_bytes=5_000, budget_window_secs=10.0), accepting)
    bench.add(1, lane, prefix="first")
    bench.run(1)
    bench.add(1, lane, size=9_950, prefix="big", due_at=bench.now)
    for number in range(60):
        bench.add(1, lane, size=200, prefix=f"l{number:02}_", due_at=bench.now)
        bench.run(bench.now + 1)
    big = next(order for key, order in bench.orders.items() if key.startswith("big"))
    small = [order for key, order in bench.orders.items() if key.startswith("l")]
    assert all(order.accepted_at is not None and order.accepted_at < 10 for order in small[:6])
    assert big.accepted_at is not None
    assert 10 < big.accepted_at < 25


@pytest.mark.parametrize("lane", list(Lane))
def test_document_above_its_lanes_share_passes_while_the_other_lane_is_busy(lane: Lane) -> None:
    """The other lane uses what it may without a break; the large document still goes, within a few windows."""
    other = Lane.BACKFILL if lane is Lane.LIVE else Lane.LIVE
    bench = Bench(chosen(budget_bytes=10_000, max_request_bytes=2_000, budget_window_secs=10.0), accepting)
    bench.add(1000, other, size=200, prefix="o")
    bench.run(5)
    bench.add(1, lane, size=9_000, prefix="big", due_at=bench.now)
    bench.run(60)
    big = next(order for key, order in bench.orders.items() if key.startswith("big"))
    assert big.accepted_at is not None
    assert big.accepted_at < 45
    assert len(bench.accepted()) > 100
