"""A batch of messages as decoded: what of it to fold, and where each partition's position will stand afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from daemon.ingest.change import Change, Kind, Message, Reject, RejectReason, Skip, SkipReason
from daemon.ingest.debezium import Decoder
from daemon.ingest.kafka import Partition
from daemon.state.ingest_store import Move, Position, TopicPartition

_TOMBSTONE, _DELETE = Kind.TOMBSTONE, Kind.DELETE  # members of an enumeration are slow to reach


@dataclass(slots=True)
class PartitionState:
    """What the loop knows of a partition it consumes."""

    id: TopicPartition
    position: Position
    deleted_key: bytes | None = None  # message key of the last message, if that was a delete: its tombstone follows


class DecodedBatch:
    """A batch as decoded: changes in order of consumption, rejects, and what each partition's position will be."""

    def __init__(
        self,
        decoder: Decoder,
        partitions: dict[Partition, PartitionState],
        after: DecodedBatch | None = None,
    ) -> None:
        """`after`: the batch before, which is not in Postgres yet. This one begins where that one ends."""
        self._decoder = decoder
        self._partitions = partitions
        self._stands = {} if after is None else {name: move.next for name, move in after._next.items()}
        self._deleted_before = {} if after is None else after._deleted
        self._next: dict[Partition, Move] = {}
        self._deleted: dict[Partition, bytes | None] = {}
        self.changes: list[tuple[int, Change]] = []
        self.rejects: list[tuple[str, Reject]] = []
        self.counts: Counter[tuple[str, str, str, str]] = Counter()
        self.oddities: Counter[tuple[str, str]] = Counter()
        self.partition_of: dict[int, Partition] = {}

    def add(self, message: Message, *, poison: str | None = None) -> None:
        """Decode one message and account for it. `poison` says why it must be a reject although it can be decoded."""
        name = (message.topic, message.partition)
        state = self._partitions.get(name)
        if state is None:
            return
        move = self._move(name, state)
        if message.offset < move.next:
            return  # below the position: it was accounted for when that moved
        move.next = message.offset + 1
        decoded = self._decoder.decode(message)
        if poison is not None:
            source = None if isinstance(decoded, Skip) else decoded.source
            decoded = Reject(RejectReason.BAD_VALUE, poison, source, None, message)
        deletes = False
        if isinstance(decoded, Change):
            kind = decoded.kind
            if kind is _TOMBSTONE:
                before = self._deleted.get(name, self._deleted_before.get(name, state.deleted_key))
                if before is not None and before == message.key:
                    decoded = Skip(SkipReason.TOMBSTONE_AFTER_DELETE, "tombstone", message)
            deletes = kind is _DELETE
        self._deleted[name] = message.key if deletes else None
        self._account(decoded, move, state)

    def _account(self, decoded: Change | Skip | Reject, move: Move, state: PartitionState) -> None:
        if isinstance(decoded, Change):
            self.changes.append((move.origin, decoded))
            if decoded.then is not None:
                self.changes.append((move.origin, decoded.then))
            if decoded.oddity is not None:
                self.oddities[state.id.topic, decoded.oddity] += 1
        elif isinstance(decoded, Skip):
            move.skipped += 1
            self.counts[state.id.topic, decoded.op, "skipped", str(decoded.reason)] += 1
        else:
            move.rejected += 1
            self.rejects.append((state.id.topic_id, decoded))
            self.counts[state.id.topic, "none", "rejected", str(decoded.reason)] += 1
            if decoded.key is not None and decoded.source is not None:
                self.changes.append((move.origin, unknown_row(decoded)))

    def moves(self, ends: dict[Partition, int]) -> list[Move]:
        """The positions to move, also past offsets that carried no message, in (topic, partition) order."""
        for name, end in ends.items():
            if (state := self._partitions.get(name)) is not None:
                move = self._move(name, state)
                move.next = max(move.next, end)
        return [self._next[name] for name in sorted(self._next) if self._next[name].next > self._next[name].expected]

    def commit(self, moves: Sequence[Move]) -> None:
        """The batch is in Postgres: go on from there, with the partitions that are still ours."""
        for move in moves:
            name = self.partition_of[move.origin]
            if (state := self._partitions.get(name)) is None:
                continue
            state.position = Position(move.origin, move.next, state.position.read_ms)
            state.deleted_key = self._deleted.get(name, state.deleted_key)

    def _move(self, name: Partition, state: PartitionState) -> Move:
        if name not in self._next:
            at = state.position
            stands = self._stands.get(name, at.next_offset)
            self._next[name] = Move(at.origin, stands, stands)
            self.partition_of[at.origin] = name
        return self._next[name]


def unknown_row(reject: Reject) -> Change:
    """What a reject does to its row: none of the row's values is known any more."""
    assert reject.source is not None  # noqa: S101 - the caller looked
    assert reject.key is not None  # noqa: S101
    return Change(
        source=reject.source,
        key=reject.key,
        kind=Kind.UNKNOWN,
        op="none",
        columns={},
        unavailable=(),
        lineage=None,
        position=None,
        committed_ms=None,
        snapshot=False,
        message=reject.message,
    )
