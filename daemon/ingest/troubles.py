"""What Kafka keeps from us for now: states that pass once somebody mends them, each said once and shown as a metric."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

import structlog

from daemon.ingest.cluster import Picture
from daemon.mapping.structure import Source
from daemon.operate.metrics import Metrics

log = structlog.get_logger()


class Kind(StrEnum):
    """Which state. The metric's closed label set."""

    UNREACHABLE = "unreachable"
    IDENTITY = "identity"
    GROUP = "group"  # we may not join it
    DESCRIBE = "describe"  # we may not even ask of a topic
    READ = "read"


_CURES = {
    Kind.UNREACHABLE: "see that the brokers run, mend kafka.bootstrap_servers or the network policy",
    Kind.IDENTITY: "mend kafka.properties (security.protocol, sasl.*, ssl.*) and restart, or the secret of "
    "sasl.password, which is read again",
    Kind.GROUP: "grant this principal Read on the group of kafka.group_id",
    Kind.DESCRIBE: "grant this principal Read, Describe and DescribeConfigs on the topic",
    Kind.READ: "grant this principal Read, Describe and DescribeConfigs on the topic",
}


class Troubles:
    """The states that last. They end by themselves as soon as Kafka shows that they are over."""

    def __init__(self, sources: Mapping[str, Source], metrics: Metrics) -> None:
        """`sources` by topic."""
        self._sources = sources
        self._metrics = metrics
        self._known: dict[tuple[Kind, str], str] = {}
        self._missing: set[str] = set()
        self._unreadable: set[str] = set()
        for kind in Kind:
            metrics.kafka_trouble.labels(kind=kind).set(0)

    def __bool__(self) -> bool:
        return bool(self._known)

    @property
    def unreadable(self) -> set[str]:
        """Topics that we may not read."""
        return {what for kind, what in self._known if kind is Kind.READ}

    @property
    def reasons(self) -> list[str]:
        """Why ingest is not ready: Kafka's words with the cure, and missing topics that the mapping requires."""
        required = sorted(topic for topic in self._missing if self._sources[topic].required)
        return [
            *(f"{_place(kind, what)}: {text}; {_CURES[kind]}" for (kind, what), text in sorted(self._known.items())),
            *(f"topic {topic} is not there and source {self._sources[topic].name} requires it" for topic in required),
        ]

    def note(self, picture: Picture, mine: set[str]) -> None:
        """What a look has shown; `mine` are the topics of which this member has partitions."""
        if picture.failure is not None:
            self.begin(Kind.IDENTITY if picture.identity else Kind.UNREACHABLE, "", picture.failure)
            return
        self.end(Kind.UNREACHABLE)
        self.end(Kind.IDENTITY)
        for topic in picture.topics:
            self.end(Kind.DESCRIBE, topic)
            if topic not in mine:  # what could show that it can be read comes to another member, if at all
                self.end(Kind.READ, topic)
        for topic, text in picture.refused.items():
            self.begin(Kind.DESCRIBE, topic, text)
        self._note_missing(picture)
        for topic in sorted(picture.unreadable - self._unreadable):
            log.warning(
                "topic settings cannot be read: a compacted topic that is read too late would not be noticed; grant "
                "this principal DescribeConfigs on the topic",
                topic=topic,
            )
        self._unreadable = set(picture.unreadable)

    def begin(self, kind: Kind, what: str, text: str) -> None:
        """A state that lasts until `end`; `what` is the topic it is about, if any."""
        new = (kind, what) not in self._known
        self._known[kind, what] = text
        if new:
            log.error("kafka trouble", kind=str(kind), topic=what or None, text=text, cure=_CURES[kind])
            self._tell()

    def end(self, kind: Kind, what: str = "") -> None:
        """That state is over, if it was one."""
        if self._known.pop((kind, what), None) is not None:
            log.info("kafka trouble is over", kind=str(kind), topic=what or None)
            self._tell()

    def _note_missing(self, picture: Picture) -> None:
        for topic in sorted(picture.missing - self._missing):
            source = self._sources[topic]
            say = log.error if source.required else log.warning
            say("topic is missing; it is read from its beginning once it is there", topic=topic, source=source.name)
        for topic in sorted(self._missing & picture.topics.keys()):
            log.info("topic is there now", topic=topic, source=self._sources[topic].name)
        self._missing = (self._missing | picture.missing) - picture.topics.keys()
        for topic in self._sources:
            self._metrics.topic_missing.labels(topic=topic).set(topic in self._missing)

    def _tell(self) -> None:
        counts = Counter(kind for kind, _ in self._known)
        for kind in Kind:
            self._metrics.kafka_trouble.labels(kind=kind).set(counts[kind])


def _place(kind: Kind, what: str) -> str:
    return f"topic {what}" if what else "consumer group" if kind is Kind.GROUP else "Kafka"
