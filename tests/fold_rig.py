"""Recordings on their way into a store: decoded once, folded in any batches, with crashes and positions set back."""

from __future__ import annotations

import bisect
import copy
import functools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import corpora_loader
from corpora_loader import Corpus
from corpora_truth import Held, Judge, Name
from deliveries import Copy, Rewind, Step, by_partition

from daemon.ingest.batch import DecodedBatch, PartitionState
from daemon.ingest.change import Change, Decoded, Kind, Message
from daemon.ingest.debezium import Decoder
from daemon.ingest.fold import Stager
from daemon.ingest.kafka import Partition
from daemon.mapping.rows import StoredRow
from daemon.mapping.structure import Structure
from daemon.state.ingest_store import Batch, IngestStore, TopicPartition
from daemon.state.memory_ingest import MemoryIngestStore
from daemon.state.memory_rows import MemoryRow

TOPIC_ID = "id"


class DecodedOnce(Decoder):
    """A decoder that has seen all messages of a recording already, in file order. Copies decode to copies."""

    def __init__(self, corpus: Corpus, structure: Structure) -> None:
        super().__init__(structure, corpora_loader.avro_of(corpus))
        self._decoded = {_place(message): super(DecodedOnce, self).decode(message) for message in corpus.of_tables()}

    def decode(self, message: Message) -> Decoded:
        """As ever, from memory."""
        if isinstance(message, Copy):
            return _moved(self._decoded[_place(message.original)], message)
        return self._decoded[_place(message)]


def _place(message: Message) -> tuple[str, int, int]:
    return message.topic, message.partition, message.offset


def _moved(decoded: Decoded, message: Message) -> Decoded:
    moved = copy.copy(decoded)
    object.__setattr__(moved, "message", message)
    if isinstance(moved, Change) and moved.then is not None:
        then = _moved(moved.then, message)
        assert isinstance(then, Change)
        moved.then = then
    return moved


@dataclass(frozen=True)
class Flow:
    """Decoded messages of some sources."""

    structure: Structure
    decoder: Decoder
    messages: list[Message]

    @property
    def parts(self) -> list[list[Message]]:
        """Its messages by partition."""
        return by_partition(self.messages)


@dataclass(frozen=True)
class Recording(Flow):
    """A corpus, decoded, with its judge."""

    corpus: Corpus
    judge: Judge

    def deletes(self, message: Message) -> bool:
        """Whether the message tells of a delete, so that a tombstone may follow."""
        decoded = self.decoder.decode(message)
        return isinstance(decoded, Change) and decoded.kind is Kind.DELETE


@functools.cache
def recording(name: str) -> Recording:
    """One of the corpora by its name; decoded once in a process."""
    corpus = corpora_loader.load(name)
    structure = corpora_loader.structure_for(corpus)
    return Recording(structure, DecodedOnce(corpus, structure), corpus.of_tables(), corpus, Judge(corpus))


class Line:
    """Folds a flow's messages into a store, in whatever order and batches it is told to."""

    def __init__(self, flow: Flow, store: IngestStore) -> None:
        self._store = store
        self._decoder = flow.decoder
        self._stager = Stager(flow.structure)
        self._states: dict[Partition, PartitionState] = {}

    def fold(self, messages: Sequence[Message]) -> None:
        """One batch, in one transaction."""
        batch = self._consume(messages)
        moves = batch.moves({})
        self._store.fold(Batch(self._stager.stage(batch.changes, 0), batch.rejects, moves))
        batch.commit(moves)

    def fold_all(self, steps: Iterable[Step], lots: random.Random, most: int) -> None:
        """All of them, in batches of random size up to `most`, with a crash after every fifth batch or so."""
        batch: list[Message] = []
        size = lots.randint(1, most)
        for step in steps:
            if isinstance(step, Rewind) or len(batch) == size:
                self.fold(batch)
                if lots.random() < 0.2:
                    self.crash()
                batch, size = [], lots.randint(1, most)
            if isinstance(step, Rewind):
                self.rewind(step)
            else:
                batch.append(step)
        self.fold(batch)

    def crash(self, consumed: Sequence[Message] = ()) -> None:
        """Forget all that is not in the store, and what was consumed but not committed."""
        self._consume(consumed)
        self._states.clear()

    def rewind(self, step: Rewind) -> None:
        """Set a position back; the consumer finds it there."""
        self.set_position(TopicPartition(step.topic, TOPIC_ID, step.partition), step.offset)
        self._states.pop((step.topic, step.partition), None)

    def set_position(self, partition: TopicPartition, offset: int) -> None:
        """As `order-sync position reset` does."""
        raise NotImplementedError

    def held(self) -> dict[Name, Held]:
        """The live rows."""
        raise NotImplementedError

    def _consume(self, messages: Sequence[Message]) -> DecodedBatch:
        new = {(message.topic, message.partition) for message in messages} - self._states.keys()
        asked = {name: TopicPartition(name[0], TOPIC_ID, name[1]) for name in sorted(new)}
        positions = self._store.positions(asked.values())
        self._states |= {name: PartitionState(partition, positions[partition]) for name, partition in asked.items()}
        batch = DecodedBatch(self._decoder, self._states)
        for message in messages:
            batch.add(message)
        return batch


