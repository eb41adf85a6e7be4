"""Traps that the messages of one topic show: what cannot be read, keys, compaction, deletes, snapshots, writers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from daemon.contract.tables import table_of
from daemon.ingest.change import Change, Kind, Reject, Skip, SkipReason
from daemon.ingest.traps.sample import Sample
from daemon.ingest.traps.trap import Trap, TrapKind
from daemon.ingest.traps.values import decimals, times
from daemon.mapping.structure import Source

_BESIDE = (SkipReason.TRANSACTION, SkipReason.SCHEMA_CHANGE, SkipReason.HEARTBEAT, SkipReason.LOGICAL_MESSAGE)
_NO_SNAPSHOT = (None, False, "false")
_LAST_OF_SNAPSHOT = ("last", "last_in_data_collection")
_RECENT_MS = 600_000


def message_traps(sample: Sample, used: Iterable[str], now_ms: int, *, exact_decimals: bool = False) -> list[Trap]:
    """All traps in the messages of one topic. `used`: the columns of the source that the mapping reads.

    `exact_decimals`: another topic of the same connector shows that it does not write decimals as doubles.
    """
    columns = sorted(used)
    return [
        *_unreadable(sample),
        *_flattened(sample),
        *_beside_rows(sample),
        *_keyless(sample),
        *_identity(sample),
        *_compaction(sample),
        *decimals(sample, columns, exact=exact_decimals),
        *times(sample, columns),
        *_tombstones(sample),
        *_snapshot(sample, now_ms),
        *_writers(sample),
    ]


def _of(part: int, sample: Sample) -> str:
    return f"{part} of the newest {len(sample.seen)} messages"


def _unreadable(sample: Sample) -> Iterator[Trap]:
    rejects = Counter(seen.decoded.detail for seen in sample.seen if isinstance(seen.decoded, Reject))
    for detail, count in sorted(rejects.items()):
        yield Trap(
            TrapKind.UNREADABLE,
            f"{_of(count, sample)} cannot be read: {detail}",
            "mend connector or mapping (`order-sync connector` prints what fits), then `rejects retry --all`",
            fatal=True,
        )


def _flattened(sample: Sample) -> Iterator[Trap]:
    flat = [change for seen, change in sample.images() if seen.event and not seen.origin]
    if flat and not any(change.position for change in flat):
        yield Trap(
            TrapKind.FLATTENED,
            "messages are flattened and carry no log position: an old change delivered again looks like a new one",
            "remove ExtractNewRecordState from the connector's transforms, or add the fields op, lsn and source.ts_ms",
        )


def _beside_rows(sample: Sample) -> Iterator[Trap]:
    skips = Counter(seen.decoded.reason for seen in sample.seen if isinstance(seen.decoded, Skip))
    for reason in _BESIDE:
        if skips[reason]:
            yield Trap(
                TrapKind.BESIDE_ROWS,
                f"{_of(skips[reason], sample)} are {reason.value} records: this is not a table's own topic",
                f"mend sources.{sample.source.name}.topic, or the transform that routes them there",
            )
    if skips[SkipReason.TRUNCATE]:
        yield Trap(
            TrapKind.TRUNCATED,
            "the table was emptied by TRUNCATE, which deletes no row here",
            f"`order-sync rebuild --source {sample.source.name}`, then `order-sync ghosts list`",
        )


def _keyless(sample: Sample) -> Iterator[Trap]:
    keyless = sum(seen.message.key is None for seen, _ in sample.images())
    if keyless:
        yield Trap(
            TrapKind.NO_KEY,
            f"{_of(keyless, sample)} have no key: changes of one row lie in several partitions and overtake each other",
            "give the table a primary key",
        )


def _identity(sample: Sample) -> Iterator[Trap]:
    zeros = sum(isinstance(s.decoded, Change) and s.decoded.oddity == "impossible_message_key" for s in sample.seen)
    if zeros:
        yield Trap(
            TrapKind.ZERO_KEYS,
            f"{_of(zeros, sample)} are deletes whose message key is zeros: it is made of columns outside the table's "
            "replica identity, and such a delete may be read before the row",
            f"remove message.key.columns from the connector, or {_full(sample.source)}",
            fatal=True,
        )
    elif _outside_identity(sample):
        yield Trap(
            TrapKind.KEY_OUTSIDE_IDENTITY,
            f"key {', '.join(sample.source.key or ())} is not within the message key, and updates do not show REPLICA "
            "IDENTITY FULL: a delete may not tell which row it deletes",
            "run the query under `replica identity` of `order-sync connector postgres`, and what it gives, if anything",
        )


def _outside_identity(sample: Sample) -> bool:
    """Whether updates come without the old row and no delete has told a key that the message key does not hold."""
    if not sample.has_other_key() or not any(seen.origin.get("connector") == "postgresql" for seen in sample.seen):
        return False
    if any(isinstance(seen.decoded, Change) and seen.decoded.op == "d" for seen in sample.seen):
        return False
    return any(change.op == "u" and seen.event.get("before") is None for seen, change in sample.images())


def _full(source: Source) -> str:
    told = table_of(source.topic)
    return f"`alter table {told[1].text if told else source.name} replica identity full`"


def _compaction(sample: Sample) -> Iterator[Trap]:
    if not sample.compacted:
        return
    columns = {name for _, change in sample.images() for name in change.unavailable}
    if columns:
        yield Trap(
            TrapKind.PLACEHOLDERS_COMPACTED,
            f"the topic is compacted, and updates leave out {', '.join(sorted(columns))}: the message that held the "
            "value is compacted away, and who reads the topic anew never learns it",
            f"{_full(sample.source)}, or cleanup.policy=delete",
        )
    if sample.has_other_key():
        yield Trap(
            TrapKind.COMPACTED_BY_OTHER_KEY,
            "the topic is compacted by a message key that is not the row's key: rows that share one are lost from it",
            "cleanup.policy=delete, or remove message.key.columns from the connector",
            fatal=True,
        )


def _tombstones(sample: Sample) -> Iterator[Trap]:
    deletes = missing = 0
    for seen, after in zip(sample.seen, sample.seen[1:], strict=False):
        change, message, following = seen.decoded, seen.message, after.message
        if not isinstance(change, Change) or change.kind is not Kind.DELETE or following.partition != message.partition:
            continue
        deletes += 1
        missing += following.value is not None or following.key != message.key
    if missing and missing == deletes:
        yield Trap(
            TrapKind.NO_TOMBSTONES,
            "deletes are not followed by tombstones, so compaction never forgets a deleted row",
            "set tombstones.on.delete=true, and let no transform drop tombstones",
        )


def _snapshot(sample: Sample, now_ms: int) -> Iterator[Trap]:
    marks = [
        (seen.origin.get("snapshot"), seen.message.timestamp_ms or 0) for seen, _ in sample.images() if seen.origin
    ]
    if any(mark == "incremental" and now_ms - at < _RECENT_MS for mark, at in marks):
        yield Trap(
            TrapKind.SNAPSHOT_RUNNING,
            "rows of an incremental snapshot arrived within the last ten minutes",
            "wait until it is over, if it still runs",
        )
    first = [mark for mark, _ in marks if mark != "incremental"]
    if first and not any(mark in _NO_SNAPSHOT or mark in _LAST_OF_SNAPSHOT for mark in first):
        yield Trap(
            TrapKind.SNAPSHOT_RUNNING,
            "the newest messages are snapshot reads without the last one: the snapshot runs, or was broken off",
            "wait until the connector has finished it",
        )


def _writers(sample: Sample) -> Iterator[Trap]:
    writers = sample.writers()
    if len(writers) > 1:
        yield Trap(
            TrapKind.TWO_WRITERS,
            f"written by {' and by '.join(sorted(map(str, writers)))}: their positions do not compare",
            "let one connector write one topic; after a move of the OMS `order-sync ghosts list` shows what is left",
        )
