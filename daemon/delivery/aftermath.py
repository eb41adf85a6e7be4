"""What the end of a request changes: whose fault it was decides who waits. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from daemon.delivery.destination import (
    BLAME_AFTER,
    REJECTED,
    Action,
    Flight,
    Group,
    Item,
    OrderFault,
    Quarantine,
    Settle,
    State,
    Withheld,
    nothing_ready,
)
from daemon.delivery.verdict import Kind, Verdict
from daemon.state.delivery_records import UNDONE, Fate, Settled

Step = tuple[State, tuple[Action, ...]]


def answered(state: State, flight: Flight, verdict: Verdict, now: float, jitter: float) -> Step:
    """The destination after the request of `flight` (no longer among the flights) came to `verdict`."""
    match verdict.kind:
        case Kind.ACCEPTED:
            return _accepted(state, flight, verdict, now)
        case Kind.REJECTED:
            return _rejected(state, flight, verdict, now)
        case Kind.TOO_LARGE:
            return _too_large(state, flight, verdict, now)
        case Kind.LIMITED:
            return _limited(state, flight, verdict, now, jitter)
        case Kind.REFUSED:
            return _refused(state, flight, verdict, now)
        case Kind.NOT_SENT:
            return _not_sent(state, flight, verdict, now, jitter)
        case Kind.UNKNOWN:
            return _unknown(state, flight, verdict, now, jitter)


def _settle(
    state: State, flight: Flight, verdict: Verdict, now: float, orders: Iterable[Settled], fence: float = 0.0
) -> Step:
    """Settle the request; its bytes count one window from its answer, or from the end of its fence."""
    sent = verdict.kind is not Kind.NOT_SENT
    counts = fence + state.policy.settings.budget_window_secs if sent else 0.0
    records = tuple(orders)
    zeroed = _zeroed(flight, records)
    action = Settle(
        flight.number,
        verdict.kind.value,
        verdict.status,
        verdict.detail or (None if verdict.kind is Kind.ACCEPTED else verdict.cause or None),
        counts,
        records,
        zeroed,
    )
    closed = state.ledger.close(flight.number, now + counts).reduce(flight.number, zeroed)
    return replace(state, ledger=closed if sent else state.ledger.forget(flight.number)), (action,)


def _zeroed(flight: Flight, records: Iterable[Settled]) -> int:
    """How many of its orders may have gone from a total to 0: none to which nothing can have been applied."""
    zeroes = {item.key for item in flight.items if item.zeroes}
    return sum(one.key in zeroes and (one.fate not in UNDONE or one.zeroed_before) for one in records)


def _all(flight: Flight, fate: Fate, *, hold: float = 0.0, detail: str | None = None) -> list[Settled]:
    """The same fate for every order of the flight."""
    return [settled(item, fate, hold=hold, detail=detail) for item in flight.items]


def settled(
    item: Item,
    fate: Fate,
    *,
    hold: float = 0.0,
    reason: str | None = None,
    detail: str | None = None,
    doubt: bool = False,
) -> Settled:
    """One order's record. `doubt`: it may have been applied, so it counts as attempted from now on."""
    digest = {Fate.ACCEPTED: item.document.digest, Fate.NOT_SENT: item.due.digest}.get(fate)
    attempted = True if doubt else item.due.ever_attempted
    zeroed = item.document.zero if doubt else item.due.zeroed
    return Settled(item.key, fate, digest, attempted, item.void, hold, reason, detail, zeroed, item.clears)


def _succeeded(state: State, now: float) -> State:
    """The vendor took something: it is up, the key is good, and not everything of ours is wrong."""
    return replace(
        state,
        halted=None,
        halted_for_orders=False,
        failures=0,
        backoff_until=0.0,
        last_success=now,
        tally=replace(state.tally, passed=state.tally.passed + 1),
        batch_orders=min(state.batch_orders * 2, 1 << 30),
    )


