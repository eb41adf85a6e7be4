"""Consumes, decodes and folds, one batch after the other, in one thread.

Handed a consumer, a store and the mapping's structure. Promises that a batch is folded whole together with its Kafka
positions or not at all; that while Postgres is away consumption is paused, memory stays flat and the group membership
is kept; that one halted topic does not stop the others. Never skips a message without counting why.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from daemon.errors import BrokerUnavailable, PositionsMoved, StateContended, StateRefused, TryAgain
from daemon.ingest.batch import DecodedBatch, PartitionState
from daemon.ingest.change import Message
from daemon.ingest.debezium import Decoder
from daemon.ingest.fold import Stager
from daemon.ingest.kafka import KafkaSource, Partition, Poll
from daemon.mapping.structure import Structure
from daemon.operate.health import LoopHealth
from daemon.operate.metrics import Metrics
from daemon.settings import Settings
from daemon.state.ingest_store import Batch, FoldResult, IngestStore, TopicPartition

log = structlog.get_logger()

CHORES_SECS = 5.0
DESCRIBE_SECS = 1.0  # how often topics that cannot be described yet are asked for again
CONTENTIONS = 5  # how often a fold that gave way to another is tried again at once

# What a message with absurd values may raise on its way to the store. It is a reject then, never the end of the loop.
_UNFOLDABLE = (ArithmeticError, LookupError, RecursionError, TypeError, ValueError)


@dataclass(slots=True)
class Gathered:
    """Messages and reached ends that wait to be folded together."""

    messages: list[Message] = field(default_factory=list)
    ends: dict[Partition, int] = field(default_factory=dict)
    size: int = 0
    since: float = 0.0
    part: int = 0  # how many messages to fold at once, where the whole could not be folded
    poison: str | None = None  # why the first message must be a reject although it can be decoded


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
        self._check_columns = check_columns
        self._complained: set[str] = set()
        self._decoder = Decoder(structure)
        self._stager = Stager(structure)
        self._sources = structure.by_topic()
        self._partitions: dict[Partition, PartitionState] = {}
        self._pending = Gathered()
        self._halted: dict[str, str] = {}
        self._ended: set[Partition] = set()
        self._rejects: dict[str, list[tuple[float, int]]] = {}
        self._columns: set[tuple[str, str, str]] = set()
        self._failures = 0
        self._not_before = 0.0
        self._revocations = 0
        self._next_chores = self._describe_at = 0.0
        self.caught_up = threading.Event()
        """Set once all that was in Kafka of this member's partitions when it began is folded (ends from EOF events)."""

    def run(self, destinations: Iterable[str]) -> None:
        """Fold until stopped; whatever is pending then is left to Kafka."""
        names = list(destinations)
        try:
            while not self._stop.is_set() and not self._opened(names):
                self._stop.wait(0.5)
            if not self._stop.is_set():
                self._kafka.subscribe()
            while not self._stop.is_set():
                self.run_once()
            self._next_chores = 0.0
            self._keep_house()
        finally:
            self._kafka.close()
            self._store.close()
            self._health.stopped()

    def run_once(self) -> None:
        """One turn: position new partitions, poll, and fold when the batch is full, old enough or ends a partition."""
        self._health.turned()
        if self._kafka.revocations != self._revocations:
            self._drop_pending()
        paused = time.monotonic() < self._not_before
        if self._kafka.waiting and not paused and time.monotonic() >= self._describe_at:
            self._position()
        self._take(self._kafka.poll(0.05 if self._pending.messages else 0.2))
        if self._kafka.revocations != self._revocations:
            self._drop_pending()
        elif not paused and self._full():
            self._fold()
        if not self._failures:
            self._keep_house()
        self._tell()

    def _opened(self, names: list[str]) -> bool:
        self._health.turned()
        try:
            self._store.open(self._structure, names)
            window = timedelta(seconds=self._settings.ingest.reject_window_secs)
            for topic, count in self._store.recent_rejects(window).items():
                self._rejects[topic] = [(time.monotonic(), count)]
        except TryAgain as error:
            self._health.set_ready(False, str(error))
            log.warning("state not ready", error=str(error))
            return False
        return True

    def _position(self) -> None:
        """Begin to consume partitions that came, from where the state says they stand."""
        waiting = self._kafka.waiting
        try:
            ids = self._kafka.topic_ids(topic for topic, _ in waiting)
            wanted = [TopicPartition(topic, ids[topic], number) for topic, number in waiting if topic in ids]
            if len(wanted) < len(waiting):
                self._describe_at = time.monotonic() + DESCRIBE_SECS
            positions = self._store.positions(wanted)
        except TryAgain as error:
            self._back_off(error)
            return
        for partition, position in positions.items():
            name = (partition.topic, partition.partition)
            self._partitions[name] = PartitionState(partition, position)
        self._kafka.start({(p.topic, p.partition): position.next_offset for p, position in positions.items()})
        self._recovered()
        self._kafka.pause(name for name in self._kafka.assigned if name[0] in self._halted)

    def _take(self, poll: Poll) -> None:
        pending = self._pending
        if (poll.messages or poll.ends) and not pending.messages and not pending.ends:
            pending.since = time.monotonic()
        pending.messages += poll.messages
        pending.size += poll.size
        pending.ends.update(poll.ends)
        for (topic, number), text in poll.gaps.items():
            position = self._partitions[topic, number].position
            self._halt(
                topic,
                f"partition {number}: Kafka no longer has offset {position.next_offset} ({text}); "
                "changes were lost before they could be read: replay the source by a new snapshot",
            )

    def _full(self) -> bool:
        pending, limits = self._pending, self._settings.kafka
        if not pending.messages:
            return bool(pending.ends)
        return (
            len(pending.messages) >= limits.batch_max_messages
            or pending.size >= limits.batch_max_bytes
            or time.monotonic() - pending.since >= limits.batch_max_wait_ms / 1000
            or {(message.topic, message.partition) for message in pending.messages} <= pending.ends.keys()
        )

    def _drop_pending(self) -> None:
        """After a rebalance or a lost race: nothing pending counts, positions are read anew."""
        self._revocations = self._kafka.revocations
        self._pending = Gathered()
        self._kafka.restart()
        self._partitions.clear()
        self._ended &= self._kafka.assigned | self._kafka.waiting

    def _fold(self) -> None:
        """Fold what is pending; what cannot be folded now stays pending."""
        pending = self._pending
        while pending.messages or pending.ends:
            # Ends are for the last part: offsets below them may still be to come.
            size = min(pending.part or len(pending.messages), len(pending.messages))
            part, ends = pending.messages[:size], pending.ends if size == len(pending.messages) else {}
            try:
                self._fold_part(part, ends, pending.poison)
            except (StateRefused, *_UNFOLDABLE) as error:
                if not self._close_in(error):
                    raise
                continue
            except PositionsMoved as error:
                log.warning("positions moved meanwhile, reading them anew", error=str(error))
                self._metrics.fold_retries_total.inc()
                self._drop_pending()
                return
            except TryAgain as error:
                self._metrics.fold_retries_total.inc()
                self._back_off(error)
                return
            del pending.messages[:size]
            if not pending.messages:
                pending.ends = {}
            pending.poison, pending.part = None, pending.part * 2
            self._recovered()
        self._pending = Gathered()

    def _close_in(self, error: Exception) -> bool:
        """After a part that cannot be folded, try half of it; a lone message is made a reject. False if that failed."""
        pending = self._pending
        size = min(pending.part or len(pending.messages), len(pending.messages))
        if size > 1:
            pending.part = size // 2
            return True
        if size == 0 or pending.poison is not None:
            return False
        text = str(error) if isinstance(error, StateRefused) else f"it cannot be folded: {type(error).__name__}"
        pending.poison = f"{text}; see the message's values against the mapping's keys, relations and types"
        return True

    def _fold_part(self, messages: list[Message], ends: dict[Partition, int], poison: str | None) -> None:
        started = time.monotonic()
        work = DecodedBatch(self._decoder, self._partitions)
        for message in messages:
            work.add(message, poison=poison)
        rejected = self._guard_rejects(work)
        ends = {name: end for name, end in ends.items() if name[0] not in self._halted}
        moves = work.moves(ends)
        if moves:
            live_since = int((time.time() - self._settings.ingest.live_age_secs) * 1000)
            rounds = self._stager.stage(work.changes, live_since)
            result = self._store.fold(Batch(rounds, work.rejects, moves))
            work.commit(moves)
            self._rejects.update(rejected)
            self._count(work, result)
            self._metrics.fold_seconds.observe(time.monotonic() - started)
            self._metrics.fold_batch_messages.observe(len(messages))
            self._kafka.mirror({work.partition_of[move.origin]: move.next for move in moves})
            log.debug("folded", messages=len(messages), orders=result.orders)
        self._ended |= ends.keys()

    def _guard_rejects(self, work: DecodedBatch) -> dict[str, list[tuple[float, int]]]:
        """Halt a topic whose rejects exceed the budget, and take its messages out of the batch: they stay in Kafka.

        The rejects of the other topics within the window, to be remembered once the batch is folded.
        """
        now, window = time.monotonic(), self._settings.ingest.reject_window_secs
        for topic in self._halted:
            work.remove(topic)
        counts = Counter(reject.message.topic for _, reject in work.rejects)
        remembered = {}
        for topic, count in counts.items():
            recent = [(at, n) for at, n in self._rejects.get(topic, []) if now - at < window]
            total = sum(n for _, n in recent) + count
            if total > self._settings.ingest.reject_budget:
                work.remove(topic)
                self._halt(
                    topic,
                    f"{total} messages within {window:g} s could not be decoded (ingest.reject_budget: "
                    f"{self._settings.ingest.reject_budget}); see `order-sync rejects list`, mend the cause, restart",
                )
            else:
                remembered[topic] = [*recent, (now, count)]
        return remembered

    def _halt(self, topic: str, why: str) -> None:
        if topic in self._halted:
            return
        self._halted[topic] = why
        source = self._sources[topic].name
        self._metrics.source_halted.labels(source=source).set(1)
        self._kafka.pause(name for name in self._kafka.assigned if name[0] == topic)
        log.error("source halted", source=source, topic=topic, why=why)

    def _back_off(self, error: TryAgain) -> None:
        """Stop fetching and try again later; polling goes on so that the group keeps its member."""
        self._failures += 1
        if isinstance(error, StateContended) and self._failures <= CONTENTIONS:
            return
        limits = self._settings.ingest
        delay = min(limits.retry_max_secs, limits.retry_initial_ms / 1000 * 2 ** min(self._failures - 1, 16))
        self._not_before = time.monotonic() + delay * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
        self._kafka.pause(self._kafka.assigned)
        self._metrics.ingest_paused.set(1)
        part = "Kafka" if isinstance(error, BrokerUnavailable) else "Postgres"
        self._health.set_ready(False, f"{part} is away")
        log.warning("ingest paused", error=str(error), failures=self._failures, retry_in_secs=round(delay, 2))

    def _recovered(self) -> None:
        if self._failures:
            self._failures = 0
            log.info("ingest goes on")
            self._kafka.resume(name for name in self._kafka.assigned if name[0] not in self._halted)
        self._metrics.ingest_paused.set(0)

    def _count(self, work: DecodedBatch, result: FoldResult) -> None:
        total = self._metrics.messages_total
        for (topic, op, outcome, reason), count in work.counts.items():
            total.labels(topic=topic, op=op, outcome=outcome, reason=reason).inc(count)
        for outcome, counts in (("folded", result.folded), ("stale", result.stale)):
            for (origin, op), count in counts.items():
                total.labels(topic=work.partition_of[origin][0], op=op, outcome=outcome, reason="").inc(count)
        for topic_id, reject in work.rejects:
            self._metrics.rejects_total.labels(topic=reject.message.topic, reason=str(reject.reason)).inc()
            log.warning(
                "message rejected",
                topic=reject.message.topic,
                partition=reject.message.partition,
                offset=reject.message.offset,
                topic_id=topic_id,
                reason=str(reject.reason),
                detail=reject.detail,
            )
        for (topic, oddity), count in work.oddities.items():
            self._metrics.oddities_total.labels(reason=oddity).inc(count)
            log.warning("odd messages", topic=topic, oddity=oddity, count=count)

    def _keep_house(self) -> None:
        """Now and then: write down columns that messages showed for the first time, let old rejects go."""
        now = time.monotonic()
        if now < self._next_chores:
            return
        self._next_chores = now + CHORES_SECS
        seen = {
            (source, name, kind)
            for source, columns in self._decoder.columns_seen().items()
            for name, kind in columns.items()
        }
        try:
            if new := seen - self._columns:
                self._store.see_columns(sorted(new))
                self._columns |= new
                shown: dict[str, set[str]] = {}
                for source, name, _ in self._columns:
                    shown.setdefault(source, set()).add(name)
                for problem in self._check_columns(shown):
                    if problem not in self._complained:
                        self._complained.add(problem)
                        log.error("the mapping names a column that no message has", problem=problem)
            if gone := self._store.purge_rejects(timedelta(days=self._settings.ingest.reject_keep_days)):
                log.warning("old rejects removed", count=gone, keep_days=self._settings.ingest.reject_keep_days)
        except TryAgain:
            return

    def _tell(self) -> None:
        """Lag, readiness, and whether the beginning's backlog is done."""
        lags: dict[str, float] = {source.topic: 0.0 for source in self._structure.sources.values()}
        now = time.monotonic()
        for name in self._kafka.assigned:
            state = self._partitions.get(name)
            high = self._kafka.high_watermark(name)
            if state is None or high is None:
                continue
            behind = max(0, high - max(0, state.position.next_offset))
            self._metrics.consumer_lag_messages.labels(topic=name[0], partition=str(name[1])).set(behind)
            state.behind_since = (state.behind_since or now) if behind else None
            if state.behind_since is not None:
                lags[name[0]] = max(lags.get(name[0], 0.0), now - state.behind_since)
        for topic, lag in lags.items():
            self._metrics.consumer_lag_seconds.labels(topic=topic).set(lag)
        if not self._failures:
            self._health.set_ready(
                self._kafka.joined and not self._kafka.waiting and not self._halted,
                "; ".join(f"{topic}: {why}" for topic, why in self._halted.items()) or "joining the consumer group",
            )
        idle = not self._pending.messages and not self._pending.ends and not self._kafka.waiting
        assigned = self._kafka.assigned
        if assigned and idle and not self._failures and assigned <= self._ended:
            self.caught_up.set()

    @property
    def halted(self) -> dict[str, str]:
        """Topics whose ingest is halted, and why."""
        return dict(self._halted)
