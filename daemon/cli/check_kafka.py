"""The part of `check` that asks Kafka: rights, topics and their settings, and the traps in their newest messages."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from daemon.cli import peek, probes
from daemon.cli.connector import kafka_user
from daemon.cli.finding import Finding, Level, doubtful, ok, said, wrong
from daemon.contract.kafka import HEARTBEAT_TOPIC, acl_command
from daemon.contract.tables import captures
from daemon.errors import BrokerUnavailable, SettingsError
from daemon.ingest.debezium import Decoder
from daemon.ingest.schema_registry import avro_reader
from daemon.ingest.traps.messages import message_traps
from daemon.ingest.traps.sample import Sample, take
from daemon.ingest.traps.topics import heartbeat_traps, is_compacted, prefixes, setting_traps, sister_traps
from daemon.ingest.traps.trap import Trap
from daemon.ingest.traps.values import tells_exact_decimals
from daemon.mapping.model import Mapping, check_columns
from daemon.mapping.structure import Source
from daemon.settings import Kafka, Secret, Settings

_LARGEST_ANSWER = 100_000_000  # receive.message.max.bytes, unless the settings say otherwise
_TOPIC_RIGHTS = ("Read", "Describe", "DescribeConfigs")


def kafka_findings(settings: Settings, mapping: Mapping | None) -> Iterator[Finding]:
    """What there is to say of Kafka; of topics and messages only with a mapping."""
    if not _secrets_are_there(settings.kafka):
        return  # said already, of each
    try:
        found = probes.cluster(settings.kafka)
        yield ok(f"Kafka {settings.kafka.bootstrap_servers}: {found.brokers} brokers")
        if mapping is not None:
            yield from _Topics(settings, mapping, found).findings()
    except probes.ProbeFailed as failure:
        yield wrong(failure.what, failure.cure)
    except (BrokerUnavailable, SettingsError) as error:  # of the Schema Registry
        yield said(str(error))


def _secrets_are_there(kafka: Kafka) -> bool:
    try:
        for variable in (*kafka.secret_properties.values(), *kafka.schema_registry_secret_properties.values()):
            Secret(variable).read()
    except SettingsError:
        return False
    return True


class _Topics:
    """The mapped topics of one cluster."""

    def __init__(self, settings: Settings, mapping: Mapping, cluster: probes.Cluster) -> None:
        """Raises SettingsError where the settings of the Schema Registry cannot be used."""
        self._settings = settings
        self._mapping = mapping
        self._cluster = cluster
        self._sources = mapping.structure.by_topic()
        self._decoder = Decoder(mapping.structure, avro_reader(settings.kafka))
        self._now_ms = int(time.time() * 1000)
        self._exact_decimals = False

    def findings(self) -> Iterator[Finding]:
        """Raises ProbeFailed or BrokerUnavailable where the brokers or the Schema Registry go away meanwhile."""
        topics, may_use_group = peek.look(self._settings.kafka, self._sources)
        if not may_use_group:
            group = self._settings.kafka.group_id
            yield wrong(f"consumer group {group}: this user may not use it", self._grant(["Read"], group=group))
        beats = self._heartbeat_topics(capture.prefix for capture in captures(self._mapping.structure))
        read = peek.newest(
            self._settings.kafka, {name: topic.partitions for name, topic in topics.items() if topic.partitions} | beats
        )
        samples = [self._sample(source, topics[name], read) for name, source in self._sources.items()]
        self._exact_decimals = any(map(tells_exact_decimals, samples))
        for sample in samples:
            yield from self._topic(sample.source, topics[sample.source.topic], read, sample)
        for sample, trap in sister_traps(samples):
            yield _trapped(_named(sample.source), trap)
        yield from self._heartbeats(samples, read)
        seen = {sample.source.name: sample.columns() for sample in samples}
        yield from (said(problem, Level.WARN) for problem in check_columns(self._mapping, seen))

    def _sample(self, source: Source, topic: peek.Topic, read: peek.Newest) -> Sample:
        messages = read.messages.get(source.topic, ())
        return take(source, messages, self._decoder, compacted=is_compacted(topic.settings or {}))

    def _topic(self, source: Source, topic: peek.Topic, read: peek.Newest, sample: Sample) -> Iterator[Finding]:
        where = _named(source)
        if topic.refused or source.topic in read.refused:
            may_not = "see" if topic.refused else "read"
            yield wrong(f"{where}: this user may not {may_not} it", self._grant(_TOPIC_RIGHTS, topic=source.topic))
            return
        if not topic.partitions:
            yield Finding(
                Level.FAIL if source.required else Level.WARN,
                f"{where} does not exist, or this user may not see it",
                "ingest takes it up once the connector has written to it; "
                f"else mend sources.{source.name}.topic, the connector's topic.prefix, or the ACL",
            )
            return
        count = "1 partition" if topic.partitions == 1 else f"{topic.partitions} partitions"
        yield ok(f"{where}: {count}, {len(sample.seen)} of its newest messages read")
        if topic.settings is None:
            yield doubtful(
                f"{where}: its settings cannot be read, so nobody notices when it is read too late",
                self._grant(["DescribeConfigs"], topic=source.topic),
            )
        if source.topic in read.unread:
            yield doubtful(
                f"{where}: its end was not reached within {peek.READ_SECS:g} s",
                "try again; else look at the brokers' load and the size of messages",
            )
        sizes = [len(seen.message.key or b"") + len(seen.message.value or b"") for seen in sample.seen]
        used = self._mapping.columns_used().get(source.name, {})
        for trap in (
            *message_traps(sample, used, self._now_ms, exact_decimals=self._exact_decimals),
            *setting_traps(topic.settings or {}, sizes, self._largest_answer()),
        ):
            yield _trapped(where, trap)

    def _heartbeats(self, samples: list[Sample], read: peek.Newest) -> Iterator[Finding]:
        """One check for each connector that wrote something; its name is in its messages."""
        for prefix in prefixes(samples):
            topic = HEARTBEAT_TOPIC + prefix
            messages = read.messages.get(topic)
            if messages is None:  # a prefix that the topics' names do not tell
                messages = peek.newest(self._settings.kafka, self._heartbeat_topics([prefix])).messages.get(topic, [])
            newest_ms = max((message.timestamp_ms or 0 for message in messages), default=None)
            traps = list(heartbeat_traps(prefix, newest_ms, self._now_ms))
            for trap in traps:
                yield _trapped(f"topic {topic}", trap)
            if not traps:
                yield ok(f"topic {topic}: connector {prefix} is alive")

    def _heartbeat_topics(self, found: Iterable[str]) -> dict[str, int]:
        """Partition counts of the heartbeat topics that are there."""
        names = [HEARTBEAT_TOPIC + prefix for prefix in found]
        return {name: self._cluster.topics[name] for name in names if name in self._cluster.topics}

    def _largest_answer(self) -> int:
        return int(self._settings.kafka.properties.get("receive.message.max.bytes", _LARGEST_ANSWER))

    def _grant(self, operations: Iterable[str], *, topic: str | None = None, group: str | None = None) -> str:
        topics = [] if topic is None else [topic]
        servers = self._settings.kafka.bootstrap_servers
        return acl_command(operations, topics=topics, group=group, user=kafka_user(self._settings), servers=servers)


def _named(source: Source) -> str:
    return f"topic {source.topic} ({source.name})"


def _trapped(where: str, trap: Trap) -> Finding:
    return (wrong if trap.fatal else doubtful)(f"{where}: {trap.what}", trap.cure)