def _accepted(state: State, flight: Flight, verdict: Verdict, now: float) -> Step:
    named = {fault.order_id: fault.message for fault in verdict.faults}
    taken = [item for item in flight.items if item.order_id not in named]
    if not taken:
        return _rejected(state, flight, verdict, now)
    state = _succeeded(state, now)
    if flight.group is not None and flight.group.cause == REJECTED:
        state = replace(state, surgery_accepted=True)
    if state.largest_body is not None and flight.size >= 0.9 * state.largest_body:
        grown = state.largest_body * 5 // 4 + 1
        state = replace(state, largest_body=grown if grown < state.policy.settings.max_request_bytes else None)
    state = _remember(state, [""] * len(taken))
    gap = state.policy.settings.resend_gap_secs
    orders = [settled(item, Fate.ACCEPTED, hold=gap) for item in taken]
    blamed = [item for item in flight.items if item.order_id in named]
    state, records = _convict(state, blamed, named, now, REJECTED, doubt=Fate.DOUBTFUL, hold=gap)
    return _settle(state, flight, verdict, now, orders + records)


def _rejected(state: State, flight: Flight, verdict: Verdict, now: float) -> Step:
    """A 400, or a 2xx that names every order: orders are at fault. After the 400 those named count as not taken."""
    if state.halted_for_orders:
        state = replace(state, probe_at=now + state.policy.settings.halt_probe_secs)
        return _settle(state, flight, verdict, now, _all(flight, Fate.DOUBTFUL, detail=verdict.detail))
    state = replace(state, halted=None, failures=0, backoff_until=0.0)  # whoever judges orders is up and lets us in
    named = {fault.order_id: fault.message for fault in verdict.faults}
    blamed = [item for item in flight.items if item.order_id in named]
    if not blamed and len(flight.items) == 1:
        return _lone(state, flight, verdict, now)
    if not blamed:
        whole = _group(flight, flight.items, REJECTED, now)
        state = replace(state, groups=(*whole.halves(), *state.groups))
        return _settle(state, flight, verdict, now, _all(flight, Fate.DOUBTFUL))
    others = [item for item in flight.items if item.order_id not in named]
    taken = verdict.kind is Kind.ACCEPTED
    hold = state.policy.settings.resend_gap_secs if taken else 0.0
    doubt = Fate.DOUBTFUL if taken else None
    state, records = _convict(state, blamed, named, now, REJECTED, doubt=doubt, hold=hold)
    if others and not state.halted:
        state = replace(state, groups=(_group(flight, others, REJECTED, now), *state.groups))
    return _settle(state, flight, verdict, now, records + [settled(item, Fate.DOUBTFUL) for item in others])


def _lone(state: State, flight: Flight, verdict: Verdict, now: float) -> Step:
    """One order, refused without being named: it is the one. In a bisection that accepted nothing yet, wait and see."""
    item = flight.items[0]
    detail = verdict.detail or f"refused alone with status {verdict.status}"
    in_bisection = flight.group is not None and flight.group.cause == REJECTED
    if not in_bisection or state.surgery_accepted:
        state, records = _convict(state, [item], {item.order_id: detail}, now, REJECTED)
        return _settle(state, flight, verdict, now, records)
    state = replace(state, withheld=(*state.withheld, Withheld(item, detail)))
    if len(state.withheld) >= state.policy.first_of_bisection:
        text = f"{len(state.withheld)} orders in a row refused alone, none accepted: {detail}"
        state = _halt_for_orders(state, text, now)
    return _settle(state, flight, verdict, now, [settled(item, Fate.NOT_APPLIED, detail=detail)])


def close_surgery(state: State) -> Step:
    """Quarantine what a bisection withheld, once something of it was accepted or all of it was tried."""
    going_on = any(group.cause == REJECTED for group in state.groups) or any(
        flight.group is not None and flight.group.cause == REJECTED for flight in state.in_flight
    )
    actions: tuple[Action, ...] = ()
    if state.withheld and (state.surgery_accepted or not going_on):
        state = _remember(state, [REJECTED] * len(state.withheld))
        faults = tuple(OrderFault(one.item.due, REJECTED, one.detail) for one in state.withheld)
        state, actions = replace(state, withheld=()), (Quarantine(faults, attempt=True),)
    if not going_on and state.surgery_accepted:
        state = replace(state, surgery_accepted=False)
    return state, actions


