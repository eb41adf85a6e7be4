"""What the brokers say of topics, asked without waiting: ids, settings, where each partition begins and ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import structlog
from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its stub forgets them
    AdminClient,
    ConfigResource,
    OffsetSpec,
    ResourceType,
)

from daemon.errors import SettingsError
from daemon.ingest.gaps import Log
from daemon.ingest.kafka import IDENTITY, Partition, client_properties, librdkafka_log, renew_password
from daemon.settings import Kafka
from daemon.state.era import Mirrored

log = structlog.get_logger()

ANSWER_SECS = 5.0  # brokers that have not answered by then are away

# The group's coordinator changes, or begins.
_MOVING = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)

_GONE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)


@dataclass(frozen=True, slots=True)
class Topic:
    """One incarnation of a topic. `topic_id` is "" where the broker does not tell it.

    `keeps_deletes_ms`: delete.retention.ms of a compacted topic; None where it is not compacted. `expires`: old
    messages are deleted, whether it is compacted or not.
    """

    topic_id: str
    partitions: tuple[int, ...]
    keeps_deletes_ms: int | None = None
    expires: bool = True


@dataclass(slots=True)
class Picture:
    """One look. Topics that are `missing` or `refused` (with the broker's words) are not among `topics`; partitions
    without a leader are not in `starts` and `ends`. `unreadable`: topics whose settings we may not read.

    `mirrored`: where the consumer group says that partitions stand, as far as it does; None where its coordinator could
    not be asked now. With a `failure` (the client's words; `identity`: about credentials or certificates) nothing else
    counts.
    """

    topics: dict[str, Topic] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)
    starts: dict[Partition, int] = field(default_factory=dict)
    ends: dict[Partition, int] = field(default_factory=dict)
    mirrored: dict[Partition, Mirrored] | None = field(default_factory=dict)
    failure: str | None = None
    identity: bool = False

    def log(self, partition: Partition) -> Log | None:
        """What is known of a partition's log, None where that is not enough to read on."""
        start, end = self.starts.get(partition), self.ends.get(partition)
        if start is None or end is None:
            return None
        return Log(start, end, self.topics[partition[0]].keeps_deletes_ms)


class Cluster:
    """Looks at some topics of the brokers: `ask`, then `answer` until there is one. Used by one thread."""

    def __init__(self, settings: Kafka, topics: Iterable[str], *, group: bool = False) -> None:
        """`group`: look also where the consumer group stands.

        Raises SettingsError where a secret is missing; KafkaException where librdkafka refuses the properties.
        """
        self._settings = settings
        self._topics = sorted(set(topics))
        self._group = group
        self._admin = self._client()
        self._stuck = False
        self._open: Generator[None, None, Picture] | None = None
        self._complaint: KafkaError | None = None
        self._silenced = False

    @property
    def asked(self) -> bool:
        """Whether a look is under way."""
        return self._open is not None

    def ask(self) -> None:
        """Begin a look, if none is under way. Returns at once."""
        if self._open is None:
            if self._stuck:
                with contextlib.suppress(SettingsError):  # the file is being replaced: with the old client once more
                    self._admin, self._stuck = self._client(), False
            self._open = self._look()

    def answer(self) -> Picture | None:
        """The picture, once; None while it is not there yet or was not asked for. Returns at once."""
        self._admin.poll(0)  # hands out errors and log lines
        if self._open is None:
            return None
        try:
            next(self._open)
        except StopIteration as end:
            self._open, self._complaint = None, None
            picture: Picture = end.value
            return picture
        return None

    def renew_password(self) -> None:
        """Log in with the secret as it is now. Raises SettingsError where there is none."""
        renew_password(self._settings, self._admin)

    def look(self) -> Picture:
        """A picture, waited for: for commands. Takes twice `ANSWER_SECS` at most."""
        self.ask()
        while (picture := self.answer()) is None:
            time.sleep(0.01)
        return picture

    def _client(self) -> AdminClient:
        properties = {**client_properties(self._settings), "error_cb": self._complain}
        return AdminClient(properties, logger=librdkafka_log())

    def _complain(self, error: KafkaError) -> None:
        if self._complaint is None or error.code() in IDENTITY:
            self._complaint = error

    def _look(self) -> Generator[None, None, Picture]:
        picture = Picture()
        if not self._topics:
            return picture
        described = self._admin.describe_topics(TopicCollection(self._topics), request_timeout=ANSWER_SECS)
        resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in self._topics]
        configured = self._admin.describe_configs(resources, request_timeout=ANSWER_SECS)
        while not _all_done(described, configured):
            yield
        settings = {resource.name: future for resource, future in configured.items()}
        try:
            for topic, future in described.items():
                self._note_topic(picture, topic, future, settings[topic])
        except KafkaException as error:
            return self._failed(error)
        latest, earliest = OffsetSpec.latest(), OffsetSpec.earliest()  # type: ignore[no-untyped-call]
        wanted = [TopicPartition(name, number) for name, topic in picture.topics.items() for number in topic.partitions]
        if not wanted:
            return picture
        ends = self._admin.list_offsets(
            dict.fromkeys(wanted, latest),
            isolation_level=IsolationLevel.READ_COMMITTED,  # as the consumer reads: an open transaction is no lag
            request_timeout=ANSWER_SECS,
        )
        starts = self._admin.list_offsets(dict.fromkeys(wanted, earliest), request_timeout=ANSWER_SECS)
        group = self._asked_group(wanted)
        while not _all_done(ends, starts, group):
            yield
        picture.ends, picture.starts = _offsets(ends), _offsets(starts)
        picture.mirrored = self._mirrored(group)
        return picture

    def _asked_group(self, wanted: list[TopicPartition]) -> dict[str, Future[Any]]:
        if not self._group:
            return {}
        asked = ConsumerGroupTopicPartitions(self._settings.group_id, wanted)
        return self._admin.list_consumer_group_offsets([asked], request_timeout=ANSWER_SECS)

    def _mirrored(self, group: Mapping[str, Future[Any]]) -> dict[Partition, Mirrored] | None:
        """None where the group cannot be asked just now; nothing where it never can."""
        found: dict[Partition, Mirrored] = {}
        for future in group.values():
            try:
                partitions = future.result().topic_partitions
            except KafkaException as error:
                told: KafkaError = error.args[0]
                if told.retriable() or told.code() < 0 or told.code() in _MOVING:
                    # A client whose brokers were away may never find the group's coordinator again.
                    self._stuck = True
                    return None
                if not self._silenced:
                    self._silenced = True
                    log.warning("the group's positions cannot be read", error=told.str())
                return {}
            found |= {(at.topic, at.partition): Mirrored(at.offset, at.metadata) for at in partitions if at.offset >= 0}
        return found

    def _note_topic(self, picture: Picture, topic: str, described: Future[Any], configured: Future[Any]) -> None:
        """Raises KafkaException where the brokers could not be asked."""
        try:
            description = described.result()
        except KafkaException as error:
            code = error.args[0].code()
            if code in _GONE:
                picture.missing.add(topic)
            elif code < 0:  # the client's own: no broker has answered
                raise
            else:
                picture.refused[topic] = error.args[0].str()
            return
        keeps_deletes_ms, expires = None, True
        try:
            settings = {name: entry.value for name, entry in configured.result().items()}
        except KafkaException as error:
            if error.args[0].code() < 0:
                raise
            picture.unreadable.add(topic)
        else:
            if "compact" in settings.get("cleanup.policy", ""):
                keeps_deletes_ms = int(settings["delete.retention.ms"])
                expires = "delete" in settings["cleanup.policy"]
        numbers = tuple(sorted(partition.id for partition in description.partitions))
        picture.topics[topic] = Topic(_topic_id(description), numbers, keeps_deletes_ms, expires)

    def _failed(self, error: KafkaException) -> Picture:
        told: KafkaError = self._complaint or error.args[0]
        return Picture(failure=told.str(), identity=told.code() in IDENTITY)


def _all_done(*answers: Mapping[Any, Future[Any]]) -> bool:
    return all(future.done() for futures in answers for future in futures.values())


def _offsets(answers: Mapping[TopicPartition, Future[Any]]) -> dict[Partition, int]:
    return {
        (at.topic, at.partition): future.result().offset for at, future in answers.items() if future.exception() is None
    }


def _topic_id(description: Any) -> str:
    identity = getattr(description, "topic_id", None)
    text = "" if identity is None else str(identity)
    # Brokers before 2.8 have no topic ids and answer with zeros.
    return "" if text.strip("A") in ("", "=") else text
