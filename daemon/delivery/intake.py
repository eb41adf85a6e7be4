"""What of the orders that could be sent is parked instead. Pure.

Three reasons, the first that applies: the destination is in shadow; the order is an old one of the backfill that nobody
asked for, or whose turn has not come; it would be zeroed beyond what the void guard lets pass. A parked order is not
due until its rows change or it is released: by the leader in the first two cases, by a person in the last.
"""

from __future__ import annotations

from dataclasses import replace

from daemon.delivery.destination import Fetched, Intake, Item, Park, State
from daemon.state.delivery_records import Hold, Judgement
from daemon.state.schedule import Lane


def admit(state: State, event: Fetched, now: float) -> tuple[State, Fetched, tuple[Park, ...]]:
    """What was fetched, without what is parked of it."""
    at_hand = sum(item.zeroes for items in state.ready.values() for item in items)
    room = state.policy.settings.max_voids_per_hour - state.ledger.zeroed(now) - at_hand
    going: list[Item] = []
    parked: list[Judgement] = []
    for item in event.items:
        hold = _hold(state.intake, item)
        if hold is None and item.zeroes:
            hold = Hold.GUARDED if room <= 0 else None
            room -= 1
        if hold is None:
            going.append(item)
        else:
            parked.append(_parked(item, hold))
    if not parked:
        return state, event, ()
    if state.intake.shadow:
        # A document that could be sent is what an acceptance is elsewhere: not everything of ours is wrong.
        passed = ("",) * len(parked)
        verdicts = (*state.verdicts, *passed)[-state.policy.remembered_verdicts :]
        state = replace(state, halted=None, halted_for_orders=False, verdicts=verdicts)
    return state, replace(event, items=tuple(going)), (Park(tuple(parked)),)


def _hold(intake: Intake, item: Item) -> Hold | None:
    if intake.shadow:
        return Hold.SHADOW
    # That a lost future may have sent it lets no mass of old orders go that nobody asked for. A void is the guard's.
    never_sent = not item.due.ever_attempted or (item.due.in_doubt and not item.void)
    if never_sent and item.due.lane == Lane.BACKFILL and not intake.in_turn(item.document.placed_at):
        return Hold.BACKFILL
    return None


def _parked(item: Item, hold: Hold) -> Judgement:
    document = item.document
    return Judgement(
        item.key,
        item.due.revision,
        hold=hold,
        parked=True,
        placed_at=document.placed_at,
        body_bytes=len(document.body),
    )
