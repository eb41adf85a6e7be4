"""Recordings on their way into a store: decoded once, folded in any batches, with crashes and positions set back."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import corpora_loader
from corpora_loader import Corpus
from corpora_truth import Held, Judge, Name
from deliveries import Copy, Part, Rewind, Step, by_partition

from daemon.ingest.batch import DecodedBatch, PartitionState
from daemon.ingest.change import Change, Decoded, Message
from daemon.ingest.debezium import Decoder
from daemon.ingest.fold import Stager
from daemon.mapping.structure import Structure
from daemon.state.ingest_store import Batch, IngestStore, TopicPartition
from daemon.state.memory_ingest import MemoryIngestStore
from daemon.state.memory_rows import MemoryRow, MemoryRows


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
class Recording:
    """A corpus, decoded, with its judge."""

    corpus: Corpus
    structure: Structure
    decoder: DecodedOnce
    judge: Judge
    messages: list[Message]

    @property
    def parts(self) -> list[list[Message]]:
        """Its messages by partition."""
        return by_partition(self.messages)

    @property
    def placed(self) -> bool:
        """Whether its rows tell their log position; else only Kafka's order is left, within each partition."""
        return self.corpus.name != "u_unwrap_bare"


@functools.cache
def recording(name: str) -> Recording:
    """One of the corpora by its name; decoded once in a process."""
    corpus = corpora_loader.load(name)
    structure = corpora_loader.structure_for(corpus)
    return Recording(corpus, structure, DecodedOnce(corpus, structure), Judge(corpus), corpus.of_tables())


class Line:
    """Folds a recording's messages into a store, in whatever order and batches it is told to."""

    def __init__(self, recording: Recording, store: IngestStore) -> None:
        self._store = store
        self._decoder = recording.decoder
        self._stager = Stager(recording.structure)
        self._states: dict[tuple[str, int], PartitionState] = {}

    def fold(self, messages: Sequence[Message]) -> DecodedBatch:
        """One batch, in one transaction."""
        self._take_up(messages)
        batch = DecodedBatch(self._decoder, self._states)
        for message in messages:
            batch.add(message)
        moves = batch.moves({})
        self._store.fold(Batch(self._stager.stage(batch.changes, 0), batch.rejects, moves))
        batch.commit(moves)
        return batch

    def fold_all(self, steps: Iterable[Step], lots: random.Random, most: int) -> None:
        """All of them, in batches of random size."""
        batch: list[Message] = []
        size = lots.randint(1, most)
        for step in steps:
            if isinstance(step, Rewind) or len(batch) == size:
                self.fold(batch)
                batch, size = [], lots.randint(1, most)
            if isinstance(step, Rewind):
                self.rewind(step)
            else:
                batch.append(step)
        self.fold(batch)

    def rewind(self, step: Rewind) -> None:
        """Set a position back; the consumer finds it there."""
        raise NotImplementedError

    def crash(self) -> None:
        """Forget all that is not in the store."""
        self._states.clear()

    def _take_up(self, messages: Iterable[Message]) -> None:
        new = {(m.topic, m.partition) for m in messages} - self._states.keys()
        asked = {name: TopicPartition(name[0], "id", name[1]) for name in sorted(new)}
        positions = self._store.positions(asked.values())
        self._states |= {name: PartitionState(partition, positions[partition]) for name, partition in asked.items()}


class MemoryLine(Line):
    """A line into a fresh store in memory."""

    def __init__(self, recording: Recording) -> None:
        self.store = MemoryIngestStore(lambda *_: None)
        self.store.open(recording.structure, [])
        super().__init__(recording, self.store)

    def rewind(self, step: Rewind) -> None:
        self.store.reset(TopicPartition(step.topic, "id", step.partition), step.offset)
        self._states.pop((step.topic, step.partition), None)

    def held(self) -> dict[Name, Held]:
        """The live rows."""
        return {
            name: Held(row.columns, frozenset(row.unknown), row.root)
            for name, row in self.store.rows.items()
            if not row.deleted
        }
