"""The consumer: hands out messages of partitions whose position the state has told, and nothing else.

Positions come from Postgres, never from the group: a rebalance only notes which partitions came, and the loop assigns
them once it has read where they stand. The group's offsets are a mirror for lag tools. Partition ends are taken from
EOF events, which also step over offsets that carry no message.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient

from daemon.errors import KafkaFatal
from daemon.ingest.change import Message
from daemon.operate.logs import kafka_logger
from daemon.settings import Kafka, Secret

log = structlog.get_logger()

Headers: TypeAlias = "list[tuple[str, bytes | None]] | None"

Partition: TypeAlias = "tuple[str, int]"
"""(topic, partition)"""

FETCH_BYTES = 512 * 1024
REPEAT_SECS = 30.0

_NO_SUCH_OFFSET = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION)
IDENTITY = (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL)
"""Errors that say who we are is not accepted, or who they are."""


def client_properties(settings: Kafka) -> dict[str, Any]:
    """librdkafka properties common to consumer and admin client, secrets read now."""
    properties: dict[str, Any] = {"bootstrap.servers": settings.bootstrap_servers, **settings.properties}
    for name, variable in settings.secret_properties.items():
        properties[name] = Secret(variable).read()
    return properties


def renew_password(settings: Kafka, client: Consumer | AdminClient) -> None:
    """Let a client log in with user and password as they are now: a secret may have been mended or rotated."""
    properties = client_properties(settings)
    user, password = (properties.get(f"sasl.{name}") for name in ("username", "password"))
    if user is not None and password is not None:
        client.set_sasl_credentials(user, password)


def consumer_properties(settings: Kafka) -> dict[str, Any]:
    """Properties of the consumer. What stands first may be overridden by the settings, what stands last may not."""
    return {
        # One batch is fetched ahead, the rest waits in Kafka. What is on its way comes on top, from each broker and
        # before it is decompressed, often to ten times its size: small fetches bound that. A single message or producer
        # batch that is larger comes whole all the same.
        "queued.max.messages.kbytes": min(max(settings.batch_max_bytes // 1024, 1024), 2_097_151),
        "queued.min.messages": 20_000,
        "fetch.queue.backoff.ms": 20,  # how soon a queue that was full is looked at again
        "fetch.max.bytes": FETCH_BYTES,
        "fetch.message.max.bytes": FETCH_BYTES // 2,
        "message.max.bytes": FETCH_BYTES,  # of producers; librdkafka wants it no larger than a fetch
        "topic.metadata.refresh.interval.ms": min(int(settings.topic_refresh_secs * 1000), 3_600_000),
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
    """What one poll brought: messages in order per partition, ends reached ((topic, partition) -> end offset),
    positions that Kafka does not have, and topics ("": the group) whose reading it forbids, with its words.

    `lost`: something is wrong with the connections, it is time to look; `refused`: by what we say or they say we are.
    """

    messages: list[Message] = field(default_factory=list)
    ends: dict[Partition, int] = field(default_factory=dict)
    gaps: set[Partition] = field(default_factory=set)
    forbidden: dict[str, str] = field(default_factory=dict)
    lost: bool = False
    refused: bool = False
    size: int = 0


class KafkaSource:
    """One consumer of the mapped topics. Used by one thread; every call keeps the group membership alive."""

    def __init__(self, settings: Kafka, topics: Iterable[str]) -> None:
        self._settings = settings
        self._topics = sorted(topics)
        callbacks = {"error_cb": self._on_error, "on_commit": self._on_commit}
        self._consumer = Consumer({**consumer_properties(settings), **callbacks}, logger=librdkafka_log())
        self._new: set[Partition] = set()
        self._assigned: set[Partition] = set()
        self._complaints: dict[str, int] = {}
        self._lost = self._refused = False
        self.assignments = 0
        """How often the group has given this member partitions (none at all counts)."""
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
        # A pause outlives unassignment: a partition that went while it was paused would never be fetched again.
        self._consumer.resume([TopicPartition(*partition) for partition in known])
        self._new -= known.keys()
        self._assigned |= known.keys()

    def restart(self, topic: str | None = None) -> None:
        """Forget positions, of one topic or all: partitions wait for `start`, what was fetched of them is dropped."""
        chosen = {partition for partition in self._assigned if topic in (None, partition[0])}
        if chosen:
            self._consumer.incremental_unassign([TopicPartition(*partition) for partition in chosen])
        self._new |= chosen
        self._assigned -= chosen

    def poll(self, timeout_secs: float) -> Poll:
        """Up to one chunk of messages, waiting at most that long for the first and not at all for the others."""
        result = Poll()
        first = self._consumer.poll(timeout_secs)
        result.lost, result.refused = self._lost, self._refused
        self._lost = self._refused = False
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

    def mirror(self, offsets: Mapping[Partition, int], by: Mapping[Partition, str]) -> None:
        """Tell the group where we stand, and `by` whom: for lag tools, and for us should the state ever go back.

        One that fails is made good by the next.
        """
        mine = [
            TopicPartition(*partition, offset, by[partition])
            for partition, offset in offsets.items()
            if partition in self._assigned and offset >= 0
        ]
        if mine:
            with contextlib.suppress(KafkaException):
                self._consumer.commit(offsets=mine, asynchronous=True)

    def renew_password(self) -> None:
        """Log in with the secret as it is now. Raises SettingsError where there is none."""
        renew_password(self._settings, self._consumer)

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign([])
        self._new |= {(p.topic, p.partition) for p in partitions}
        self.assignments += 1
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
        key, value = _bytes(raw.key()), _bytes(raw.value())
        headers = cast("Headers", raw.headers())
        message = Message(topic, number, offset, stamp if kind else None, key, value, headers)
        result.messages.append(message)
        result.size += message_size(message)

    def _sort_error(
        self, error: KafkaError, topic: str | None, number: int | None, offset: int | None, result: Poll
    ) -> None:
        code = error.code()
        if error.fatal():
            raise KafkaFatal(f"Kafka: {error.str()}; this consumer cannot go on, start the process again")
        if code == KafkaError._PARTITION_EOF:
            if topic is not None and number is not None and (topic, number) in self._assigned:
                result.ends[topic, number] = offset or 0
        elif code in _NO_SUCH_OFFSET and topic is not None and number is not None:
            if (topic, number) in self._assigned:
                result.gaps.add((topic, number))
        elif code == KafkaError.TOPIC_AUTHORIZATION_FAILED and topic is not None:
            result.forbidden[topic] = error.str()
        elif code == KafkaError.GROUP_AUTHORIZATION_FAILED:
            result.forbidden[""] = error.str()
        else:
            self._complain(error, topic)

    def _on_error(self, error: KafkaError) -> None:
        """What is wrong with no partition in particular. Raises KafkaFatal."""
        if error.fatal() or error.code() == KafkaError._FATAL:
            raise KafkaFatal(f"Kafka: {error.str()}; this consumer cannot go on, start the process again")
        self._refused = self._refused or error.code() in IDENTITY
        self._lost = self._lost or self._refused or error.code() == KafkaError._ALL_BROKERS_DOWN
        self._complain(error, None)

    def _on_commit(self, error: KafkaError | None, _: list[TopicPartition]) -> None:
        if error is not None:
            self._complain(error, None)

    def _complain(self, error: KafkaError, topic: str | None) -> None:
        complaint = f"{topic or ''} {error.name()}"
        seen = self._complaints[complaint] = self._complaints.get(complaint, 0) + 1
        # librdkafka repeats itself at every retry: say it at 1, 10, 100 …
        if str(seen).strip("0") == "1":
            log.warning("kafka reports an error", topic=topic, error=error.name(), text=error.str(), times=seen)


def message_size(message: Message) -> int:
    """Bytes of a message as they count against a batch."""
    size = len(message.key or b"") + len(message.value or b"")
    if message.headers:
        for name, value in message.headers:
            size += len(name) + len(value or b"")
    return size


def _bytes(value: Any) -> bytes | None:
    if value is None or type(value) is bytes:  # nearly always
        return value
    return value.encode() if isinstance(value, str) else bytes(value)


class _Repeats(logging.Filter):
    """Lets a line pass once in `REPEAT_SECS`: librdkafka writes one at each of twenty attempts a second.

    And none about a property that is for the other kind of client: both are given all of kafka.properties.
    """

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is a new one."""
        line, now = record.getMessage().partition(" (after ")[0], time.monotonic()
        if "will be ignored by this" in line or now - self._passed.get(line, -REPEAT_SECS) < REPEAT_SECS:
            return False
        self._passed = {seen: at for seen, at in self._passed.items() if now - at < REPEAT_SECS}
        self._passed[line] = now
        return True


def librdkafka_log() -> logging.Logger:
    """The logger for a client of librdkafka. Lines come out as the client is polled."""
    logger = kafka_logger()
    if not any(isinstance(known, _Repeats) for known in logger.filters):
        logger.addFilter(_Repeats())
    return logger
