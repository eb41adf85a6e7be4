"""The consumer's suite on Apache Kafka, and what only Apache Kafka does."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer, TopicPartition
from fixtures.kafka_server import KafkaNode
from kafka_source_suite import QUIET, TIMEOUT, Broker, KafkaSourceSuite, Reader, numbered, produce, settings

from daemon.ingest.cluster import Cluster
from daemon.ingest.gaps import Log
from daemon.ingest.kafka import KafkaSource
from daemon.settings import Kafka


@contextmanager
def reading(kafka: KafkaNode, topic: str) -> Iterator[Reader]:
    """A consumer of its own group over one topic."""
    reader = Reader(KafkaSource(settings(kafka), [topic]))
    reader.source.subscribe()
    yield reader
    reader.source.close()


def remove(kafka: KafkaNode, topic: str, number: int, before: int) -> None:
    """As retention does, but at once: the partition begins at offset `before` from now on."""
    kafka.admin.delete_records([TopicPartition(topic, number, before)])[TopicPartition(topic, number)].result(TIMEOUT)


@pytest.mark.apache_kafka
class TestApacheKafkaSource(KafkaSourceSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, kafka: KafkaNode) -> Broker:
        return kafka

    def test_a_position_below_what_is_kept_is_a_gap(self, kafka: KafkaNode, kafka_topics: Callable[..., str]) -> None:
        """Records below the position were removed: a gap, where the position is below the log's start alone."""
        topic = kafka_topics("kept", partitions=2)
        for number in range(2):
            produce(kafka, topic, numbered(10), number)
            remove(kafka, topic, number, 6)
        with reading(kafka, topic) as reader:
            reader.start({(topic, 0): 5, (topic, 1): 6})
            reader.until(lambda: (topic, 0) in reader.gaps and (topic, 1) in reader.ends, "gap and end")
            assert reader.offsets((topic, 0)) == []
            assert reader.offsets((topic, 1)) == [6, 7, 8, 9]

    def test_a_position_above_the_end_is_a_gap_and_holds_up_no_other(
        self, kafka: KafkaNode, kafka_topics: Callable[..., str]
    ) -> None:
        """No jump to anywhere: the partition tells a gap and hands out nothing, its neighbour goes on."""
        topic = kafka_topics("above", partitions=2)
        for number in range(2):
            produce(kafka, topic, numbered(5), number)
        with reading(kafka, topic) as reader:
            reader.start({(topic, 0): 500, (topic, 1): 0})
            reader.until(lambda: (topic, 0) in reader.gaps and (topic, 1) in reader.ends, "gap and end")
            assert reader.offsets((topic, 0)) == []
            assert reader.offsets((topic, 1)) == list(range(5))

    def test_aborted_and_control_records_are_stepped_over(
        self, kafka: KafkaNode, kafka_topics: Callable[..., str]
    ) -> None:
        """Only committed messages are handed out, and the end stands past the markers behind them."""
        topic = kafka_topics("transactions", partitions=1)
        producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": uuid.uuid4().hex}, logger=QUIET)
        producer.init_transactions(TIMEOUT)
        for n, end in enumerate((producer.commit_transaction, producer.abort_transaction, producer.commit_transaction)):
            producer.begin_transaction()
            producer.produce(topic, b"%d" % n, partition=0)
            assert producer.flush(TIMEOUT) == 0
            end(TIMEOUT)
        with reading(kafka, topic) as reader:
            reader.start({(topic, 0): -1})
            reader.until(lambda: (topic, 0) in reader.ends, "the end")
            assert [(m.offset, m.value) for m in reader.messages[topic, 0]] == [(0, b"0"), (4, b"2")]
            assert reader.ends[topic, 0] == 6 == reader.source.high_watermark((topic, 0))

    def test_partitions_added_later_come_and_wait(self, kafka: KafkaNode, kafka_topics: Callable[..., str]) -> None:
        """They are assigned by themselves, without a position yet."""
        from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

        topic = kafka_topics("wider", partitions=1)
        with reading(kafka, topic) as reader:
            reader.start({(topic, 0): -1})
            kafka.admin.create_partitions([NewPartitions(topic, 3)])[topic].result(TIMEOUT)
            reader.until(lambda: reader.source.waiting == {(topic, 1), (topic, 2)}, "the new partitions")

    def test_a_topic_made_anew_has_another_id(self, kafka: KafkaNode, kafka_topics: Callable[..., str]) -> None:
        """The name alone does not tell that all its offsets mean something else now."""
        topic = kafka_topics("anew", partitions=1)
        cluster = Cluster(settings(kafka), [topic])
        before = cluster.look().topics[topic].topic_id
        kafka.delete_topic(topic)
        assert cluster.look().missing == {topic}
        kafka.create_topic(topic, 1)
        assert cluster.look().topics[topic].topic_id not in (before, "")

    def test_the_look_tells_what_is_kept_and_for_how_long(
        self, kafka: KafkaNode, kafka_topics: Callable[..., str]
    ) -> None:
        """Where logs begin and end, and how long a compacted topic keeps its deletes; others tell no such time."""
        plain = kafka_topics("plain", partitions=2)
        compacted = kafka_topics("compacted", 1, {"cleanup.policy": "compact", "delete.retention.ms": "1234"})
        produce(kafka, plain, numbered(10), 1)
        remove(kafka, plain, 1, 4)
        picture = Cluster(settings(kafka), [plain, compacted]).look()
        assert picture.log((plain, 0)) == Log(0, 0)
        assert picture.log((plain, 1)) == Log(4, 10)
        assert picture.log((compacted, 0)) == Log(0, 0, keeps_deletes_ms=1234)

    def test_an_open_transaction_is_no_lag(self, kafka: KafkaNode, kafka_topics: Callable[..., str]) -> None:
        """The end that is told is the one that can be read: it moves when the transaction ends."""
        topic = kafka_topics("open", partitions=1)
        producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": uuid.uuid4().hex}, logger=QUIET)
        producer.init_transactions(TIMEOUT)
        producer.begin_transaction()
        producer.produce(topic, b"open", partition=0)
        assert producer.flush(TIMEOUT) == 0
        cluster = Cluster(settings(kafka), [topic])
        with reading(kafka, topic) as reader:
            reader.start({(topic, 0): -1})
            reader.until(lambda: (topic, 0) in reader.ends, "the end")
            assert (reader.ends[topic, 0], cluster.look().ends[topic, 0]) == (0, 0)
            producer.commit_transaction(TIMEOUT)
            reader.until(lambda: reader.ends[topic, 0] == 2, "the end behind the marker")
            assert (reader.offsets((topic, 0)), cluster.look().ends[topic, 0]) == ([0], 2)

    def test_a_broker_that_is_not_there_is_told_within_seconds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A look does not raise: it carries the client's words."""
        monkeypatch.setattr("daemon.ingest.cluster.ANSWER_SECS", 0.5)
        picture = Cluster(Kafka(bootstrap_servers="127.0.0.1:1"), ["any"]).look()
        assert picture.failure
        assert not picture.identity
