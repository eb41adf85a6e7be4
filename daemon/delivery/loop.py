"""The delivery loop of one destination: carries out what the core decides.

One order's path: due (by revision) → rows read → assembled → judged → put in flight with its request's row, in one
transaction under the lease → POST → settled in one transaction under the lease. Whoever comes in between (another
leader, a change, a crash) is met by: the epoch of the lease, the revision that was sent, the open request's row.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from daemon.delivery import core
from daemon.delivery.aftermath import settled
from daemon.delivery.assembly import Assembly
from daemon.delivery.core import Answered
from daemon.delivery.destination import (
    Action,
    Fetch,
    Fetched,
    Intake,
    Item,
    Park,
    Policy,
    Quarantine,
    Released,
    Reserved,
    Send,
    Settle,
    State,
    Tick,
    Told,
)
from daemon.delivery.judge import Rules
from daemon.delivery.leadership import Leadership, lead
from daemon.delivery.orders_api import OrdersApi
from daemon.delivery.posts import Posts
from daemon.delivery.report import Report
from daemon.delivery.verdict import Kind, Trouble, Verdict, verdict_of
from daemon.errors import LeaseLost, StateContended, StateUnavailable, Superseded
from daemon.mapping.model import Mapping
from daemon.operate.health import LoopHealth
from daemon.operate.metrics import Metrics
from daemon.settings import Settings
from daemon.state.delivery_records import (
    DeliveryState,
    Fate,
    Hold,
    Judgement,
    Outgoing,
    Placed,
    Settlement,
    Standing,
)

log = structlog.get_logger()

Debt = Settlement | Quarantine | Park
Release = Callable[[], Awaitable[int]]

STEPS_PER_TURN = 50
"""A turn ends after so many steps whatever is left to do, so that lease, health and stop signal get their turn."""

RELEASE_PAGE = 1000  # of what another mapping or another mode held back
RESEND_PAGE = 1000
COUNT_SECS = 5.0
COUNT_SHARE = 0.02  # of the time at most goes into counting what is parked, which may be millions
HOUSE_SECS = 600.0  # how often old requests and actions are let go
TURN_SECS = 1.0  # of fetching and judging, before a stop, a pause or an answer is heard


class DeliveryLoop:
    """Delivers to one destination for as long as this process leads it; waits for the lease otherwise."""

    def __init__(
        self,
        settings: Settings,
        destination: str,
        mapping: Mapping,
        store: DeliveryState,
        api: OrdersApi,
        metrics: Metrics,
        health: LoopHealth,
        *,
        clock: Callable[[], float] = time.monotonic,
        lot: Callable[[], float] = random.random,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings.delivery
        self._action_keep_days = settings.operate.action_keep_days
        self._identity = settings.destinations[destination]
        self._name = destination
        self._mapping = mapping
        self._store = store
        self._api = api
        self._health = health
        self._clock = clock
        self._lot = lot
        self._wall_clock = wall_clock
        self._log = log.bind(destination=destination)
        self._mode = self._identity.delivery
        self._report = Report(metrics, destination, self._settings, self._mode, self._log, clock)
        self._rules = Rules.of(mapping, self._settings)
        self._destination: int | None = None
        self._leadership: Leadership | None = None
        self._draining = False
        self._looked_at = float("-inf")
        self._posts = Posts(api, self._settings, clock)
        self._forget_leadership()

    def _forget_leadership(self) -> None:
        self._state = State(Policy(self._settings))
        self._assembly: Assembly | None = None
        self._saved, self._saved_until = Standing(), 0.0
        self._releasing: list[Release] = []
        self._resend_after: str | None = None  # orders up to this key follow the mapping; None: all do, or none shall
        self._resent = 0
        self._count_at = self._count_parked_at = self._ask_at = self._house_at = float("-inf")
        self._requests: dict[int, int] = {}  # the core's number of a request -> its id in the state
        self._owing: list[Debt] = []  # to be recorded as soon as the state is back

    # One turn

    async def run(self, stop: asyncio.Event) -> None:
        """Turn until told to stop, or until another mapping is in force; then drain.

        Ends with an error only where a person has to change something first.
        """
        try:
            try:
                while not stop.is_set():
                    if not await self.run_once():
                        await self.rest(stop)
            except Superseded as error:
                self._log.warning("superseded", reason=str(error))
            await self.drain()
        finally:
            self._posts.cancel()
            self._report.led(led=False)
            self._health.stopped()

    async def run_once(self) -> bool:
        """One turn; whether there may be more to do at once."""
        try:
            worked = await self._turn()
            self._health.set_ready(*self._gets_on())
        except LeaseLost:
            self._abdicate()
            worked = False
        except StateContended as error:
            self._log.info("gave way to another transaction", error=str(error))
            worked = True
        except StateUnavailable as error:
            self._looked_at = float("-inf")  # it may come back as another one
            self._log.warning("state unavailable", error=str(error))
            self._health.set_ready(ready=False, reason="Postgres is unavailable")
            worked = False
        self._health.turned()
        return worked

    async def _turn(self) -> bool:
        if self._mode == "off":
            await self._count(await self._registered())
            return False
        await self._end_orphans()
        if self._leadership is None and not await self._take_over():
            return False
        leadership = self._led()
        await self._look()
        await leadership.keep(self._store, self._clock)
        worked = await self._pay_debts()
        await self._hear()
        worked = await self._collect() or worked
        worked = await self._act() or worked
        worked = await self._release() or worked
        worked = await self._resend_changed() or worked
        await self._remember()
        self._report.budget(self._state, self._clock())
        await self._count(leadership.lease.destination)
        await self._keep_house()
        return worked

    async def rest(self, stop: asyncio.Event) -> None:
        """Until a request ends, the stop signal comes, or it is time to look again."""
        stopping = asyncio.ensure_future(stop.wait())
        waiting = {stopping, *self._posts.tasks}
        try:
            await asyncio.wait(
                waiting, timeout=self._settings.poll_interval_ms / 1000.0, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            stopping.cancel()

    async def drain(self) -> None:
        """Start nothing more; settle what is in flight, within the time a request may take; return the lease."""
        self._draining = True
        deadline = self._clock() + self._settings.start_grace_secs + self._settings.request_timeout_secs
        while (self._posts.busy or self._owing) and self._clock() < deadline:
            tasks = self._posts.tasks
            if tasks and not any(task.done() for task in tasks):
                await asyncio.wait(tasks, timeout=deadline - self._clock(), return_when=asyncio.FIRST_COMPLETED)
            elif not tasks:
                await asyncio.sleep(self._settings.poll_interval_ms / 1000.0)
            await self.run_once()
        if self._leadership is not None:
            try:
                await self._store.release_lease(self._leadership.lease)
            except StateUnavailable:
                self._log.warning("lease not returned", reason="Postgres is unavailable")
            self._leadership = None

    def _gets_on(self) -> tuple[bool, str]:
        """Whether orders can go out, and why not. Who stands by gets on; a pause is meant to be."""
        if self._state.halted is not None:
            return False, f"destination halted: {self._state.halted.split(':')[0]}"
        if self._state.circuit_open:
            return False, f"the Orders API failed {self._state.failures} times in a row"
        return True, ""

    # Leadership

    def _led(self) -> Leadership:
        if self._leadership is None:
            raise LeaseLost(f"{self._name}: not the leader")
        return self._leadership

    async def _registered(self) -> int:
        if self._destination is None:
            identity = self._identity
            self._destination = await self._store.register(self._name, identity.base_url, identity.client_id)
        return self._destination

    async def _take_over(self) -> bool:
        if self._draining:
            return False
        destination = await self._registered()
        leadership = await lead(self._store, destination, self._settings, self._clock)
        if leadership is None:
            self._report.led(led=False)
            return False
        try:
            # Where a new era begins by this very look, the lease is lost with it, and `inherit` says so.
            era = await self._store.era()
            standing = await self._store.standing(destination)
            # Read after the epoch was raised: no request of an older one can be added any more.
            requests, ledger = await self._store.inherit(leadership.lease, self._settings.fence_secs)
        except StateUnavailable:
            # Nobody would lead until the lease ends by itself.
            with contextlib.suppress(StateUnavailable):
                await self._store.release_lease(leadership.lease)
            raise
        new_mapping = standing.mapping_version != self._mapping.version
        known = replace(standing, halted=None) if new_mapping and _halted_for_orders(standing) else standing
        since = standing.registered_at if self._identity.live_since is None else self._identity.live_since.timestamp()
        intake = Intake(shadow=self._mode == "shadow", live_since=since)
        era_secs = era.secs if era.number else float("inf")
        self._state = core.start(self._settings, known, requests, ledger, self._clock(), intake, era_secs=era_secs)
        self._requests = {one.number: request.id for one, request in zip(self._state.inherited, requests, strict=True)}
        self._assembly = Assembly(self._store, self._mapping, self._name, destination, self._rules)
        self._saved = standing
        self._releasing = [self._release_quarantines]
        if self._mode == "on":
            self._releasing += [
                partial(self._release_parked, Hold.SHADOW, Placed()),
                partial(self._release_parked, Hold.BACKFILL, Placed(since=since)),
            ]
        self._resend_after = "" if self._settings.resend_on_new_mapping else None
        self._leadership = leadership
        self._report.led(led=True)
        self._report.changed(State(self._state.policy), self._state)
        self._log.info("leading", epoch=leadership.epoch, inherited_requests=len(requests), era=era.number)
        return True

    def _abdicate(self) -> None:
        """Nothing that this process holds may be settled by it any more: its requests end as late ones."""
        self._log.warning("lease lost", open_requests=len(self._posts))
        unrecorded = [debt for debt in self._owing if isinstance(debt, Settlement) and debt.outcome != Kind.NOT_SENT]
        self._posts.abandon(order.key for debt in unrecorded for order in debt.orders)
        self._leadership = None
        self._forget_leadership()
        self._report.led(led=False)

    async def _end_orphans(self) -> None:
        """Requests that ended under an older epoch may have overwritten a newer one's: their orders are owed anew."""
        keys = self._posts.collect_late()
        if keys and self._destination is not None:
            await self._store.reopen(self._destination, sorted(keys), self._settings.fence_secs)
            self._posts.late_keys -= keys
            self._log.warning("late request: orders owed anew", orders=len(keys))

    async def _look(self) -> None:
        """Now and then, and after the state was away: whether it went back. Then our lease is no more."""
        if self._clock() - self._looked_at >= COUNT_SECS:
            self._report.era(await self._store.era())
            self._looked_at = self._clock()

    async def _hear(self) -> None:
        """What operators stored, and whether the API key is another one now."""
        standing = await self._store.standing(self._led().lease.destination)
        resume = self._saved.halted is not None and standing.halted is None and self._state.halted is not None
        if resume:
            self._saved = replace(self._saved, halted=None)
        new_key = self._state.halted is not None and self._api.key_changed()
        same = (standing.paused, standing.asked) == (self._state.paused, self._state.intake.asked)
        if resume or new_key or not same:
            self._decide(Told(standing.paused, standing.asked, resume, new_key))

    # Deciding and doing

    def _decide(self, event: core.Event) -> tuple[Action, ...]:
        before = self._state
        self._state, actions = core.step(before, event, self._clock())
        self._report.changed(before, self._state)
        return actions

    async def _act(self) -> bool:
        """Do what the core asks for, until it asks for nothing or an answer came; whether it may ask again at once."""
        began = self._clock()
        for _ in range(STEPS_PER_TURN):
            if self._draining or self._posts.any_ended() or self._clock() - began > TURN_SECS:
                return not self._draining
            await self._led().keep(self._store, self._clock)
            actions = self._decide(Tick())
            if not actions:
                return False
            await self._carry_out(actions)
        return True

    async def _carry_out(self, actions: tuple[Action, ...]) -> None:
        """All of them, records first: they never fail for want of the state, which is owed them then."""
        for action in actions:
            if isinstance(action, Settle):
                await self._record(self._settlement(action))
            elif isinstance(action, Quarantine | Park):
                await self._record(action)
        for action in actions:
            if isinstance(action, Fetch):
                await self._carry_out(await self._fetch(action))
            elif isinstance(action, Send):
                await self._carry_out(await self._send(action))

    async def _fetch(self, fetch: Fetch) -> tuple[Action, ...]:
        lease = self._led().lease
        assembly = self._assembly
        if assembly is None:
            raise LeaseLost(f"{self._name}: not the leader")
        try:
            if fetch.group is not None:
                due = await self._store.due_among(lease.destination, fetch.group.keys)
            else:
                due = await self._store.due(lease.destination, fetch.lane, fetch.limit, fetch.busy)
            gathered = await assembly.gather(due, self._clock)
            judged: list[str] = []
            if gathered.judgements:
                judged = await self._store.judge(lease, gathered.judgements, self._mapping.version)
            self._report.judged(gathered, judged)
        except StateUnavailable:
            self._decide(Fetched(fetch, failed=True))
            raise
        more = fetch.group is None and len(due) >= fetch.limit
        known = tuple(one.key for one in gathered.judgements)
        return self._decide(Fetched(fetch, tuple(gathered.items), tuple(gathered.faults), more, judged=known))

    async def _send(self, send: Send) -> tuple[Action, ...]:
        """Put the orders in flight and start the POST."""
        leadership = self._led()
        try:
            await leadership.keep(self._store, self._clock, soon=True)
            request = await self._store.next_request()
        except StateUnavailable:
            self._decide(Reserved(send.number, frozenset()))
            raise
        started = self._clock()  # before the row is written: the grace counts from here
        orders = [_outgoing(item) for item in send.items]
        try:
            keys = await self._store.reserve(leadership.lease, request, send.lane, orders, self._mapping.version)
        except StateUnavailable:
            # The row may have been written all the same; nothing was sent in any case.
            self._decide(Reserved(send.number, frozenset()))
            unsent = tuple(settled(item, Fate.NOT_SENT) for item in send.items)
            self._owing.append(Settlement(request, Kind.NOT_SENT.value, None, "state unavailable", 0.0, unsent))
            raise
        actions = self._decide(Reserved(send.number, frozenset(keys)))
        if keys:
            self._requests[send.number] = request
            going = frozenset(keys)
            sent = replace(send, items=tuple(item for item in send.items if item.key in going))
            self._posts.start(sent, request, started)
        return actions

    async def _collect(self) -> bool:
        """Settle the requests that ended."""
        worked = False
        while (posted := self._posts.next_ended()) is not None:
            worked = True
            verdict = verdict_of(posted.answer, self._wall_clock())
            if posted.late and posted.answer.trouble is not Trouble.NOT_SENT:
                verdict = Verdict(Kind.UNKNOWN, verdict.status, cause="late", detail="ended after its deadline")
            self._report.ended(verdict, len(posted.send.items), posted.size, posted.secs)
            await self._carry_out(self._decide(Answered(posted.send.number, verdict, self._lot())))
        return worked

    def _settlement(self, action: Settle) -> Settlement:
        request = self._requests.pop(action.number)
        return Settlement(
            request, action.outcome, action.status, action.error, action.counts_secs, action.orders, action.zeroed
        )

    async def _record(self, debt: Debt) -> None:
        """Write to the state; what it cannot take now is owed to it. Raises LeaseLost."""
        lease = self._led().lease
        try:
            if isinstance(debt, Settlement):
                accepted = await self._store.settle(lease, debt)
                self._report.settled(debt, accepted)
            elif isinstance(debt, Park):
                parked = await self._store.judge(lease, debt.judgements, self._mapping.version)
                self._report.parked(debt.judgements, parked)
            else:
                judgements = [
                    Judgement(
                        fault.due.key,
                        fault.due.revision,
                        detail=fault.detail,
                        quarantine=fault.reason,
                        attempt=debt.attempt,
                    )
                    for fault in debt.faults
                ]
                judged = await self._store.judge(lease, judgements, self._mapping.version)
                self._report.quarantined(judgements, judged)
        except StateUnavailable as error:
            self._log.warning("state unavailable", error=str(error))
            self._owing.append(debt)
        except LeaseLost:
            self._owing.append(debt)
            raise

    async def _pay_debts(self) -> bool:
        debts, self._owing = self._owing, []
        for number, debt in enumerate(debts):
            try:
                await self._record(debt)
            except LeaseLost:
                self._owing += debts[number + 1 :]
                raise
        return bool(debts) and not self._owing

    async def _release(self) -> bool:
        """Let go, page by page: what another mapping or mode held back, then what was asked for of the backfill."""
        if self._draining:
            return False
        if self._releasing:
            if not await self._releasing[0]():
                self._releasing.pop(0)
            return True
        asked = self._state.intake.asked
        if self._mode != "on" or asked is None or not self._state.backfill_runs_low or self._clock() < self._ask_at:
            return False
        page = 2 * self._settings.max_orders_per_request
        if await self._release_parked(Hold.BACKFILL, asked.placed, page):
            return True
        self._ask_at = self._clock() + self._settings.poll_interval_ms / 1000.0
        return False

    async def _release_quarantines(self) -> int:
        """Quarantines hold under the mapping that judged them."""
        released = await self._store.release_quarantines(self._led().lease, self._mapping.version, RELEASE_PAGE)
        if released:
            self._log.info("quarantine released by a new mapping", orders=released)
        return released

    async def _release_parked(self, hold: Hold, placed: Placed, page: int = RELEASE_PAGE) -> int:
        released = len(await self._store.release_parked(self._led().lease, hold, placed, page))
        if released:
            self._log.info("parked orders released", hold=hold.value, orders=released)
            self._decide(Released())
        return released

    async def _resend_changed(self) -> bool:
        """Orders that were accepted under another mapping are assembled anew, page by page, where that was asked for.

        What a page has marked needs no memory of it: an order is passed over as soon as it was judged once.
        """
        if self._resend_after is None or self._draining:
            return False
        lease, version = self._led().lease, self._mapping.version
        last, owed = await self._store.resend_changed(lease, version, self._resend_after, RESEND_PAGE)
        self._resent += owed
        self._resend_after = last
        if last is None and self._resent:
            self._log.info("orders follow the new mapping", orders=self._resent)
            self._resent = 0
        return last is not None

    async def _remember(self) -> None:
        """Save what a restart must know, where it changed."""
        now = self._clock()
        saved = self._saved
        standing = replace(
            core.standing_of(self._state, now),
            mapping_version=self._mapping.version,
            paused=saved.paused,  # this and what follows is not ours to say
            registered_at=saved.registered_at,
            asked=saved.asked,
        )
        same = replace(standing, pause_secs=saved.pause_secs) == saved
        until = now + standing.pause_secs if standing.pause_secs > 0 else 0.0
        if same and abs(until - self._saved_until) < 1.0:
            return
        await self._store.save_standing(self._led().lease, standing, was_halted=saved.halted is not None)
        self._saved, self._saved_until = standing, until

    async def _count(self, destination: int) -> None:
        began = self._clock()
        if began >= self._count_at:
            self._count_at = began + COUNT_SECS
            self._report.counts(await self._store.counts(destination), self._state.holds(began))
            self._report.drift(await self._store.drift(destination))
        if began >= self._count_parked_at:
            self._report.parked_counts(await self._store.parked(destination))
            took = self._clock() - began
            self._count_parked_at = self._clock() + max(COUNT_SECS, took / COUNT_SHARE)

    async def _keep_house(self) -> None:
        """What is kept for a time only. A partition that others are at work in is dropped the next time."""
        now = self._clock()
        if now < self._house_at:
            return
        self._house_at = now + HOUSE_SECS
        keep = timedelta(days=self._settings.request_keep_days), timedelta(days=self._action_keep_days)
        self._report.gone(await self._store.let_go(*(one.total_seconds() for one in keep)))


def _outgoing(item: Item) -> Outgoing:
    due, document = item.due, item.document
    return Outgoing(
        item.key,
        due.revision,
        due.read_at,
        item.order_id,
        document.body,
        item.take_over,
        document.placed_at,
        document.zero,
        item.zeroes,
        item.clears,
    )


def _halted_for_orders(standing: Standing) -> bool:
    return bool(standing.halted and standing.halted.startswith("quarantine budget"))
