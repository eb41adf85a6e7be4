"""One batch from bytes to committed state, and what the metrics and the log say of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

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


class Folder:
    """Folds batches into a store. Raises what the store raises; nothing was folded then."""

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

    def fold(
        self,
        messages: list[Message],
        ends: dict[Partition, int],
        poison: str | None,
        partitions: dict[Partition, PartitionState],
        *,
        replay: bool = False,
    ) -> dict[Partition, int]:
        """Fold these messages in one transaction, and move positions to `ends`; the positions that moved.

        With a `poison`, the one message is kept as a reject for that reason. `replay`: see `Batch`. Raises
        OverBudgetError.
        """
        started = time.monotonic()
        work = DecodedBatch(self._decoder, partitions)
        for message in messages:
            work.add(message, poison=poison)
        rejects = Counter(reject.message.topic for _, reject in work.rejects)
        for topic, total in self._budget.judge(rejects, started).items():
            raise self._over_budget(work, topic, total)
        moves = work.moves(ends)
        if not moves:
            return {}
        live_since = int((time.time() - self._settings.live_age_secs) * 1000)
        rounds = self._stager.stage(work.changes, live_since, one_by_one=replay)
        result = self._store.fold(Batch(rounds, work.rejects, moves, replay))
        work.commit(moves)
        self._budget.note(rejects, started)
        self._count(work, result)
        self._metrics.fold_seconds.observe(time.monotonic() - started)
        self._metrics.fold_batch_messages.observe(len(messages))
        log.debug("folded", messages=len(messages), orders=result.orders)
        return {work.partition_of[move.origin]: move.next for move in moves}

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
