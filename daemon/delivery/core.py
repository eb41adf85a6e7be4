"""Decides for one destination what to send next and what an answer means: `(state, event, now) -> (state, actions)`.

Pure: the loop carries the actions out and tells what came of them. Time is monotonic seconds. Handed one Tick, the
core asks for at most one thing that takes the loop's time (a Fetch or a Send), so the loop ticks until nothing comes.

Order of what may be sent: what a 400 left over; a batch under suspicion (one at a time); then the lanes, live first,
but the backfill where it has had less than its share of bytes or of requests. A halted destination, and one whose
vendor seems down, get one small probe at a time, of other orders than the suspected ones where there are any.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from daemon.delivery.aftermath import Step, answered, close_surgery, remember_faults
from daemon.delivery.destination import (
    MAX_TRIED,
    OPEN,
    PROBE_ORDERS,
    REJECTED,
    STALE_SECS,
    Action,
    Fetch,
    Fetched,
    Flight,
    Group,
    Inherited,
    Intake,
    Item,
    NoRoom,
    OrderFault,
    Policy,
    Quarantine,
    Released,
    Reserved,
    Send,
    Settle,
    State,
    Tick,
    Told,
    body_size,
)
from daemon.delivery.intake import admit
from daemon.delivery.verdict import Kind, Verdict
from daemon.settings import Delivery
from daemon.state.delivery_records import Fate, LedgerEntry, OpenRequest, Settled, Standing
from daemon.state.schedule import Lane

__all__ = ["Answered", "start", "step"]


@dataclass(frozen=True, slots=True)
class Answered:
    """Request `number` ended. `jitter` in [0, 1) is drawn by the loop."""

    number: int
    verdict: Verdict
    jitter: float = 0.0


Event = Tick | Fetched | Reserved | Answered | Told | Released


def start(
    settings: Delivery,
    standing: Standing,
    requests: list[OpenRequest],
    ledger: list[LedgerEntry],
    now: float,
    intake: Intake = OPEN,
    *,
    era_secs: float = float("inf"),
) -> State:
    """The state of a new leader: what the destination remembers, and what earlier leaders left open.

    `era_secs`: since the state went back. Of the future that was lost some request may still be under way, and nobody
    knows how many bytes it sent: as if all of the budget had gone out in one request that began right then.
    """
    state = State(
        Policy(settings),
        replace(intake, asked=standing.asked),
        paused=standing.paused,
        halted=standing.halted,
        halted_for_orders=bool(standing.halted and standing.halted.startswith("quarantine budget")),
        probe_at=now,
        backoff_until=now + standing.pause_secs,
        failing_since=now,
        failures=standing.failures,
        largest_body=standing.largest_body,
    )
    book, number = state.ledger, 1
    inherited = []
    for request in requests:
        lane = Lane(request.lane)
        book = book.reserve(number, lane, request.size, request.zeroed)
        inherited.append(Inherited(number, lane, request.keys, now + settings.fence_secs, request.zeroed))
        number += 1
    for entry in ledger:
        book = book.reserve(number, Lane(entry.lane), entry.size, entry.zeroed).close(number, now + entry.secs)
        number += 1
    arrives = settings.start_grace_secs + settings.request_timeout_secs
    book = book.reserve(number, Lane.LIVE, settings.budget_bytes).close(
        number, now - era_secs + arrives + settings.budget_window_secs
    )
    return replace(
        state,
        ledger=book.trimmed(now),
        inherited=tuple(inherited),
        next_number=number + 1,
        limited_until=now - era_secs + settings.fence_secs,
    )


def standing_of(state: State, now: float) -> Standing:
    """What is worth remembering across a restart."""
    pause = max(state.limited_until, state.backoff_until) - now
    return Standing(state.paused, state.halted, max(pause, 0.0), state.failures, state.largest_body)


def step(state: State, event: Event, now: float) -> Step:
    """What `event` changes, and what is to be done about it."""
    match event:
        case Tick():
            trimmed = state.ledger.trimmed(now)
            state, actions = _plan(state if trimmed is state.ledger else replace(state, ledger=trimmed), now)
        case Fetched():
            state, actions = _fetched(state, event, now)
        case Reserved(number=number, keys=keys):
            state, actions = _reserved(state, number, keys), ()
        case Answered(number=number, verdict=verdict, jitter=jitter):
            flight = next(one for one in state.in_flight if one.number == number)
            state = _landed(state, flight)
            state, actions = answered(state, flight, verdict, now, jitter)
        case Told():
            state, actions = _told(state, event, now), ()
        case Released():
            look_at = {**state.look_at, Lane.BACKFILL: now}
            state, actions = replace(state, backfill_waits=True, look_at=look_at), ()
    state, closing = close_surgery(state)
    return state, (*actions, *closing)


def _told(state: State, event: Told, now: float) -> State:
    state = replace(state, paused=event.paused, intake=replace(state.intake, asked=event.asked))
    if event.resume:
        return replace(state, halted=None, halted_for_orders=False, verdicts=(), tried=(), dry=frozenset())
    return replace(state, probe_at=min(state.probe_at, now)) if event.new_key else state


def _landed(state: State, flight: Flight) -> State:
    return replace(state, in_flight=tuple(one for one in state.in_flight if one.number != flight.number))


def _reserved(state: State, number: int, keys: frozenset[str]) -> State:
    """Orders that could not be put in flight drop out; they are found again where they are due."""
    flight = next(one for one in state.in_flight if one.number == number)
    if not keys:
        return replace(_landed(state, flight), ledger=state.ledger.forget(number))
    if len(keys) == len(flight.items):
        return state
    items = tuple(item for item in flight.items if item.key in keys)
    group = flight.group and replace(flight.group, keys=tuple(item.key for item in items))
    kept = replace(flight, items=items, group=group)
    state = replace(state, ledger=state.ledger.reduce(number, _zeroed(items)))
    return replace(state, in_flight=tuple(kept if one.number == number else one for one in state.in_flight))


def _zeroed(items: Iterable[Item]) -> int:
    return sum(item.zeroes for item in items)


# What to do next


def _plan(state: State, now: float) -> Step:
    over = [one for one in state.inherited if one.until <= now]
    if over:
        return _end_inherited(state, over[0], now)
    state = _without_stale(state, now)
    if state.paused or max(state.limited_until, state.backoff_until) > now:
        return state, ()
    if state.halted or state.circuit_open:
        waits = state.in_flight or (state.halted and state.probe_at > now)
        return (state, ()) if waits else _probe(state, now)
    if len(state.in_flight) >= state.policy.settings.requests_in_flight:
        return state, ()
    for group in state.groups:
        if group.ready_at <= now and (group.cause == REJECTED or not _suspect_in_flight(state)):
            return _fetch_group(state, group)
    for lane in _lanes(state, now):
        batch, passed = _pack(state, state.ready[lane], lane, now, state.order_limit)
        state = _remember_passed(state, lane, passed, now)
        if batch:
            return _send(state, lane, batch, None)
        if state.look_at[lane] <= now and _worth_fetching(state, lane, now):
            return state, (Fetch(lane, state.order_limit, tuple(state.busy())),)
    return state, ()


def _end_inherited(state: State, request: Inherited, now: float) -> Step:
    """A request that an earlier leader left open can no longer land: its orders are sent anew from their rows."""
    window = state.policy.settings.budget_window_secs
    settle = Settle(
        request.number,
        Kind.UNKNOWN.value,
        None,
        "left open by an earlier leader",
        window,
        tuple(Settled(key, Fate.UNKNOWN) for key in request.keys),
        request.zeroed,
    )
    left = tuple(one for one in state.inherited if one.number != request.number)
    return replace(state, inherited=left, ledger=state.ledger.close(request.number, now + window)), (settle,)


def _without_stale(state: State, now: float) -> State:
    stale = [lane for lane, items in state.ready.items() if items and items[0].at < now - STALE_SECS]
    if not stale:
        return state
    ready = {lane: () if lane in stale else items for lane, items in state.ready.items()}
    return replace(state, ready=ready, look_at={**state.look_at, **dict.fromkeys(stale, now)})


def _suspect_in_flight(state: State) -> bool:
    return any(flight.group is not None and flight.group.cause != REJECTED for flight in state.in_flight)


def _probe(state: State, now: float) -> Step:
    """One small batch: of the lanes, else of what is under suspicion. Each probe of a halt for orders tries others."""
    tried = state.tried if state.halted_for_orders else ()
    for lane in Lane:
        if state.look_at[lane] <= now:
            return state, (Fetch(lane, PROBE_ORDERS, (*state.busy(), *tried), probe=True),)
    for group in state.groups:
        if group.ready_at <= now:
            head, rest = replace(group, keys=group.keys[:PROBE_ORDERS]), replace(group, keys=group.keys[PROBE_ORDERS:])
            others = tuple(one for one in state.groups if one is not group)
            state = replace(state, groups=(*others, rest) if rest.keys else others)
            return state, (Fetch(group.lane, PROBE_ORDERS, group=head, probe=True),)
    return state, ()


def _fetch_group(state: State, group: Group) -> Step:
    others = tuple(one for one in state.groups if one is not group)
    return replace(state, groups=others), (Fetch(group.lane, len(group.keys), group=group),)


def _lanes(state: State, now: float) -> list[Lane]:
    """The lanes in the order of their turn.

    Neither lane holds the last request slot while the other waits for it: the backfill leaves it free, and live, which
    goes first, goes second there. However slow answers are, a trickle of fresh changes then does not starve the
    backfill of requests, nor do fresh ones wait for more than the end of one.

    A document that waited a window for room and is above its lane's share has both lanes wait: else it waits for ever.
    """
    for lane, share in ((Lane.LIVE, state.policy.shares.live), (Lane.BACKFILL, state.policy.shares.backfill)):
        if _overdue(state, lane, now) and state.no_room[lane].size > share * state.policy.settings.budget_bytes:
            return [lane]
    others = state.policy.settings.requests_in_flight - 1
    taken = Counter(flight.lane for flight in state.in_flight)
    if 0 < others <= taken[Lane.BACKFILL]:
        return [Lane.LIVE]
    share = state.policy.settings.backfill_min_share * state.ledger.used(now)
    may_wait = state.backfill_waits or state.look_at[Lane.BACKFILL] <= now
    if may_wait and (state.ledger.used(now, Lane.BACKFILL) < share or 0 < others <= taken[Lane.LIVE]):
        return [Lane.BACKFILL, Lane.LIVE]
    return [Lane.LIVE, Lane.BACKFILL]


def _room(state: State, lane: Lane, now: float) -> int:
    return state.ledger.room(now, lane, state.policy.shares, backfill_waits=state.backfill_waits)


def _floor(state: State, lane: Lane) -> int:
    """Room below which fetching is not worth while: the backfill waits for a batch of some size; less stays unused."""
    return 1 if lane is Lane.LIVE else max(min(state.byte_limit, state.policy.settings.budget_bytes // 200), 1)


def _overdue(state: State, lane: Lane, now: float) -> bool:
    """Whether a document of the lane was passed for so long that nothing of the lane may pass it any more."""
    waits = state.no_room.get(lane)
    return waits is not None and waits.since + state.policy.settings.budget_window_secs < now


def _remember_passed(state: State, lane: Lane, passed: Item | None, now: float) -> State:
    known = state.no_room.get(lane)
    if passed is None or (known is not None and known.key == passed.key):
        return state
    return replace(state, no_room={**state.no_room, lane: NoRoom(passed.key, body_size([passed]), now)})


def _worth_fetching(state: State, lane: Lane, now: float) -> bool:
    """With orders of the lane at hand: only if they are few and large, and there is room for a batch of others."""
    room = _room(state, lane, now)
    if not state.ready[lane]:
        return room >= _floor(state, lane) or _overdue(state, lane, now)
    few = len(state.ready[lane]) < PROBE_ORDERS and not _overdue(state, lane, now)
    return few and room >= _floor(state, Lane.BACKFILL)


def _pack(
    state: State, items: tuple[Item, ...], lane: Lane, now: float, limit: int
) -> tuple[tuple[Item, ...], Item | None]:
    """The first orders that fit one request, none of them in flight in another; one that is to go alone goes alone.
    Those that clear something go with no others.

    With the order that was passed because there is no room for it now: the one known to wait, else the first.
    """
    keys = {item.key for flight in state.in_flight for item in flight.items}
    keys.update(key for one in state.inherited for key in one.keys)
    ids = {item.order_id for flight in state.in_flight for item in flight.items}
    room = _room(state, lane, now)
    bytes_left = min(state.byte_limit, room) - 1
    known = state.no_room.get(lane)
    batch: list[Item] = []
    passed: Item | None = None
    for item in items:
        if len(batch) >= limit:
            break
        if item.key in keys or item.order_id in ids or (batch and item.clears is not batch[0].clears):
            continue
        size = len(item.document.body) + 1
        if size + 1 > room:
            waits = known is not None and known.key == item.key
            passed = item if passed is None or waits else passed
            if waits and _overdue(state, lane, now):
                break
            continue
        if item.due.send_alone or size > state.byte_limit - 1:
            if batch:
                continue
            return (item,), passed
        if size > bytes_left:
            break
        bytes_left -= size
        ids.add(item.order_id)
        batch.append(item)
    return tuple(batch), passed


def _send(state: State, lane: Lane, batch: tuple[Item, ...], group: Group | None) -> Step:
    number, size = state.next_number, body_size(batch)
    sent = {item.key for item in batch}
    state = replace(
        state,
        next_number=number + 1,
        ledger=state.ledger.reserve(number, lane, size, _zeroed(batch)),
        in_flight=(*state.in_flight, Flight(number, lane, batch, size, group)),
        ready={one: tuple(item for item in items if item.key not in sent) for one, items in state.ready.items()},
        no_room={one: waits for one, waits in state.no_room.items() if waits.key not in sent},
    )
    return state, (Send(number, lane, batch),)


# What came of a fetch


def _fetched(state: State, event: Fetched, now: float) -> Step:
    fetch = event.fetch
    if event.failed:
        groups = (fetch.group, *state.groups) if fetch.group else state.groups
        look_at = {**state.look_at, fetch.lane: now + _pause(state)}
        return replace(state, groups=groups, look_at=look_at), ()
    event = _without_giants(state, event)
    state = _tried(_keep_missing(state, event, now), event)
    state, event, parks = admit(state, event, now)
    actions: tuple[Action, ...] = parks
    if event.faults and not state.halted_for_orders:
        text = f"{len(event.faults)} orders cannot be sent: {event.faults[0].reason}: {event.faults[0].detail}"
        state, pays = remember_faults(state, [fault.reason for fault in event.faults], now, text)
        actions = (*parks, Quarantine(event.faults, attempt=False)) if pays else parks
    if not fetch.group:
        wait = 0.0 if event.more and not fetch.probe else _pause(state)
        waits = bool(event.items) or event.more if fetch.lane is Lane.BACKFILL else state.backfill_waits
        look_at = {**state.look_at, fetch.lane: now + wait}
        state = replace(_forget_passed(state, event), look_at=look_at, backfill_waits=waits)
    if not event.items or (state.halted and not fetch.probe):
        return _slower_probe(state, event, now), actions
    if fetch.group or fetch.probe:
        state, sends = _send_at_once(state, event, now)
        return state, (*actions, *sends)
    ready = {**state.ready, fetch.lane: (*state.ready[fetch.lane], *event.items)}
    return replace(state, ready=ready), actions


def _pause(state: State) -> float:
    return state.policy.settings.poll_interval_ms / 1000.0


def _without_giants(state: State, event: Fetched) -> Fetched:
    """What is larger than the whole budget can never be sent: the fault of the order."""
    budget = state.policy.settings.budget_bytes
    giants = [item for item in event.items if body_size([item]) > budget]
    if not giants:
        return event
    faults = tuple(
        OrderFault(item.due, Kind.TOO_LARGE.value, f"{body_size([item])} bytes; budget_bytes is {budget}")
        for item in giants
    )
    items = tuple(item for item in event.items if item not in giants)
    return replace(event, items=items, faults=(*event.faults, *faults))


def _keep_missing(state: State, event: Fetched, now: float) -> State:
    """Suspected orders that are not due yet, as settling took its time, stay suspected; one fence longer at most."""
    group = event.fetch.group
    if group is None or group.cause == REJECTED:
        return state
    seen = {item.key for item in event.items} | {fault.due.key for fault in event.faults} | set(event.judged)
    missing = tuple(key for key in group.keys if key not in seen)
    # From the first look on, which comes after they were settled: their hold ends within a fence.
    until = group.missed_until or now + state.policy.settings.fence_secs + 2 * _pause(state)
    if not missing or now > until:
        return state
    waiting = replace(group, keys=missing, ready_at=now + _pause(state), missed_until=until)
    return replace(state, groups=(*state.groups, waiting))


def _tried(state: State, event: Fetched) -> State:
    """Have the next probes of a halt for orders pass these, until there are no others: then it starts over."""
    fetch = event.fetch
    if not (state.halted_for_orders and fetch.probe) or fetch.group:
        return state
    found = (*(fault.due.key for fault in event.faults), *(item.key for item in event.items))
    dry = state.dry - {fetch.lane} if found or event.more else state.dry | {fetch.lane}
    if len(dry) == len(Lane):
        return replace(state, tried=(), dry=frozenset())
    return replace(state, tried=(*state.tried, *found)[-MAX_TRIED:], dry=dry)


def _forget_passed(state: State, event: Fetched) -> State:
    """A document that waited for room and is not among what is due any more is not waited for."""
    lane = event.fetch.lane
    waits = state.no_room.get(lane)
    if waits is None or event.fetch.probe or any(one.key == waits.key for one in (*state.ready[lane], *event.items)):
        return state
    return replace(state, no_room={one: other for one, other in state.no_room.items() if one is not lane})


def _slower_probe(state: State, event: Fetched, now: float) -> State:
    """A halted destination whose next orders cannot even be assembled is looked at again after a while, not at once."""
    if event.fetch.probe and state.halted and event.faults:
        return replace(state, probe_at=now + state.policy.settings.halt_probe_secs)
    return state


def _send_at_once(state: State, event: Fetched, now: float) -> Step:
    """Send what a group or a probe fetched; what does not fit one request stays a group."""
    fetch = event.fetch
    batch, _ = _pack(state, event.items, fetch.lane, now, fetch.limit)
    group = fetch.group and replace(fetch.group, missed_until=0.0)
    if group is None:
        return _send(state, fetch.lane, batch, None) if batch else (state, ())
    sent = {item.key for item in batch}
    if rest := tuple(item.key for item in event.items if item.key not in sent):
        # Not at the front: where the budget has no room the lanes find that out too, and ask again later.
        waiting = replace(group, keys=rest, ready_at=max(group.ready_at, now + (0.0 if batch else _pause(state))))
        state = replace(state, groups=(waiting, *state.groups))
    going = replace(group, keys=tuple(item.key for item in batch))
    return _send(state, fetch.lane, batch, going) if batch else (state, ())