class MemoryLine(Line):
    """A line into a fresh store in memory."""

    def __init__(self, flow: Flow) -> None:
        self._memory = MemoryIngestStore(lambda *_: None)
        self._memory.open(flow.structure, [])
        self._met: dict[TopicPartition, None] = {}
        super().__init__(flow, self._memory)

    def set_position(self, partition: TopicPartition, offset: int) -> None:
        self._memory.reset(partition, offset)

    def held(self) -> dict[Name, Held]:
        return {
            name: Held(row.columns, frozenset(row.unknown), row.root)
            for name, row in self._memory.rows.items()
            if not row.deleted
        }

    def stored(self) -> list[StoredRow]:
        """All rows as the state store hands them out."""
        return [
            StoredRow(*name, row.root, row.columns, frozenset(row.unknown), row.deleted, row.first_seen_ms, row.parent)
            for name, row in self._memory.rows.items()
        ]

    def remembered(self) -> Moment:
        """All that the store and the process know now."""
        offsets = {state.id: state.position.next_offset for state in self._states.values()}
        self._met |= dict.fromkeys(offsets)
        return Moment(dict(self._memory.rows), offsets, self._deleted())

    def go_to(self, moment: Moment) -> None:
        """Put store and process back, or forward, to a moment."""
        rows = self._memory.rows
        for name in [name for name in rows if name not in moment.rows]:
            rows.put(name, None)
        for name, row in moment.rows.items():
            if rows.get(name) is not row:
                rows.put(name, row)
        for partition in self._met:
            self._memory.reset(partition, moment.offsets.get(partition, -1))
        self._states = {
            (partition.topic, partition.partition): PartitionState(partition, position)
            for partition, position in self._memory.positions(moment.offsets).items()
        }
        for partition_name, key in moment.deleted.items():
            self._states[partition_name].deleted_key = key

    def is_at(self, moment: Moment) -> bool:
        """Whether store and process are such that whatever follows ends as it would have ended from that moment.

        That is for one who has folded the same messages: where the partitions stand is not looked at.
        """
        return dict(self._memory.rows) == moment.rows and self._deleted() == moment.deleted

    def _deleted(self) -> dict[Partition, bytes]:
        return {name: state.deleted_key for name, state in self._states.items() if state.deleted_key is not None}


@dataclass(frozen=True)
class Moment:
    """Rows of a store in memory, next offsets, and by partition the key of a delete that was its last message."""

    rows: dict[Name, MemoryRow]
    offsets: dict[TopicPartition, int]
    deleted: dict[Partition, bytes]


class Cuts:
    """A recording in file order, and what a crash between any two of its messages makes of it.

    What follows a cut differs from what would have followed without it only until each partition has had another
    message: then the process remembers the same again. If the store holds the same rows then, to the last field, the
    rest need not be folded once more; if not, it is.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._messages = recording.messages
        self._line = MemoryLine(recording)
        self._moments = [self._line.remembered()]
        for message in self._messages:
            self._line.fold([message])
            self._moments.append(self._line.remembered())
        self._numbers: dict[Partition, list[int]] = {}
        for number, message in enumerate(self._messages):
            self._numbers.setdefault((message.topic, message.partition), []).append(number)

    def __len__(self) -> int:
        return len(self._moments)

    def wrong_after(self, cut: int, before: int, after: int, *, to_the_end: bool = False) -> list[str]:
        """What is wrong in the end after a crash behind `cut` messages.

        So many `before` it are one batch, so many `after` it were consumed in vain, and are one batch then. The rest is
        folded only where it could end otherwise, or if asked for.
        """
        line, start = self._line, max(0, cut - before)
        line.go_to(self._moments[start])
        line.fold(self._messages[start:cut])
        line.crash(self._messages[cut : cut + after])
        reached = min(len(self._messages), max(cut + after, self._settled(cut)))
        line.fold(self._messages[cut:reached])
        if not to_the_end and line.is_at(self._moments[reached]):
            return []
        line.fold(self._messages[reached:])
        return self._recording.judge.wrong(line.held())

    def _settled(self, cut: int) -> int:
        """How many messages must be folded until each partition that ended with a delete has had another one."""
        numbers = [self._numbers[name] for name in self._moments[cut].deleted]
        following = [part[at] + 1 for part in numbers if (at := bisect.bisect_left(part, cut)) < len(part)]
        return max(following, default=cut)