def _convict(
    state: State,
    blamed: list[Item],
    says: dict[str, str],
    now: float,
    kind: str,
    *,
    doubt: Fate | None = None,
    hold: float = 0.0,
) -> tuple[State, list[Settled]]:
    """Quarantine orders of a request that is being settled; beyond the budget for that, halt: then none pays.

    `doubt`: they may have been applied all the same, and this is the fate of those that are not quarantined.
    """
    if blamed and exceeds(state, kind, len(blamed)):
        text = f"{len(blamed)} more orders refused: {next(iter(says.values()))}"
        fate = doubt or Fate.NOT_APPLIED
        return _halt_for_orders(state, text, now), [settled(item, fate, hold=hold) for item in blamed]
    state = _remember(state, [kind] * len(blamed))
    return state, [
        settled(item, Fate.QUARANTINED, hold=hold, reason=kind, detail=says[item.order_id], doubt=doubt is not None)
        for item in blamed
    ]


def exceeds(state: State, kind: str, more: int) -> bool:
    """Whether `more` faults of one kind are too many to be each order's own."""
    return state.verdicts.count(kind) + more > state.policy.settings.quarantine_budget_orders


def remember_faults(state: State, kinds: list[str], now: float, text: str) -> tuple[State, bool]:
    """Count faults found before sending; halts and gives False where they exceed the quarantine budget."""
    if any(exceeds(state, kind, kinds.count(kind)) for kind in set(kinds)):
        return _halt_for_orders(state, text, now), False
    return _remember(state, kinds), True


def _remember(state: State, kinds: list[str]) -> State:
    return replace(state, verdicts=(*state.verdicts, *kinds)[-state.policy.remembered_verdicts :])


def _halt_for_orders(state: State, text: str, now: float) -> State:
    """Too many orders at fault: the fault is ours. The bisection under way is given up, its orders stay owed."""
    halted = halt(state, f"quarantine budget: {text}", now)
    return replace(halted, halted_for_orders=True, verdicts=(), withheld=(), surgery_accepted=False, groups=())


def halt(state: State, reason: str, now: float) -> State:
    """Send nothing but a small probe now and then."""
    probe_at = now + state.policy.settings.halt_probe_secs
    return replace(state, halted=reason, probe_at=probe_at, ready=nothing_ready())


def _group(flight: Flight, items: Iterable[Item], cause: str, ready_at: float) -> Group:
    return Group(tuple(item.key for item in items), flight.lane, cause, ready_at)


def _back(state: State, flight: Flight) -> State:
    """The group of a request that came to nothing is sent again as it was."""
    return replace(state, groups=(flight.group, *state.groups)) if flight.group is not None else state


