"""Consumes, decodes and folds, one batch after the other.

All of it happens in one thread, but for the transaction of a batch, which runs in one of its own while the next batch
is polled, decoded and staged:

    thread of the loop   poll, decode, stage 2 ──▶ end 1, house, begin 2 ──▶ poll, decode, stage 3 ──▶ end 2 …
    thread of the fold   transaction 1 ─────────▶                transaction 2 ────────────────────▶

There is one transaction at a time, and one connection: whatever else needs the state, or changes which partitions are
read, ends the fold under way first. If that failed, what was staged after it is dropped and all is done again in order.

Handed a consumer, a store and the mapping's structure. Promises that a batch is folded whole together with its Kafka
positions or not at all; that while Postgres is away consumption is paused, memory stays flat and the group membership
is kept; that one halted topic does not stop the others. Never skips a message without counting why.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta

import structlog

from daemon.errors import PositionsMoved, SettingsError, StateContended, StateRefused, TryAgain
from daemon.ingest.chores import Chores
from daemon.ingest.cluster import Cluster, Picture
from daemon.ingest.debezium import Decoder
from daemon.ingest.eras import Eras
from daemon.ingest.fold import Stager
from daemon.ingest.folding import Folder, OverBudgetError, UnderWay
from daemon.ingest.gaps import HaltReason
from daemon.ingest.gate import Gate
from daemon.ingest.gathered import Gathered
from daemon.ingest.halts import Halts
from daemon.ingest.kafka import KafkaSource, Partition, Poll
from daemon.ingest.lag import Lags
from daemon.ingest.reject_budget import RejectBudget
from daemon.ingest.schema_registry import avro_reader
from daemon.ingest.standing import Standing, known
from daemon.ingest.troubles import Kind, Troubles
from daemon.mapping.structure import Structure
from daemon.operate.health import LoopHealth
from daemon.operate.metrics import Metrics
from daemon.settings import Settings
from daemon.state.ingest_store import IngestStore

log = structlog.get_logger()

TELL_SECS = 0.25
SETTLE_SECS = 1.0  # how often Kafka is looked at while partitions wait, or Kafka or Postgres is in trouble
HALTED_SECS = 5.0  # … while topics are halted: a person may have reset them
CONTENTIONS = 5  # how often a fold that gave way to another is tried again at once

# What a message with absurd values may raise on its way to the store. It is a reject then, never the end of the loop.
_UNFOLDABLE = (ArithmeticError, LookupError, RecursionError, TypeError, ValueError)


class IngestLoop:
    """`run` repeats `run_once` until `stop` is set."""

    def __init__(
        self,
        settings: Settings,
        structure: Structure,
        store: IngestStore,
        kafka: KafkaSource,
        metrics: Metrics,
        health: LoopHealth,
        stop: threading.Event,
        check_columns: Callable[[dict[str, set[str]]], list[str]] = lambda _: [],
    ) -> None:
        """`check_columns` is told the columns that messages showed, by source, and says what the mapping gets wrong."""
        self._settings = settings
        self._structure = structure
        self._store = store
        self._kafka = kafka
        self._metrics = metrics
        self._health = health
        self._stop = stop
        decoder = Decoder(structure, avro_reader(settings.kafka))
        sources = structure.by_topic()
        self._budget = RejectBudget(settings.ingest.reject_budget, settings.ingest.reject_window_secs)
        self._folder = Folder(settings.ingest, sources, decoder, Stager(structure), store, metrics, self._budget)
        self._chores = Chores(settings.ingest, store, decoder, check_columns)
        self._cluster = Cluster(settings.kafka, sources, group=True)
        self._eras = Eras(store, kafka, metrics)
        self._troubles = Troubles(sources, metrics)
        self._gate = Gate(settings.ingest, metrics)
        self._lags = Lags(metrics, sources)
        self._halts = Halts(sources, metrics)
        self._gathered = Gathered()
        self._standing = Standing(sources, store, kafka, self._halts, self._gathered.forget, self._released)
        self._under_way: UnderWay | None = None
        self._before: UnderWay | None = None  # to let go of its rows takes time: not while Postgres waits for the next
        self._picture = Picture()
        self._unsettled = False  # whether that is still to be judged by
        self._ended: set[Partition] = set()
        self._failures = self._revocations = self._assignments = 0
        self._not_before = self._next_look = self._next_tell = self._longest_lag = 0.0
        self.caught_up = threading.Event()
        """Set once all that was in Kafka of this member's partitions when it began is folded (ends from EOF events)."""

    @property
    def halted(self) -> dict[str, str]:
        """Topics whose ingest is halted, and why."""
        return self._halts.why

    def run(self, destinations: Iterable[str]) -> None:
        """Fold until stopped; whatever is gathered then is left to Kafka."""
        names = list(destinations)
        try:
            while not self._stop.is_set() and not self._opened(names):
                self._stop.wait(0.5)
            if not self._stop.is_set():
                self._kafka.subscribe()
            while not self._stop.is_set():
                self.run_once()
            self._end_fold()
            self._chores.hurry()
            self._use_state()
        finally:
            self._kafka.close()
            if self._under_way is not None:
                self._under_way.result.exception()  # waits: the connection is in use
            self._store.close()
            self._health.stopped()

    def run_once(self) -> None:
        """One turn: look at Kafka, settle partitions, poll, fold when the batch is full, old enough or at an end."""
        if self._under_way is None:  # one that never ends must not go unseen: while it lasts, nothing counts as a turn
            self._health.turned()
        self._follow_group()
        self._look()
        self._use_state()
        self._take(self._kafka.poll(self._patience()))
        self._follow_group()
        busy = self._under_way is not None and not self._under_way.result.done()
        now = time.monotonic()
        if self._gate.begun and not self._paused() and self._gathered.full(self._settings.kafka, now, busy=busy):
            self._fold()
        elif not busy:
            self._end_fold()
        self._use_state()
        self._tell()

    def _use_state(self) -> None:
        """Do what else needs the state, unless a fold is under way: then it is done as soon as that has ended."""
        if self._under_way is not None:
            return
        if self._unsettled and not self._paused():
            self._settle()
            self._next_look = min(self._next_look, time.monotonic() + self._pace())
        if not self._failures:
            self._keep_house()

    def _opened(self, names: list[str]) -> bool:
        self._health.turned()
        try:
            self._store.open(self._structure, names)
            window = timedelta(seconds=self._settings.ingest.reject_window_secs)
            self._budget.note(self._store.recent_rejects(window), time.monotonic())
        except TryAgain as error:
            self._health.set_ready(False, str(error))
            log.warning("state not ready", error=str(error))
            return False
        return True

    def _paused(self) -> bool:
        return time.monotonic() < self._not_before

    def _patience(self) -> float:
        if self._cluster.asked or self._under_way is not None:
            return 0.01
        return 0.05 if self._gathered.messages else 0.2

    def _follow_group(self) -> None:
        """After a rebalance nothing gathered counts, and positions are read anew."""
        if self._kafka.revocations != self._revocations:
            self._end_fold()
            self._revocations = self._kafka.revocations
            self._standing.restart()
            self._next_look = 0.0
        if self._kafka.assignments != self._assignments:
            self._assignments = self._kafka.assignments
            self._troubles.end(Kind.GROUP)
            self._ended &= self._standing.mine
            self._next_look = 0.0

    def _look(self) -> None:
        """Take the picture that was asked for, and ask for the next one when it is time."""
        picture, now = self._cluster.answer(), time.monotonic()
        if picture is not None:
            self._troubles.note(picture, {topic for topic, _ in self._standing.mine})
            if picture.failure is None:
                self._picture = picture
                self._unsettled = not self._paused()
            self._next_look = now + self._pace()
        elif not self._cluster.asked and now >= self._next_look:
            self._cluster.ask()

    def _renew_password(self) -> None:
        with contextlib.suppress(SettingsError):  # the file is being replaced: the next look tries again
            self._kafka.renew_password()
            self._cluster.renew_password()

    def _settle(self) -> None:
        """Judge by the latest picture, which asks the state."""
        self._unsettled = False
        try:
            what = known(self._picture, self._store)
            if not self._eras.settle(what, self._troubles.unreadable):
                return
            started = self._standing.settle(what)
            now = time.monotonic()
            if started or self._gate.due(self._longest_lag, now):
                self._gate.close(self._store, what.ends(without=self._troubles.unreadable), now)
        except TryAgain as error:
            self._back_off(error)
            return
        if started:
            standing = self._standing.partitions
            self._eras.mirror({name: state.position.next_offset for name, state in standing.items()}, standing)
        if not self._gathered:
            self._recovered()

    def _pace(self) -> float:
        """Seconds until the next look."""
        usual = self._settings.kafka.topic_refresh_secs
        if self._troubles or self._failures or self._standing.unsettled():
            return min(usual, SETTLE_SECS)
        return min(usual, HALTED_SECS) if self._halts else usual

    def _released(self, topic: str, reason: HaltReason) -> None:
        """A person let a halted topic go on."""
        if reason is HaltReason.REJECTS:
            self._budget.forgive(topic, time.monotonic())

    def _take(self, poll: Poll) -> None:
        self._gathered.take(poll, time.monotonic())
        if poll.gaps or poll.forbidden or self._troubles.unreadable:
            self._end_fold()
        for partition in poll.gaps:
            self._standing.refuse(partition)
        if poll.gaps or poll.lost:
            self._next_look = 0.0
        if poll.refused:
            self._renew_password()
        for topic, text in poll.forbidden.items():
            if topic and topic not in self._troubles.unreadable:
                self._mark(topic, f"topic {topic}: {text}; grant this principal Read on it")
            self._troubles.begin(Kind.READ if topic else Kind.GROUP, topic, text)
        if forbidden := self._troubles.unreadable:
            for topic in {message.topic for message in poll.messages} | {topic for topic, _ in poll.ends}:
                if topic in forbidden:
                    self._mark(topic, None)
                self._troubles.end(Kind.READ, topic)

    def _mark(self, topic: str, why: str | None) -> None:
        """A topic that we may not read must not hold delivery."""
        with contextlib.suppress(TryAgain):
            self._standing.mark(topic, why)

    def _fold(self) -> None:
        """Begin to fold what is gathered; what cannot be folded now stays gathered."""
        while self._gathered.waiting and self._goes_on(self._fold_next):
            pass

    def _fold_next(self) -> None:
        """Prepare the next part beside the fold under way, end that, and begin."""
        self._before, gathered = None, self._gathered
        messages, ends = gathered.next_part()
        try:
            prepared = self._folder.prepare(
                messages,
                ends,
                gathered.poison,
                self._standing.partitions,
                self._under_way,
                replay=self._eras.replaying,
            )
        except (TryAgain, *_UNFOLDABLE):
            if self._under_way is None:
                raise
            self._end()  # and then once more: what is done about it is done in order
            return
        self._end()
        judged = self._unsettled
        self._use_state()
        if judged or prepared.batch.replay != self._eras.replaying:
            return  # partitions may have gone, or an era begun: prepared again
        self._under_way = self._folder.begin(prepared)
        gathered.begun(len(messages))
        if gathered.part:  # of something that could not be folded: one after the other
            self._end()

    def _end_fold(self) -> None:
        """Wait for the fold under way, if there is one, and go on from where it led."""
        self._goes_on(self._end)

    def _end(self) -> None:
        fold, self._under_way = self._under_way, None
        if fold is None:
            return
        self._before = fold
        try:
            moved = self._folder.end(fold)
        except BaseException:
            self._gathered.failed()
            raise
        self._health.turned()
        self._gathered.folded(fold.prepared.messages)
        standing = self._standing.partitions
        self._eras.mirror({name: at for name, at in moved.items() if name in standing}, standing)
        self._ended |= fold.prepared.ends.keys()
        self._recovered()

    def _goes_on(self, step: Callable[[], None]) -> bool:
        """Do a step of folding. False if it failed, and nothing more can be folded now."""
        try:
            step()
        except OverBudgetError as over:
            try:
                self._standing.halt_for_rejects(over.topic, over.why, over.partitions)
            except TryAgain as error:
                self._fold_failed(error)
                return False
            self._health.set_ready(False, over.why)
            self._next_look = 0.0
        except (StateRefused, *_UNFOLDABLE) as error:
            text = str(error) if isinstance(error, StateRefused) else f"it cannot be folded: {type(error).__name__}"
            if not self._gathered.close_in(text):
                raise
        except PositionsMoved as error:
            log.warning("positions moved meanwhile, reading them anew", error=str(error))
            self._metrics.fold_retries_total.inc()
            self._standing.restart()
            self._next_look = 0.0
        except TryAgain as error:
            self._fold_failed(error)
            return isinstance(error, StateContended) and self._failures <= CONTENTIONS
        return True

    def _fold_failed(self, error: TryAgain) -> None:
        self._metrics.fold_retries_total.inc()
        self._back_off(error)

    def _back_off(self, error: TryAgain) -> None:
        """Stop fetching and try again later; polling goes on so that the group keeps its member."""
        self._failures += 1
        if isinstance(error, StateContended) and self._failures <= CONTENTIONS:
            return
        limits = self._settings.ingest
        delay = min(limits.retry_max_secs, limits.retry_initial_ms / 1000 * 2 ** min(self._failures - 1, 16))
        delay *= random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
        self._not_before = time.monotonic() + delay
        self._kafka.pause(self._kafka.assigned)
        self._metrics.ingest_paused.set(1)
        self._health.set_ready(False, str(error))
        log.warning("ingest paused", error=str(error), failures=self._failures, retry_in_secs=round(delay, 2))

    def _recovered(self) -> None:
        if self._failures:
            self._failures = 0
            log.info("ingest goes on")
            self._kafka.resume(self._kafka.assigned)
        self._metrics.ingest_paused.set(0)

    def _keep_house(self) -> None:
        try:
            self._gate.look(self._store, time.monotonic())
            self._eras.look(time.monotonic())
            self._chores.do(time.monotonic())
        except TryAgain:
            return

    def _tell(self) -> None:
        """Lag, readiness, and whether the beginning's backlog is done."""
        unsettled = self._standing.unsettled()
        assigned = self._kafka.assigned
        done = (
            bool(assigned) and not self._gathered and not unsettled and not self._failures and assigned <= self._ended
        )
        now = time.monotonic()
        if now < self._next_tell and (not done or self.caught_up.is_set()):
            return
        self._next_tell = now + TELL_SECS
        self._tell_lag(now)
        if not self._failures:
            reasons = [*self.halted.values(), *self._troubles.reasons]
            if unsettled or not self._assignments:
                reasons.append("joining the consumer group")
            self._health.set_ready(not reasons, "; ".join(reasons))
        if done:
            self.caught_up.set()

    def _tell_lag(self, now: float) -> None:
        """Also of partitions that stand still or are paused: their ends come with the pictures."""
        mine = self._standing.mine
        self._lags.keep(mine)
        for name in mine:
            state = self._standing.partitions.get(name)
            position = state.position if state is not None else self._standing.positions.get(name)
            ends = [end for end in (self._kafka.high_watermark(name), self._picture.ends.get(name)) if end is not None]
            if position is not None and ends:
                self._lags.note(name, position.next_offset, max(ends), now)
        self._longest_lag = self._lags.tell(now, without=self._troubles.unreadable | self.halted.keys())
        if self._gate.due(self._longest_lag, now):
            self._next_look = 0.0
