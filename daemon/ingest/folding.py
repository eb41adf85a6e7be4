"""One batch from bytes to committed state, in three steps, and what the metrics and the log say of it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass

import structlog

from daemon.ingest.batch import DecodedBatch, PartitionState
from daemon.ingest.change import Message, Oddity, RejectReason, SkipReason
from daemon.ingest.debezium import Decoder
from daemon.ingest.fold import Stager
from daemon.ingest.kafka import Partition
from daemon.ingest.reject_budget import RejectBudget
from daemon.mapping.structure import Source
from daemon.operate.metrics import Metrics
from daemon.settings import Ingest
from daemon.state.ingest_store import Batch, FoldResult, IngestStore

log = structlog.get_logger()


class OverBudgetError(Exception):
    """More rejects of a topic than it may have: nothing was folded. Says the topic, why, and which partitions."""

    def __init__(self, topic: str, why: str, partitions: set[Partition]) -> None:
        super().__init__(why)
        self.topic, self.why, self.partitions = topic, why, partitions


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch that is decoded and staged, and the ends that its positions move to."""

    work: DecodedBatch
    batch: Batch
    ends: Mapping[Partition, int]
    messages: int
    rejects: Mapping[str, int]  # by topic


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A batch whose transaction runs in a thread of its own."""

    prepared: Prepared
    result: Future[FoldResult]


class Folder:
    """`prepare` a batch, `begin` its transaction, `end` it; the next one may be prepared meanwhile."""

    def __init__(
        self,
        settings: Ingest,
        sources: Mapping[str, Source],
        decoder: Decoder,
        stager: Stager,
        store: IngestStore,
        metrics: Metrics,
        budget: RejectBudget,
    ) -> None:
        """`sources` by topic."""
        self._settings = settings
        self._sources = sources
        self._decoder = decoder
        self._stager = stager
        self._store = store
        self._metrics = metrics
        self._budget = budget
        # Counters start at 0: an increase from nothing is none.
        for topic in sources:
            for reason in RejectReason:
                metrics.rejects_total.labels(topic=topic, reason=str(reason))
        for oddity in Oddity:
            metrics.oddities_total.labels(reason=str(oddity))

    def prepare(
        self,
        messages: list[Message],
        ends: dict[Partition, int],
        poison: str | None,
        partitions: dict[Partition, PartitionState],
        after: UnderWay | None = None,
        *,
        replay: bool = False,
    ) -> Prepared:
        """Decode and stage these messages. With a `poison`, the one message is kept as a reject for that reason.

        `replay`: see `Batch`.
        """
        work = DecodedBatch(self._decoder, partitions, None if after is None else after.prepared.work)
        for message in messages:
            work.add(message, poison=poison)
        live_since = int((time.time() - self._settings.live_age_secs) * 1000)
        rounds = self._stager.stage(work.changes, live_since, one_by_one=replay)
        batch = Batch(rounds, work.rejects, work.moves(ends), replay, self._store.lay_out(rounds))
        rejects = Counter(reject.message.topic for _, reject in work.rejects)
        return Prepared(work, batch, ends, len(messages), rejects)

    def begin(self, prepared: Prepared) -> UnderWay:
        """Start the transaction. The store must not be used until it has ended. Raises OverBudgetError."""
        for topic, total in self._budget.judge(prepared.rejects, time.monotonic()).items():
            raise self._over_budget(prepared.work, topic, total)
        result: Future[FoldResult] = Future()

        def run() -> None:
            try:
                result.set_result(self._commit(prepared.batch))
            except BaseException as error:  # noqa: BLE001 - told to whoever waits
                result.set_exception(error)

        # No pool: its threads would keep a process that has to end until Postgres answers.
        threading.Thread(target=run, name="fold", daemon=True).start()
        return UnderWay(prepared, result)

    def end(self, fold: UnderWay) -> dict[Partition, int]:
        """Wait for the transaction; the positions that moved. Raises what the store raises; nothing was folded then."""
        result = fold.result.result()
        prepared, moves = fold.prepared, fold.prepared.batch.moves
        if not moves:
            return {}
        prepared.work.commit(moves)
        self._budget.note(prepared.rejects, time.monotonic())
        self._count(prepared.work, result)
        self._metrics.fold_batch_messages.observe(prepared.messages)
        log.debug("folded", messages=prepared.messages)
        return {prepared.work.partition_of[move.origin]: move.next for move in moves}

    def _commit(self, batch: Batch) -> FoldResult:
        if not batch.moves:
            return FoldResult()
        started = time.monotonic()
        result = self._store.fold(batch)
        self._metrics.fold_seconds.observe(time.monotonic() - started)
        return result

    def _over_budget(self, work: DecodedBatch, topic: str, total: int) -> OverBudgetError:
        mine = [reject for _, reject in work.rejects if reject.message.topic == topic]
        first = mine[0]
        return OverBudgetError(
            topic,
            f"topic {topic}: {total} messages within {self._settings.reject_window_secs:g} s cannot be decoded "
            f"(ingest.reject_budget: {self._settings.reject_budget}), such as partition {first.message.partition} "
            f"offset {first.message.offset} ({first.reason}: {first.detail}); mend the cause and restart, or "
            f"`order-sync position reset {topic} --to here` goes on and for {self._settings.reject_window_secs:g} s "
            f"keeps whatever cannot be decoded, for `order-sync rejects retry`",
            {(topic, reject.message.partition) for reject in mine},
        )

    def _count(self, work: DecodedBatch, result: FoldResult) -> None:
        total = self._metrics.messages_total
        for (topic, op, outcome, reason), count in work.counts.items():
            total.labels(topic=topic, op=op, outcome=outcome, reason=reason).inc(count)
            if reason == SkipReason.TRUNCATE:
                source = self._sources[topic].name
                log.error(
                    "source was truncated in the OMS, its rows are kept",
                    source=source,
                    topic=topic,
                    count=count,
                    cure=f"`order-sync rebuild --source {source}`, then `order-sync ghosts list` shows what is gone",
                )
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
