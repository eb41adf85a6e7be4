"""What Kafka has of the mapped topics, for `check`: settings, and the newest messages of each partition.

Read without joining the group and without asking where a partition ends (not every broker tells that right): from a
little before the end, as far as it is told, to the end that the fetch itself reports. Nothing is committed.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]

from daemon.cli.probes import PROBE_SECS, admin_client
from daemon.ingest.change import Message
from daemon.ingest.kafka import client_properties
from daemon.settings import Kafka

NEWEST = 20  # messages of each partition
READ_SECS = 8.0
_KEPT_BYTES = 64 * 1024 * 1024  # of all partitions together
_TAIL = -2000  # librdkafka's RD_KAFKA_OFFSET_TAIL_BASE: so many before the end
_GONE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)
_REFUSED = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED)


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: how many partitions (0: it is not there), its settings (None: they may not be read).

    `refused`: this user may not even ask whether the topic is there.
    """

    partitions: int
    settings: Mapping[str, str] | None = None
    refused: bool = False


@dataclass(slots=True)
class Newest:
    """The newest messages by topic, topics that may not be read, and those whose end was not reached in time."""

    messages: dict[str, list[Message]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)


def look(settings: Kafka, names: Iterable[str]) -> tuple[dict[str, Topic], bool]:
    """The topics of these names, and whether the group may be used. Raises ProbeFailed where no broker answers."""
    wanted = sorted(set(names))
    with admin_client(settings) as admin:
        described = admin.describe_topics(TopicCollection(wanted), request_timeout=PROBE_SECS)
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in wanted]
        configured = {
            resource.name: future
            for resource, future in admin.describe_configs(resources, request_timeout=PROBE_SECS).items()
        }
        found = {name: _topic(future, configured[name]) for name, future in described.items()}
        return found, _may_use_group(admin, settings.group_id)


def _topic(described: Future[Any], configured: Future[Any]) -> Topic:
    """Raises KafkaException where the brokers did not answer."""
    try:
        partitions = len(described.result(PROBE_SECS).partitions)
    except KafkaException as error:
        code = error.args[0].code()
        if code in (*_GONE, *_REFUSED):
            return Topic(0, refused=code in _REFUSED)
        raise
    try:
        entries = configured.result(PROBE_SECS)
    except KafkaException as error:
        if error.args[0].code() < 0:  # the client's own: no broker has answered
            raise
        return Topic(partitions)
    return Topic(partitions, {name: str(entry.value) for name, entry in entries.items()})


def _may_use_group(admin: AdminClient, group: str) -> bool:
    try:
        admin.describe_consumer_groups([group], request_timeout=PROBE_SECS)[group].result(PROBE_SECS)
    except KafkaException as error:
        return bool(error.args[0].code() != KafkaError.GROUP_AUTHORIZATION_FAILED)
    return True


def newest(settings: Kafka, topics: Mapping[str, int], count: int = NEWEST, secs: float | None = None) -> Newest:
    """The newest `count` messages of each partition of topics, by their partition counts. Takes `secs` at most.

    Of more bytes than fit, only the newest are kept.
    """
    logger = logging.Logger("librdkafka.peek")  # noqa: LOG001 - of no tree: why nothing answers was said before
    logger.addHandler(logging.NullHandler())
    consumer = Consumer(
        {
            "queued.max.messages.kbytes": 16_384,
            "fetch.wait.max.ms": 50,  # an empty partition says at once that it is
            **client_properties(settings),
            "group.id": settings.group_id,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "allow.auto.create.topics": False,
        },
        logger=logger,
    )
    partitions = [(topic, number) for topic, count in topics.items() for number in range(count)]
    kept = {at: _Kept(_KEPT_BYTES // max(len(partitions), 1), count) for at in partitions}
    result = Newest()
    try:
        with contextlib.suppress(KafkaException):  # it knows the leaders then, and need not ask again after a pause
            consumer.list_topics(timeout=PROBE_SECS)
        consumer.assign([TopicPartition(*at, _TAIL - count) for at in partitions])
        open_partitions = set(partitions)
        deadline = time.monotonic() + (READ_SECS if secs is None else secs)
        while open_partitions and time.monotonic() < deadline:
            first = consumer.poll(0.2)
            for raw in (first, *consumer.consume(500, 0)) if first is not None else ():
                _sort(raw, kept, open_partitions, result)
    finally:
        consumer.close()
    result.unread = {topic for topic, _ in open_partitions}
    for (topic, _), part in kept.items():
        result.messages.setdefault(topic, []).extend(part)
    return result


class _Kept:
    """The last few messages of one partition, within a bound of bytes but for the very last."""

    def __init__(self, limit: int, count: int) -> None:
        self._limit, self._count = limit, count
        self._size = 0
        self._messages: deque[Message] = deque()

    def add(self, message: Message) -> None:
        self._messages.append(message)
        self._size += _size(message)
        while len(self._messages) > self._count or (self._size > self._limit and len(self._messages) > 1):
            self._size -= _size(self._messages.popleft())

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages)


def _size(message: Message) -> int:
    return len(message.key or b"") + len(message.value or b"")


def _sort(
    raw: KafkaMessage, kept: Mapping[tuple[str, int], _Kept], open_partitions: set[tuple[str, int]], result: Newest
) -> None:
    topic, number, offset, error = raw.topic(), raw.partition(), raw.offset(), raw.error()
    if topic is None or number is None:
        return
    if error is None:
        kind, stamp = raw.timestamp()
        key, value, headers = raw.key(), raw.value(), raw.headers()
        kept[topic, number].add(
            Message(topic, number, offset or 0, stamp if kind else None, _bytes(key), _bytes(value), _headers(headers))
        )
    elif error.code() == KafkaError._PARTITION_EOF or error.code() in _GONE:
        open_partitions.discard((topic, number))
    elif error.code() in _REFUSED:
        result.refused.add(topic)
        open_partitions.difference_update([at for at in open_partitions if at[0] == topic])


def _bytes(content: str | bytes | None) -> bytes | None:
    return content.encode() if isinstance(content, str) else content


def _headers(headers: Any) -> list[tuple[str, bytes | None]] | None:
    return None if headers is None else [(name, _bytes(content)) for name, content in headers]
