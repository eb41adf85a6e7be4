"""What an ingest store remembers of partitions: incarnations, halts, the gate, generations. Both stores keep it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from ingest_store_suite import Events, Rig

from daemon.ingest.change import Kind
from daemon.state.era import Mirrored, signature
from daemon.state.ingest_store import Batch, Move, TopicPartition

HOUR = timedelta(hours=1)


def at(partition: int = 0, topic_id: str = "one", topic: str = "t.orders") -> TopicPartition:
    """A partition of the orders' topic."""
    return TopicPartition(topic, topic_id, partition)


def move(rig: Rig, partition: TopicPartition, to: int) -> None:
    """Move a position without folding anything."""
    position = rig.store.positions([partition])[partition]
    rig.store.fold(Batch([], [], [Move(position.origin, position.next_offset, to)]))


def mirrored(rig: Rig, partition: TopicPartition, offset: int) -> dict[TopicPartition, Mirrored]:
    """What this state leaves in Kafka when it stands at an offset."""
    return {partition: Mirrored(offset, signature(rig.store.era(), partition.topic_id))}


class IngestStateSuite:
    """Tests for every ingest store; `rig` and `events` come from the class that inherits."""

    def test_a_recreated_topic_is_left_out_until_a_person_says_where_to_go_on(self, rig: Rig) -> None:
        """No partition of it has a position, old or new ones; after a reset all have."""
        move(rig, at(0), 5)
        assert rig.store.positions([at(0, "two"), at(2, "two"), at(0, "x", "t.other")]).keys() == {
            at(0, "x", "t.other")
        }
        rig.reset(at(0, "two"), 7)
        found = rig.store.positions([at(0, "two"), at(2, "two")])
        assert [found[at(n, "two")].next_offset for n in (0, 2)] == [7, -1]

    def test_a_recreated_topic_of_which_nothing_was_read_is_no_gap(self, rig: Rig) -> None:
        """Empty topics are made anew when a connector is set up; nothing can be missing."""
        move(rig, at(0), 0)
        rig.store.positions([at(1)])
        assert rig.store.positions([at(0, "two")])[at(0, "two")].next_offset == -1

    def test_a_new_partition_of_a_known_topic_starts_at_its_beginning(self, rig: Rig) -> None:
        """Partitions are added to topics; that is no gap."""
        move(rig, at(0), 5)
        assert rig.store.positions([at(3)])[at(3)].next_offset == -1

    def test_a_broker_that_tells_no_topic_id_gets_the_newest_incarnation(self, rig: Rig) -> None:
        """Whether ids are told may change with the broker; the positions stay."""
        move(rig, at(0), 5)
        assert rig.store.positions([at(0, "")])[at(0, "")].next_offset == 5

    def test_topic_ids_told_for_the_first_time_are_adopted(self, rig: Rig) -> None:
        """An upgraded cluster tells ids of topics that the state knows without: no gap, and from then on they count."""
        move(rig, at(0, ""), 5)
        assert rig.store.positions([at(0, "one")])[at(0, "one")].next_offset == 5
        assert rig.store.positions([at(0, "two")]) == {}

    def test_the_gate_holds_until_every_target_is_reached(self, rig: Rig) -> None:
        """Targets are those of the moment at which it closes; what Kafka gets afterwards does not hold it."""
        move(rig, at(0), 5)
        assert rig.store.close_gate({at(0): 5, at(1): 3, at(2): 1}, HOUR) == 2
        assert rig.store.gate() == 2
        assert rig.store.close_gate({at(0): 5, at(1): 30}, HOUR) == 0
        move(rig, at(1), 2)
        assert rig.store.gate() == 2
        move(rig, at(1), 3)
        move(rig, at(2), 9)
        assert rig.store.gate() == 0

    def test_halted_partitions_do_not_hold_the_gate(self, rig: Rig) -> None:
        """A source that stands still must not stop delivery of what is folded; it holds again once it goes on."""
        rig.store.close_gate({at(0): 3, at(1): 3}, HOUR)
        origin = rig.store.positions([at(0)])[at(0)].origin
        rig.store.halt([origin], "gone")
        assert rig.store.gate() == 1
        assert rig.store.close_gate({at(0): 9}, HOUR) == 0
        rig.store.halt([origin], None)
        assert rig.store.gate() == 2

    def test_a_newer_generation_replaces_a_row_whatever_was_known(self, rig: Rig, events: Events) -> None:
        """After a rebuild began, an event that is older by offset and by log position is the row."""
        rig.fold(events.change("orders", "1", v="newest"), events.change("orders", "2", v="gone since"))
        rig.raise_generation("orders")
        rig.reset(at(0), -1)
        rig.fold(events.change("orders", "1", offset=0, position=(5,), committed_ms=5, v="first"))
        assert rig.row("orders", "1").columns == {"v": "first"}
        rig.fold(events.change("orders", "1", offset=1, position=(4,), committed_ms=4, v="stale"))
        assert rig.row("orders", "1").columns == {"v": "first"}
        rig.fold(events.change("orders", "1", offset=2, position=(6,), committed_ms=6, v="second"))
        assert rig.row("orders", "1").columns == {"v": "second"}
        assert rig.row("orders", "2").columns == {"v": "gone since"}

    def test_a_change_without_position_takes_nothing_over_from_an_older_generation(
        self, rig: Rig, events: Events
    ) -> None:
        """What follows a snapshot read in a rebuild is not judged by the log position of the row it replaced."""
        rig.fold(events.change("orders", "1", position=(900,), committed_ms=900, v="newest"))
        rig.raise_generation("orders")
        rig.reset(at(0), -1)
        rig.fold(events.change("orders", "1", offset=0, position=None, committed_ms=None, v="read"))
        rig.fold(events.change("orders", "1", offset=1, position=(5,), committed_ms=5, v="then"))
        assert rig.row("orders", "1").columns == {"v": "then"}

    def test_an_unavailable_value_is_carried_into_a_newer_generation(self, rig: Rig, events: Events) -> None:
        """A value that only the older generation knows is better than none."""
        rig.fold(events.change("orders", "1", v="a", big="text"))
        rig.raise_generation("orders")
        rig.fold(events.change("orders", "1", unavailable=("big",), v="b"))
        row = rig.row("orders", "1")
        assert (row.columns, row.unknown) == ({"v": "b", "big": "text"}, frozenset())

    def test_a_delete_of_a_newer_generation_deletes(self, rig: Rig, events: Events) -> None:
        """Also one that is older than the row by all that was known."""
        rig.fold(events.change("orders", "1", v="a"))
        rig.raise_generation("orders")
        rig.reset(at(0), -1)
        rig.fold(events.change("orders", "1", kind=Kind.DELETE, offset=0, position=(1,), committed_ms=1))
        assert rig.row("orders", "1").deleted

    def test_the_group_being_ahead_begins_one_era(self, rig: Rig) -> None:
        """What it has read of this topic this state knows nothing of: told once, however often it is looked at."""
        move(rig, at(0), 5)
        assert rig.store.follow_mirror(mirrored(rig, at(0), 5)).number == 0
        assert rig.store.follow_mirror({}).number == 0
        era = rig.store.follow_mirror(mirrored(rig, at(0), 6))
        assert (era.number, era.targeted, era.replaying) == (1, False, True)
        assert rig.store.follow_mirror(mirrored(rig, at(0), 6)).number == 1

    def test_a_partition_that_this_state_never_met_tells_too(self, rig: Rig) -> None:
        """It was added, or first read, in the future that was lost."""
        move(rig, at(0), 5)
        rig.store.positions([at(1)])
        assert rig.store.follow_mirror(mirrored(rig, at(1), 1)).number == 1

    def test_a_position_that_was_set_back_is_no_new_era(self, rig: Rig) -> None:
        """By a person, or a rebuild: the state itself stood there."""
        move(rig, at(0), 5)
        rig.reset(at(0), 1)
        assert rig.store.follow_mirror(mirrored(rig, at(0), 5)).number == 0
        rig.reset(at(0), 9)
        assert rig.store.follow_mirror(mirrored(rig, at(0), 9)).number == 0

    def test_what_another_state_or_incarnation_left_in_kafka_does_not_count(self, rig: Rig) -> None:
        """A topic that was made anew, and a state that was made anew under an old group, begin at their beginning."""
        move(rig, at(0), 5)
        ours = signature(rig.store.era(), "another")
        assert rig.store.follow_mirror({at(0): Mirrored(9, ours)}).number == 0
        assert rig.store.follow_mirror({at(0): Mirrored(9, "order-sync 1234 one")}).number == 0

    def test_a_broker_that_does_not_keep_whose_it_is_is_believed_where_we_have_read(self, rig: Rig) -> None:
        """Otherwise it may have been left by anybody."""
        rig.store.positions([at(0)])
        assert rig.store.follow_mirror({at(0): Mirrored(9)}).number == 0
        move(rig, at(1), 5)
        assert rig.store.follow_mirror({at(1): Mirrored(9)}).number == 1

    def test_a_new_era_reads_again_what_kafka_has_before_delivery_goes_on(self, rig: Rig) -> None:
        """However long it takes; what Kafka gets afterwards is not waited for."""
        move(rig, at(0), 5)
        rig.store.follow_mirror(mirrored(rig, at(0), 8))
        assert rig.store.replay({at(0): 9, at(1): 3}).targeted
        rig.store.replay({at(0): 100})
        assert rig.store.gate() == 2
        move(rig, at(1), 3)
        move(rig, at(0), 8)
        assert rig.store.gate() == 1
        assert rig.store.era().replaying
        move(rig, at(0), 9)
        assert rig.store.gate() == 0
        assert not rig.store.era().replaying

    def test_a_second_restore_begins_another_era(self, rig: Rig) -> None:
        """Also while the first one is still read again."""
        move(rig, at(0), 5)
        rig.store.follow_mirror(mirrored(rig, at(0), 8))
        rig.store.replay({at(0): 9})
        assert rig.store.follow_mirror(mirrored(rig, at(0), 20)).number == 2

    def test_what_is_read_again_is_due_even_where_it_comes_out_as_before(self, rig: Rig, events: Events) -> None:
        """It may have been sent as it was in between."""
        before = events.change("orders", "1", v="a")
        rig.fold(before, events.change("orders", "2", v="a"))
        rig.settle()
        marks = rig.revisions()
        there_and_back = [events.change("orders", "1", v="b"), events.change("orders", "1", v="a")]
        rig.fold(*there_and_back, replay=True)
        assert rig.revisions().get("1", 0) > marks.get("1", 0)
        marks = rig.revisions()
        rig.fold(events.change("orders", "1", v="b"), events.change("orders", "1", v="a"))
        assert rig.revisions() == marks
        rig.fold(replace(events.change("orders", "2", v="a"), op="r", snapshot=True), replay=True)
        assert rig.revisions() == marks

    def test_every_order_on_the_way_of_a_row_that_is_read_again_is_due(self, rig: Rig, events: Events) -> None:
        """The line that came and went, and the line that was another order's for a while: in one batch."""
        orders = [events.change("orders", key, v="a") for key in "123"]
        rig.fold(*orders, events.change("lines", "30", order_id="3"))
        rig.settle()
        marks = rig.revisions()
        rig.fold(
            events.change("lines", "10", order_id="1"),
            events.change("lines", "10", kind=Kind.DELETE),
            events.change("lines", "30", order_id="2"),
            events.change("lines", "30", order_id="3"),
            replay=True,
        )
        raised = {key for key, revision in rig.revisions().items() if revision > marks.get(key, 0)}
        assert raised == {"1", "2", "3"}
