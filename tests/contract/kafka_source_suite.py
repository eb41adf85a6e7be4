"""What the consumer promises on every broker: told once for the light one and for Apache Kafka."""

from __future__ import annotations

import logging
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from daemon.demo.process import wait_until
from daemon.ingest.change import Message
from daemon.ingest.cluster import Cluster
from daemon.ingest.kafka import KafkaSource, Partition
from daemon.settings import Kafka

TIMEOUT = 40
QUIET = logging.getLogger("librdkafka")
TOPICS = ("positions", "ends", "pause", "content", "again", "mirror")


class Broker(Protocol):
    """What the suite needs of a broker."""

    @property
    def bootstrap(self) -> str: ...

    def create_topic(self, name: str, partitions: int = 3) -> None: ...


@dataclass
class Reader:
    """A consumer with everything that it handed out."""

    source: KafkaSource
    messages: dict[Partition, list[Message]] = field(default_factory=lambda: defaultdict(list))
    ends: dict[Partition, int] = field(default_factory=dict)
    gaps: set[Partition] = field(default_factory=set)

    def poll(self) -> None:
        polled = self.source.poll(0.05)
        for message in polled.messages:
            self.messages[message.topic, message.partition].append(message)
        self.ends.update(polled.ends)
        self.gaps |= set(polled.gaps)

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Poll until it is true."""

        def ready() -> bool:
            self.poll()
            return bool(condition())

        wait_until(ready, what, timeout=TIMEOUT, interval=0)

    def start(self, offsets: dict[Partition, int]) -> None:
        """Start these partitions once they came; what was handed out of them before is forgotten."""
        self.until(lambda: offsets.keys() <= self.source.waiting | self.source.assigned, "the assignment")
        for partition in offsets:
            self.messages.pop(partition, None)
            self.ends.pop(partition, None)
        self.source.start(offsets)

    def offsets(self, partition: Partition) -> list[int]:
        return [message.offset for message in self.messages[partition]]


def settings(broker: Broker, **more: Any) -> Kafka:
    return Kafka(
        bootstrap_servers=broker.bootstrap,
        group_id=f"suite-{uuid.uuid4().hex[:12]}",
        properties={"session.timeout.ms": 2000, "heartbeat.interval.ms": 200, "fetch.wait.max.ms": 50},
        topic_refresh_secs=0.5,
        **more,
    )


def produce(broker: Broker, topic: str, values: Iterable[bytes], partition: int = 0) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 0}, logger=QUIET)
    for value in values:
        producer.produce(topic, value, b"key", partition=partition)
    assert producer.flush(TIMEOUT) == 0


def numbered(count: int) -> list[bytes]:
    return [b"%d" % n for n in range(count)]


class KafkaSourceSuite:
    """The tests up to the rebalance share one consumer of one topic each: joining takes the light broker seconds."""

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls) -> Broker:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def names(cls, server: Broker) -> dict[str, str]:
        made = {stem: f"{stem}-{uuid.uuid4().hex[:12]}" for stem in TOPICS}
        for name in made.values():
            server.create_topic(name, 2)
        return made

    @pytest.fixture(scope="class")
    @classmethod
    def reader(cls, server: Broker, names: dict[str, str]) -> Iterator[Reader]:
        source = KafkaSource(settings(server), names.values())
        source.subscribe()
        yield Reader(source)
        source.close()

    def test_nothing_is_handed_out_before_the_state_told_where_to_start(
        self, server: Broker, names: dict[str, str], reader: Reader
    ) -> None:
        """A partition that came waits; then it begins exactly at its position, -1 being the beginning."""
        one, other = (names["positions"], 0), (names["positions"], 1)
        for _, number in (one, other):
            produce(server, names["positions"], numbered(10), number)
        reader.until(lambda: {one, other} <= reader.source.waiting, "the assignment")
        assert reader.source.assignments > 0
        reader.start({one: 4})
        reader.until(lambda: one in reader.ends, "the end of the first")
        assert reader.offsets(one) == list(range(4, 10))
        assert [m.value for m in reader.messages[one]] == numbered(10)[4:]
        assert reader.offsets(other) == []
        assert other in reader.source.waiting
        reader.start({other: -1})
        reader.until(lambda: other in reader.ends, "the end of the second")
        assert reader.offsets(other) == list(range(10))

    def test_ends_are_told_also_of_an_empty_partition_and_again_after_more(
        self, server: Broker, names: dict[str, str], reader: Reader
    ) -> None:
        """The end is the offset after the last message; with it the watermark is known, so that lag is zero."""
        full, empty = (names["ends"], 0), (names["ends"], 1)
        produce(server, names["ends"], numbered(7))
        reader.start({full: -1, empty: -1})
        reader.until(lambda: {full, empty} <= reader.ends.keys(), "both ends")
        assert (reader.ends[full], reader.ends[empty]) == (7, 0)
        assert (reader.source.high_watermark(full), reader.source.high_watermark(empty)) == (7, 0)
        produce(server, names["ends"], numbered(3))
        reader.until(lambda: reader.ends[full] == 10, "the new end")
        assert reader.offsets(full) == list(range(10))
        assert reader.source.high_watermark(full) == 10

    def test_a_paused_partition_waits_and_goes_on_where_it_stood(
        self, server: Broker, names: dict[str, str], reader: Reader
    ) -> None:
        """While it is paused the other is read; afterwards nothing is missing and nothing comes twice."""
        held, other = (names["pause"], 0), (names["pause"], 1)
        produce(server, names["pause"], numbered(20))
        reader.start({held: 0, other: 0})
        reader.until(lambda: held in reader.ends, "the first end")
        reader.source.pause([held])
        produce(server, names["pause"], numbered(20), 0)
        produce(server, names["pause"], numbered(20), 1)
        reader.until(lambda: len(reader.messages[other]) == 20, "the other partition")
        assert reader.offsets(held) == list(range(20))
        reader.source.resume([held])
        reader.until(lambda: reader.ends[held] == 40, "the paused one's end")
        assert reader.offsets(held) == list(range(40))

    def test_a_partition_that_was_paused_when_it_went_is_read_when_it_comes_again(
        self, server: Broker, names: dict[str, str], reader: Reader
    ) -> None:
        """librdkafka remembers the pause over an unassignment: starting a partition means reading it."""
        held = (names["pause"], 0)
        reader.start({held: 0})
        reader.until(lambda: held in reader.ends, "its end")
        reader.source.pause([held])
        reader.source.restart()
        produce(server, names["pause"], numbered(20), 0)
        reader.start({held: 0})
        reader.until(lambda: len(reader.messages[held]) >= 20, "its messages")

    def test_keys_values_headers_and_times_arrive_as_they_were_sent(
        self, server: Broker, names: dict[str, str], reader: Reader
    ) -> None:
        """Tombstones and lone keys are None, not empty; header order, repeats and nulls survive; bytes stay bytes."""
        partition = (names["content"], 0)
        headers = [("a", b"1"), ("a", None), ("b", b""), ("c", b"\xff")]
        producer = Producer({"bootstrap.servers": server.bootstrap}, logger=QUIET)
        producer.produce(partition[0], None, b"\xffkey", 0, timestamp=1_700_000_000_123, headers=headers)
        producer.produce(partition[0], b"", None, 0)
        assert producer.flush(TIMEOUT) == 0
        reader.start({partition: 0})
        reader.until(lambda: partition in reader.ends, "the end")
        tombstone, empty = reader.messages[partition]
        assert (tombstone.key, tombstone.value) == (b"\xffkey", None)
        assert (tombstone.headers, tombstone.timestamp_ms) == (headers, 1_700_000_000_123)
        assert (empty.key, empty.value, empty.headers or []) == (None, b"", [])

    def test_after_restart_only_what_was_started_again_is_handed_out(
        self, server: Broker, names: dict[str, str], reader: Reader
    ) -> None:
        """All positions are forgotten together with what was fetched ahead; then one goes back to an earlier one."""
        partition = (names["again"], 0)
        produce(server, names["again"], numbered(6))
        reader.start({partition: 0})
        reader.until(lambda: partition in reader.ends, "the end")
        before = reader.source.assigned
        reader.source.restart()
        assert reader.source.assigned == set()
        assert before <= reader.source.waiting
        reader.start({partition: 3})
        reader.until(lambda: partition in reader.ends, "the end again")
        assert reader.offsets(partition) == [3, 4, 5]

    def test_the_group_is_told_where_we_stand(self, server: Broker, names: dict[str, str], reader: Reader) -> None:
        """Lag tools read the mirrored offset from the group."""
        partition = (names["mirror"], 0)
        produce(server, names["mirror"], numbered(4))
        reader.start({partition: 0})
        reader.until(lambda: partition in reader.ends, "the end")
        reader.source.mirror({partition: 4}, {partition: "us"})
        group = reader.source._settings.group_id
        lag_tool = Consumer({"bootstrap.servers": server.bootstrap, "group.id": group}, logger=QUIET)

        def told() -> bool:
            [at] = lag_tool.committed([TopicPartition(*partition)], timeout=TIMEOUT)
            return bool(at.offset == 4)

        reader.until(told, "the mirrored offset")
        lag_tool.close()

    def test_topics_are_told_by_id_and_the_missing_ones_are_named(self, server: Broker, names: dict[str, str]) -> None:
        """A topic that is not there is no failure: it may appear later."""
        picture = Cluster(settings(server), [names["ends"], names["pause"], "not-there"]).look()
        assert picture.failure is None
        assert picture.missing == {"not-there"}
        assert picture.topics.keys() == {names["ends"], names["pause"]}
        assert all(topic.partitions == (0, 1) for topic in picture.topics.values())
        assert len({topic.topic_id for topic in picture.topics.values()} - {""}) == 2

    def test_two_members_share_the_partitions_and_the_last_has_all(self, server: Broker) -> None:
        """A joining member takes some, the first is told to drop what it holds of them; leaving gives them back."""
        topic = f"shared-{uuid.uuid4().hex[:12]}"
        server.create_topic(topic, 4)
        every = {(topic, number) for number in range(4)}
        common = settings(server)
        first, second = (Reader(KafkaSource(common, [topic])) for _ in range(2))
        try:
            first.source.subscribe()
            first.start(dict.fromkeys(every, 0))
            revocations = first.source.revocations
            second.source.subscribe()

            def shared() -> bool:
                second.poll()
                return len(first.source.assigned) == len(second.source.waiting) == 2

            first.until(shared, "two partitions each")
            assert first.source.revocations > revocations
            assert first.source.assigned | second.source.waiting == every
            second.start(dict.fromkeys(second.source.waiting, 0))
        finally:
            second.source.close()
        first.until(lambda: first.source.assigned | first.source.waiting == every, "all partitions")
        assert len(first.source.waiting) == 2
        first.source.close()
