"""Traps in a topic's settings, among topics that belong together, and in the connectors' heartbeats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from daemon.contract.properties import HEARTBEAT_MS, LARGEST_MESSAGE, RETENTION_MS
from daemon.ingest.traps.sample import Sample, Writer
from daemon.ingest.traps.trap import Trap, TrapKind
from daemon.mapping.structure import Role

OUTAGE_MS = 7 * 86_400_000
"""How long ingest may plausibly stand still: what must be read must still be there then."""
LATE_MS = 600_000
_DAY_MS = 86_400_000


def is_compacted(settings: Mapping[str, str]) -> bool:
    """Whether the topic keeps the newest message of each key only."""
    return "compact" in settings.get("cleanup.policy", "")


def setting_traps(settings: Mapping[str, str], sizes: Iterable[int], fetch_limit: int) -> Iterator[Trap]:
    """Traps in a topic's settings. `sizes`: of its newest messages, `fetch_limit`: of the largest answer; bytes."""
    retention, forgotten = _number(settings, "retention.ms"), _number(settings, "delete.retention.ms")
    compacted = is_compacted(settings)
    if "delete" in settings.get("cleanup.policy", "") and retention is not None and 0 <= retention < OUTAGE_MS:
        yield Trap(
            TrapKind.SHORT_RETENTION,
            f"messages are kept for {_span(retention)}: a longer stand-still loses changes",
            f"set retention.ms={RETENTION_MS} on the topic",
        )
    if compacted and forgotten is not None and forgotten < OUTAGE_MS:
        yield Trap(
            TrapKind.SHORT_DELETE_RETENTION,
            f"deletes are kept for {_span(forgotten)}: a longer stand-still leaves deleted rows behind",
            f"set delete.retention.ms={RETENTION_MS} on the topic",
        )
    largest = _number(settings, "max.message.bytes")
    if largest is None:
        return
    if largest > fetch_limit:
        yield Trap(
            TrapKind.BEYOND_FETCH,
            f"max.message.bytes={largest} lets in messages that receive.message.max.bytes={fetch_limit} keeps out",
            "set receive.message.max.bytes under kafka.properties above it",
        )
    if (seen := max(sizes, default=0)) * 2 > largest:
        yield Trap(
            TrapKind.NEAR_LARGEST,
            f"a message of {seen} bytes is near max.message.bytes={largest}: a larger row stops the connector",
            f"set max.message.bytes={LARGEST_MESSAGE} on the topic and max.request.size of the connector's producer",
        )


def sister_traps(samples: Sequence[Sample]) -> Iterator[tuple[Sample, Trap]]:
    """Topics that another connector or database writes than the order's own (else than most)."""
    written = {item.source.name: item.writers().most_common(1)[0][0] for item in samples if item.writers()}
    if not written:
        return
    roots = [
        written[item.source.name] for item in samples if item.source.role is Role.ROOT and item.source.name in written
    ]
    usual = roots[0] if roots else Counter(written.values()).most_common(1)[0][0]
    for item in samples:
        writer = written.get(item.source.name, usual)
        if writer != usual:
            yield (
                item,
                Trap(
                    TrapKind.OTHER_WRITER,
                    f"is written by {writer}, its sisters by {usual}",
                    f"right if you mean it; else mend sources.{item.source.name}.topic",
                ),
            )


def prefixes(samples: Iterable[Sample]) -> list[str]:
    """The topic.prefix of each connector that wrote the messages."""
    writers: set[Writer] = {writer for item in samples for writer in item.writers()}
    return sorted({writer.name for writer in writers})


def heartbeat_traps(prefix: str, newest_ms: int | None, now_ms: int) -> Iterator[Trap]:
    """Traps in one connector's heartbeats. `newest_ms`: when the newest was written, None where there is none."""
    if newest_ms is None:
        yield Trap(
            TrapKind.NO_HEARTBEAT,
            f"connector {prefix} sends no heartbeats, or this user may not read them: a stopped connector looks like a "
            "quiet OMS, and while the captured tables are quiet its database keeps all of its log",
            f"set heartbeat.interval.ms={HEARTBEAT_MS} at the connector",
        )
    elif now_ms - newest_ms > LATE_MS:
        yield Trap(
            TrapKind.LATE_HEARTBEAT,
            f"the last heartbeat of connector {prefix} is {_span(now_ms - newest_ms)} old: it stands still",
            "look at the connector's status and log in Kafka Connect",
        )


def _number(settings: Mapping[str, str], name: str) -> int | None:
    text = settings.get(name, "")
    return int(text) if text.removeprefix("-").isdecimal() else None


def _span(ms: int) -> str:
    for size, unit in ((_DAY_MS, "d"), (3_600_000, "h"), (60_000, "min")):
        if ms >= size:
            return f"{ms // size} {unit}"
    return f"{ms} ms"
