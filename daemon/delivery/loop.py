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
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from daemon.delivery import core
from daemon.delivery.assembly import Assembly
from daemon.delivery.core import Answered
from daemon.delivery.destination import (
    Action,
    Fetch,
    Fetched,
    Policy,
    Quarantine,
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
    Judgement,
    Outgoing,
    Settled,
    Settlement,
    Standing,
)

log = structlog.get_logger()

STEPS_PER_TURN = 50
"""A turn ends after so many steps whatever is left to do, so that lease, health and stop signal get their turn."""

QUARANTINE_PAGE = 1000
RESEND_PAGE = 1000
COUNT_SECS = 5.0
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
        self._report = Report(metrics, destination, self._settings, self._log)
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
        self._releasing = False
        self._resend_after: str | None = None  # orders up to this key follow the mapping; None: all do, or none shall
        self._resent = 0
        self._counted_at = self._housed_at = float("-inf")
        self._requests: dict[int, int] = {}  # the core's number of a request -> its id in the state
        self._owing: list[Settlement | Quarantine] = []  # to be recorded as soon as the state is back

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
            self._health.set_ready(ready=True)
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
        worked = await self._release_quarantines() or worked
        worked = await self._resend_changed() or worked
        await self._remember()
        await self._count()
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

    # Leadership

    def _led(self) -> Leadership:
        if self._leadership is None:
            raise LeaseLost(f"{self._name}: not the leader")
        return self._leadership

    async def _take_over(self) -> bool:
        if self._draining:
            return False
        if self._destination is None:
            identity = self._identity
            self._destination = await self._store.register(self._name, identity.base_url, identity.client_id)
        leadership = await lead(self._store, self._destination, self._settings, self._clock)
        if leadership is None:
            self._report.led(led=False)
            return False
        try:
            # Where a new era begins by this very look, the lease is lost with it, and `inherit` says so.
            era = await self._store.era()
            standing = await self._store.standing(self._destination)
            # Read after the epoch was raised: no request of an older one can be added any more.
            requests, ledger = await self._store.inherit(leadership.lease, self._settings.fence_secs)
        except StateUnavailable:
            # Nobody would lead until the lease ends by itself.
            with contextlib.suppress(StateUnavailable):
                await self._store.release_lease(leadership.lease)
            raise
        new_mapping = standing.mapping_version != self._mapping.version
        known = replace(standing, halted=None) if new_mapping and _halted_for_orders(standing) else standing
        since = era.secs if era.number else float("inf")
        self._state = core.start(self._settings, known, requests, ledger, self._clock(), era_secs=since)
        self._requests = {one.number: request.id for one, request in zip(self._state.inherited, requests, strict=True)}
        self._assembly = Assembly(self._store, self._mapping, self._name, self._destination, self._rules)
        self._saved = standing
        self._releasing = True
        self._resend_after = "" if self._settings.resend_on_new_mapping else None
        self._leadership = leadership
        self._report.led(led=True)
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
        if resume or new_key or standing.paused != self._state.paused:
            self._decide(Told(standing.paused, resume, new_key))

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
            elif isinstance(action, Quarantine):
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
            at = self._clock()
            if fetch.group is not None:
                due = await self._store.due_among(lease.destination, fetch.group.keys)
            else:
                due = await self._store.due(lease.destination, fetch.lane, fetch.limit, fetch.busy)
            gathered = await assembly.gather(due, at)
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
        orders = [
            Outgoing(item.key, item.due.revision, item.due.read_at, item.order_id, item.document.body, item.take_over)
            for item in send.items
        ]
        try:
            keys = await self._store.reserve(leadership.lease, request, send.lane, orders, self._mapping.version)
        except StateUnavailable:
            # The row may have been written all the same; nothing was sent in any case.
            self._decide(Reserved(send.number, frozenset()))
            unsent = tuple(
                Settled(item.key, Fate.NOT_SENT, item.due.digest, item.due.ever_attempted) for item in send.items
            )
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
        return Settlement(request, action.outcome, action.status, action.error, action.counts_secs, action.orders)

    async def _record(self, debt: Settlement | Quarantine) -> None:
        """Write to the state; what it cannot take now is owed to it. Raises LeaseLost."""
        lease = self._led().lease
        try:
            if isinstance(debt, Settlement):
                accepted = await self._store.settle(lease, debt)
                self._report.settled(debt, accepted)
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

    async def _release_quarantines(self) -> bool:
        """Quarantines hold under the mapping that judged them; another one's are released, page by page."""
        if not self._releasing:
            return False
        released = await self._store.release_quarantines(self._led().lease, self._mapping.version, QUARANTINE_PAGE)
        self._releasing = released > 0
        if released:
            self._log.info("quarantine released by a new mapping", orders=released)
        return self._releasing

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
        standing = replace(core.standing_of(self._state, now), mapping_version=self._mapping.version)
        saved = self._saved
        same = replace(standing, pause_secs=0.0, paused=saved.paused) == replace(saved, pause_secs=0.0)
        until = now + standing.pause_secs if standing.pause_secs > 0 else 0.0
        if same and abs(until - self._saved_until) < 1.0:
            return
        await self._store.save_standing(self._led().lease, standing)
        self._saved, self._saved_until = standing, until

    async def _count(self) -> None:
        now = self._clock()
        self._report.budget(self._state, now)
        if now - self._counted_at >= COUNT_SECS:
            self._counted_at = now
            self._report.counts(await self._store.counts(self._led().lease.destination))
            self._report.drift(await self._store.drift(self._led().lease.destination))

    async def _keep_house(self) -> None:
        """What is kept for a time only. A partition that others are at work in is dropped the next time."""
        now = self._clock()
        if now - self._housed_at < HOUSE_SECS:
            return
        self._housed_at = now
        keep = timedelta(days=self._settings.request_keep_days), timedelta(days=self._action_keep_days)
        self._report.gone(await self._store.let_go(*(one.total_seconds() for one in keep)))


def _halted_for_orders(standing: Standing) -> bool:
    return bool(standing.halted and standing.halted.startswith("quarantine budget"))
