"""The consumer: hands out messages of partitions whose position the state has told, and nothing else.

Positions come from Postgres, never from the group: a rebalance only notes which partitions came, and the loop assigns
them once it has read where they stand. The group's offsets are a mirror for lag tools. Partition ends are taken from
EOF events, which also step over offsets that carry no message.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient

from daemon.errors import BrokerUnavailable
from daemon.ingest.change import Message
from daemon.settings import Kafka, Secret

log = structlog.get_logger()

Headers: TypeAlias = "list[tuple[str, bytes | None]] | None"

Partition: TypeAlias = "tuple[str, int]"
"""(topic, partition)"""


def client_properties(settings: Kafka) -> dict[str, Any]:
    """librdkafka properties common to consumer and admin client, secrets read now."""
    properties: dict[str, Any] = {"bootstrap.servers": settings.bootstrap_servers, **settings.properties}
    for name, variable in settings.secret_properties.items():
        properties[name] = Secret(variable).read()
    return properties


def consumer_properties(settings: Kafka) -> dict[str, Any]:
    """Properties of the consumer. What stands first may be overridden by the settings, what stands last may not."""
    return {
        # Twice the largest batch is fetched ahead at most; the rest waits in Kafka.
        "queued.max.messages.kbytes": max(2 * settings.batch_max_bytes // 1024, 1024),
        "fetch.message.max.bytes": min(settings.batch_max_bytes, 8_000_000),
        "fetch.max.bytes": max(settings.batch_max_bytes, 8_000_000),
        "topic.metadata.refresh.interval.ms": int(settings.topic_refresh_secs * 1000),
        "session.timeout.ms": 45_000,
        "max.poll.interval.ms": 300_000,
        **client_properties(settings),
        "partition.assignment.strategy": "cooperative-sticky",
        "group.id": settings.group_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "allow.auto.create.topics": False,
    }


@dataclass(slots=True)
class Poll:
    """What one poll brought: messages in order per partition, and ends reached ((topic, partition) -> end offset)."""

    messages: list[Message] = field(default_factory=list)
    ends: dict[Partition, int] = field(default_factory=dict)
    gaps: dict[Partition, str] = field(default_factory=dict)
    size: int = 0


class KafkaSource:
    """One consumer of the mapped topics. Used by one thread; every call keeps the group membership alive."""

    def __init__(self, settings: Kafka, topics: Iterable[str]) -> None:
        self._settings = settings
        self._topics = sorted(topics)
        properties = consumer_properties(settings)
        self._consumer = Consumer(properties, logger=_librdkafka_log())
        self._admin = AdminClient(client_properties(settings), logger=_librdkafka_log())
        self._new: set[Partition] = set()
        self._assigned: set[Partition] = set()
        self._complaints: dict[str, int] = {}
        self.joined = False
        """Whether the group has given this member its first assignment (an empty one counts)."""
        self.revocations = 0
        """How often partitions were taken away: whatever a batch holds of them must be dropped."""

    def subscribe(self) -> None:
        """Join the group."""
        self._consumer.subscribe(
            self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    @property
    def waiting(self) -> set[Partition]:
        """Partitions that came and have no position yet."""
        return set(self._new)

    @property
    def assigned(self) -> set[Partition]:
        """Partitions that are being consumed."""
        return set(self._assigned)

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """The id of each topic's present incarnation, "" where the broker does not tell; topics that are not there
        are left out. Raises BrokerUnavailable.
        """
        found: dict[str, str] = {}
        for topic, future in self._admin.describe_topics(
            TopicCollection(sorted(set(topics))), request_timeout=10
        ).items():
            try:
                found[topic] = _topic_id(future.result())
            except KafkaException as error:
                code = error.args[0].code()
                if code in (KafkaError._UNSUPPORTED_FEATURE, KafkaError.UNSUPPORTED_VERSION):
                    found[topic] = ""
                elif code not in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
                    raise BrokerUnavailable(
                        f"Kafka: topic {topic} cannot be described: {error.args[0].str()}"
                    ) from error
        return found

    def start(self, offsets: Mapping[Partition, int]) -> None:
        """Consume these partitions from these offsets; -1 means from the beginning of what Kafka still has."""
        known = {partition: offset for partition, offset in offsets.items() if partition in self._new | self._assigned}
        again = [TopicPartition(*partition) for partition in known if partition in self._assigned]
        if again:
            self._consumer.incremental_unassign(again)
        self._consumer.incremental_assign(
            [
                TopicPartition(topic, number, OFFSET_BEGINNING if offset < 0 else offset)
                for (topic, number), offset in known.items()
            ]
        )
        self._new -= known.keys()
        self._assigned |= known.keys()

    def restart(self) -> None:
        """Forget every position: all partitions wait for `start` again, and what was fetched of them is dropped."""
        if self._assigned:
            self._consumer.incremental_unassign([TopicPartition(*partition) for partition in self._assigned])
        self._new |= self._assigned
        self._assigned.clear()

    def poll(self, timeout_secs: float) -> Poll:
        """Up to one chunk of messages, waiting at most that long for the first and not at all for the others."""
        result = Poll()
        first = self._consumer.poll(timeout_secs)
        if first is not None:
            chunk = min(self._settings.batch_max_messages, 1000)
            for raw in (first, *self._consumer.consume(chunk, 0)):
                self._sort(raw, result)
        return result

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Fetch nothing more of these partitions until `resume`; polling goes on."""
        chosen = [TopicPartition(*partition) for partition in partitions if partition in self._assigned]
        if chosen:
            self._consumer.pause(chosen)

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Undo `pause`."""
        chosen = [TopicPartition(*partition) for partition in partitions if partition in self._assigned]
        if chosen:
            self._consumer.resume(chosen)

    def high_watermark(self, partition: Partition) -> int | None:
        """The end of a partition as the last fetch told it, without asking the broker."""
        with contextlib.suppress(KafkaException):
            _, high = self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
            return high if high >= 0 else None
        return None

    def mirror(self, offsets: Mapping[Partition, int]) -> None:
        """Tell the group where we stand, for lag tools only; failures are of no consequence."""
        mine = [
            TopicPartition(*partition, offset) for partition, offset in offsets.items() if partition in self._assigned
        ]
        if mine:
            with contextlib.suppress(KafkaException):
                self._consumer.commit(offsets=mine, asynchronous=True)

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign([])
        self._new |= {(p.topic, p.partition) for p in partitions}
        self.joined = True
        if partitions:
            log.info("partitions assigned", count=len(partitions))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gone = {(p.topic, p.partition) for p in partitions}
        consumer.incremental_unassign([TopicPartition(*partition) for partition in gone & self._assigned])
        self._new -= gone
        self._assigned -= gone
        self.revocations += 1
        log.info("partitions revoked", count=len(partitions))

    def _sort(self, raw: KafkaMessage, result: Poll) -> None:
        topic, number, offset = raw.topic(), raw.partition(), raw.offset()
        error = raw.error()
        if error is not None:
            self._sort_error(error, topic, number, offset, result)
            return
        if topic is None or number is None or offset is None or (topic, number) not in self._assigned:
            return
        kind, stamp = raw.timestamp()
        key, value = raw.key(), raw.value()
        message = Message(
            topic, number, offset, stamp if kind else None, _bytes(key), _bytes(value), cast("Headers", raw.headers())
        )
        result.messages.append(message)
        result.size += len(message.key or b"") + len(message.value or b"")

    def _sort_error(
        self, error: KafkaError, topic: str | None, number: int | None, offset: int | None, result: Poll
    ) -> None:
        code = error.code()
        if topic is not None and number is not None and (topic, number) in self._assigned:
            if code == KafkaError._PARTITION_EOF:
                result.ends[topic, number] = offset or 0
                return
            if code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                result.gaps[topic, number] = error.str()
                return
        if code == KafkaError._PARTITION_EOF:
            return
        complaint = f"{topic or ''} {error.name()}"
        seen = self._complaints[complaint] = self._complaints.get(complaint, 0) + 1
        # librdkafka repeats itself at every retry: say it at 1, 10, 100 …
        if str(seen).strip("0") == "1":
            log.warning("kafka reports an error", topic=topic, error=error.name(), text=error.str(), times=seen)


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value) if not isinstance(value, str) else value.encode()


def _topic_id(description: Any) -> str:
    identity = getattr(description, "topic_id", None)
    text = "" if identity is None else str(identity)
    # Brokers before 2.8 have no topic ids and answer with zeros.
    return "" if text.strip("A") in ("", "=") else text


def _librdkafka_log() -> logging.Logger:
    return logging.getLogger("librdkafka")
