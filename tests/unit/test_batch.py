"""What a decoded batch accounts for, and where it leaves each partition."""

from __future__ import annotations

import pytest
from ingest_store_suite import STRUCTURE

from daemon.ingest.batch import DecodedBatch, PartitionState
from daemon.ingest.change import Kind, Message, RejectReason
from daemon.ingest.debezium import Decoder
from daemon.state.ingest_store import Position, TopicPartition

DELETE = (
    b'{"op":"d","before":{"id":1},"after":null,'
    b'"source":{"connector":"postgresql","name":"o","db":"o","schema":"p","table":"t","lsn":9,"ts_ms":9}}'
)


@pytest.fixture
def states() -> dict[tuple[str, int], PartitionState]:
    """Two partitions that stand at their beginning."""
    return {
        (topic, 0): PartitionState(TopicPartition(topic, "id", 0), Position(number, -1))
        for number, topic in enumerate(["t.orders", "t.lines"], 1)
    }


def message(topic: str, offset: int, value: bytes | None = b"junk") -> Message:
    return Message(topic, 0, offset, None, b'{"id":1}', value, None)


def test_an_end_moves_a_position_past_offsets_without_messages(
    states: dict[tuple[str, int], PartitionState],
) -> None:
    """Transaction markers carry no message; the end tells that they are behind us. An empty partition begins at 0."""
    batch = DecodedBatch(Decoder(STRUCTURE), states)
    batch.add(message("t.orders", 3))
    moves = batch.moves({("t.orders", 0): 7, ("t.lines", 0): 0})
    assert [(move.origin, move.next) for move in moves] == [(2, 0), (1, 7)]


def test_a_tombstone_right_after_its_delete_is_skipped_across_batches(
    states: dict[tuple[str, int], PartitionState],
) -> None:
    """The delete ends one batch, its tombstone begins the next; a second tombstone is a lone one."""
    decoder = Decoder(STRUCTURE)
    first = DecodedBatch(decoder, states)
    first.add(message("t.orders", 0, DELETE))
    first.commit(first.moves({}))
    second = DecodedBatch(decoder, states)
    second.add(message("t.orders", 1, None))
    second.add(message("t.orders", 2, None))
    [move] = second.moves({})
    assert (move.expected, move.next, move.skipped) == (1, 3, 1)
    assert len(second.changes) == 1


def test_a_message_below_the_position_counts_nowhere(states: dict[tuple[str, int], PartitionState]) -> None:
    """It was accounted for when the position moved."""
    states["t.orders", 0].position = Position(1, 5)
    batch = DecodedBatch(Decoder(STRUCTURE), states)
    batch.add(message("t.orders", 4))
    assert batch.moves({}) == []
    assert not batch.rejects


def test_a_poisonous_message_is_a_reject_without_key(states: dict[tuple[str, int], PartitionState]) -> None:
    """What cannot be folded is kept raw; nothing of it is staged."""
    batch = DecodedBatch(Decoder(STRUCTURE), states)
    batch.add(message("t.orders", 0, DELETE), poison="why")
    [(_, reject)] = batch.rejects
    assert (reject.reason, reject.detail, reject.key, reject.source) == (RejectReason.BAD_VALUE, "why", None, "orders")
    assert not batch.changes


def test_a_batch_that_is_decoded_ahead_begins_where_the_one_before_will_end(
    states: dict[tuple[str, int], PartitionState],
) -> None:
    """Its position, and the delete that came last, of partitions that were in it; the others stand where they stood."""
    decoder = Decoder(STRUCTURE)
    first = DecodedBatch(decoder, states)
    first.add(message("t.orders", 0, DELETE))
    moves = first.moves({})
    second = DecodedBatch(decoder, states, first)
    second.add(message("t.orders", 0, DELETE))  # below the position of the first: counts nowhere
    second.add(message("t.orders", 1, None))
    second.add(message("t.lines", 4))
    ahead = second.moves({})
    assert [(m.expected, m.next, m.skipped, m.rejected) for m in ahead] == [(-1, 5, 0, 1), (1, 2, 1, 0)]
    assert [(change.source, change.kind) for _, change in second.changes] == [("lines", Kind.UNKNOWN)]  # its reject's
    first.commit(moves)
    second.commit(ahead)
    assert [state.position.next_offset for state in states.values()] == [2, 5]


def test_a_batch_leaves_partitions_alone_that_went_while_it_was_under_way(
    states: dict[tuple[str, int], PartitionState],
) -> None:
    """Whoever has them now reads their positions from the state."""
    batch = DecodedBatch(Decoder(STRUCTURE), states)
    batch.add(message("t.orders", 0))
    batch.add(message("t.lines", 0))
    moves = batch.moves({})
    del states["t.orders", 0]
    batch.commit(moves)
    assert [(name, state.position.next_offset) for name, state in states.items()] == [(("t.lines", 0), 1)]
