"""Orders as the newest messages of the topics make them, in memory: what `plan --from-topic` looks at.

Nothing is stored, no group is joined, and no state is asked: for a look before anything is deployed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from daemon.cli import peek, probes
from daemon.errors import SettingsError
from daemon.ingest.change import Change, Message, Reject
from daemon.ingest.debezium import Decoder
from daemon.ingest.fold import Stager
from daemon.ingest.schema_registry import avro_reader
from daemon.mapping.model import Mapping
from daemon.mapping.rows import StoredRow, Wanted
from daemon.mapping.structure import Role
from daemon.settings import Kafka
from daemon.state.ingest_store import Batch
from daemon.state.memory_ingest import MemoryIngestStore

READ_SECS = 60.0


@dataclass(frozen=True, slots=True)
class FromTopic:
    """What the messages came to. `shared` holds the rows by what they may be wanted as.

    `rejects` counts those that could not be decoded, by topic and reason; `unread` names topics that are not there, or
    whose end was not reached in time.
    """

    shared: dict[Wanted, list[StoredRow]]
    of_order: dict[str, list[StoredRow]]
    messages: int
    rejects: dict[str, int]
    unread: tuple[str, ...]

    def order_keys(self) -> Iterator[str]:
        """The orders whose own row was among the messages."""
        return (key for key, rows in self.of_order.items() if any(row.key == key and row.root == key for row in rows))


def read(kafka: Kafka, mapping: Mapping, limit: int) -> FromTopic:
    """Fold the newest `limit` messages of each partition. Raises SettingsError where Kafka cannot be asked."""
    sources = mapping.structure.by_topic()
    try:
        known = probes.cluster(kafka).topics
    except probes.ProbeFailed as failure:
        raise SettingsError(str(failure)) from failure
    root = mapping.structure.sources[mapping.root].topic
    missing = sorted(sources.keys() - known.keys())
    if root in missing:
        raise SettingsError(
            f"topic {root} does not exist, or this user may not see it; "
            f"mend sources.{mapping.root}.topic, or see `order-sync check`"
        )
    read = peek.newest(kafka, {topic: known[topic] for topic in sources if topic in known}, limit, READ_SECS)
    if read.refused:
        raise SettingsError(f"topic {min(read.refused)}: this user may not read it; see `order-sync check`")
    messages = [message for topic in sorted(read.messages) for message in read.messages[topic]]
    return _folded(kafka, mapping, messages, tuple(sorted({*missing, *read.unread})))


def _folded(kafka: Kafka, mapping: Mapping, messages: list[Message], unread: tuple[str, ...]) -> FromTopic:
    decoder, stager = Decoder(mapping.structure, avro_reader(kafka)), Stager(mapping.structure)
    origins: dict[tuple[str, int], int] = {}
    changes: list[tuple[int, Change]] = []
    rejects: dict[str, int] = {}
    for message in sorted(messages, key=lambda one: (one.topic, one.partition, one.offset)):
        decoded = decoder.decode(message)
        if isinstance(decoded, Reject):
            why = f"{message.topic}: {decoded.reason}"
            rejects[why] = rejects.get(why, 0) + 1
        if isinstance(decoded, Change):
            origin = origins.setdefault((message.topic, message.partition), len(origins) + 1)
            changes += [(origin, change) for change in (decoded, decoded.then) if change is not None]
    store = MemoryIngestStore(lambda *_: None)
    store.open(mapping.structure, [])
    store.fold(Batch(stager.stage(changes, 0), [], []))
    rows = {
        name: StoredRow(
            *name, row.root, row.columns, frozenset(row.unknown), row.deleted, row.first_seen_ms, row.parent
        )
        for name, row in store.rows.items()
    }
    of_order: dict[str, list[StoredRow]] = {}
    shared: dict[Wanted, list[StoredRow]] = {}
    for row in rows.values():
        shared.setdefault(Wanted(row.source, row.key), []).append(row)
        if row.parent is not None:
            shared.setdefault(Wanted(row.source, row.parent, below=True), []).append(row)
        if row.root is not None and mapping.structure.sources[row.source].role is not Role.SHARED:
            of_order.setdefault(row.root, []).append(row)
    return FromTopic(shared, of_order, len(messages), rejects, unread)