def _too_large(state: State, flight: Flight, verdict: Verdict, now: float) -> Step:
    if len(flight.items) == 1:
        item = flight.items[0]
        detail = f"one document of {flight.size} bytes is too large"
        state, records = _convict(state, [item], {item.order_id: detail}, now, Kind.TOO_LARGE.value)
        return _settle(state, flight, verdict, now, records)
    if flight.group is not None:
        state = replace(state, groups=(*flight.group.halves(), *state.groups))
    state = replace(state, largest_body=max(flight.size // 2, 1), look_at={**state.look_at, flight.lane: now})
    return _settle(state, flight, verdict, now, _all(flight, Fate.NOT_APPLIED))


def _limited(state: State, flight: Flight, verdict: Verdict, now: float, jitter: float) -> Step:
    asked = verdict.pause_secs if verdict.pause_secs is not None else state.policy.settings.budget_window_secs
    # Up to a tenth, a second at most, later than asked: never sooner.
    until = now + asked + jitter * min(1.0, asked / 10.0)
    since = state.limited_since if state.limited_until > now else now
    state = _back(replace(state, limited_until=max(state.limited_until, until), limited_since=since), flight)
    return _settle(state, flight, verdict, now, _all(flight, Fate.NOT_APPLIED))


def _refused(state: State, flight: Flight, verdict: Verdict, now: float) -> Step:
    """Our fault, unless it is a 403 that meets this batch alone."""
    records = _all(flight, Fate.NOT_APPLIED)
    if verdict.status == 403:
        group = flight.group
        if group is None or group.cause != "403" or state.last_success <= group.since:
            state = halt(state, _reason(verdict), now)
        state, convicted = _suspect(state, flight, verdict, now, ready_at=now)
        return _settle(state, flight, verdict, now, convicted or records)
    return _settle(_back(halt(state, _reason(verdict), now), flight), flight, verdict, now, records)


def _reason(verdict: Verdict) -> str:
    return f"status {verdict.status}" + (f": {verdict.detail}" if verdict.detail else "")


def _not_sent(state: State, flight: Flight, verdict: Verdict, now: float, jitter: float) -> Step:
    state = _back(_failed(state, now, jitter, 0.0), flight)
    return _settle(state, flight, verdict, now, _all(flight, Fate.NOT_SENT, detail=verdict.detail))


def _unknown(state: State, flight: Flight, verdict: Verdict, now: float, jitter: float) -> Step:
    fence = state.policy.settings.fence_secs
    state = _failed(state, now, jitter, verdict.pause_secs or 0.0)
    if len(flight.items) > 1:
        state = replace(state, batch_orders=max(len(flight.items) // 2, 1))
    # A little after the orders' own hold, which the database's clock ends.
    state, convicted = _suspect(state, flight, verdict, now, ready_at=now + fence + 0.25, fence=fence)
    records = convicted or _all(flight, Fate.UNKNOWN, hold=fence, detail=verdict.detail or verdict.cause)
    return _settle(state, flight, verdict, now, records, fence)


def _failed(state: State, now: float, jitter: float, asked: float) -> State:
    failures = state.failures + 1
    until = now + max(state.policy.backoff(failures, jitter), asked)
    opened = failures >= state.policy.settings.circuit_failures
    ready = nothing_ready() if opened else state.ready
    since = state.failing_since if state.failures else now
    state = replace(state, failing_since=since)
    return replace(state, failures=failures, backoff_until=max(state.backoff_until, until), ready=ready)


def _suspect(
    state: State, flight: Flight, verdict: Verdict, now: float, *, ready_at: float, fence: float = 0.0
) -> tuple[State, list[Settled]]:
    """Keep the batch together and count its equal failures; then halve it.

    A lone order is judged once it failed more often than chance explains, going by how the others fare meanwhile.
    """
    before = flight.group
    if before is None or before.cause == REJECTED:
        state = replace(state, tally=replace(state.tally, failed=state.tally.failed + 1))
    group = replace(_group(flight, flight.items, verdict.cause, ready_at), since=now, others=state.tally)
    if before is not None and _family(before.cause) == _family(verdict.cause):
        group = replace(group, failures=before.failures, alone=before.alone, since=before.since, others=before.others)
    group = replace(group, failures=min(group.failures + 1, BLAME_AFTER), alone=group.alone + (len(group.keys) == 1))
    if len(group.keys) > 1 and group.failures == BLAME_AFTER:
        halves = tuple(replace(half, failures=BLAME_AFTER - 1) for half in group.halves())
        return replace(state, groups=(*state.groups, *halves)), []
    if len(group.keys) > 1 or state.tally.since(group.others).explains(group.alone):
        return replace(state, groups=(*state.groups, group)), []
    item = flight.items[0]
    text = f"fails alone while others pass: {verdict.detail or verdict.cause}"
    doubt = Fate.UNKNOWN if fence > 0 else None
    return _convict(state, [item], {item.order_id: text}, now, f"fails_{verdict.cause}", doubt=doubt, hold=fence)


def _family(cause: str) -> str:
    """What makes failures equal: one bad order may time out now and be a 502 or a 500 the next time."""
    return cause if cause in (REJECTED, "403") else Kind.UNKNOWN.value
