"""What Kafka needs: settings of the topics, and the rights of order-sync's own user."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from daemon.contract.part import Part
from daemon.contract.properties import PARTITIONS, TOPIC_SETTINGS
from daemon.contract.tables import Capture, Database
from daemon.mapping.structure import Structure

HEARTBEAT_TOPIC = "__debezium-heartbeat."
_TOOL = "--bootstrap-server {servers} --command-config admin.properties"


def topic_part(capture: Capture, database: Database, servers: str) -> Part:
    """Settings for topics that exist already; new ones get them from the connector's topic.creation."""
    compaction = (
        "compact keeps one message of each row for ever, so that `rebuild` needs no snapshot, but then set REPLICA "
        "IDENTITY FULL on tables with long text or json (else the only whole copy of a value that PostgreSQL keeps "
        "out of line is compacted away)"
        if database is Database.POSTGRES
        else "compact keeps one message of each row for ever, so that `rebuild` needs no snapshot"
    )
    settings = ",".join(f"{name}={value}" for name, value in TOPIC_SETTINGS.items())
    topics = shlex.join(item.source.topic for item in capture.captured)
    command = (
        f"for topic in {topics}; do kafka-configs.sh {_TOOL.format(servers=shlex.quote(servers))} "
        f'--alter --entity-type topics --entity-name "$topic" --add-config {settings}; done'
    )
    return Part(
        "topics",
        f"Retention must cover the longest time that ingest may stand still, here 14 days; {compaction}, and "
        f"delete.retention.ms must cover that time too; {PARTITIONS} partitions let as many processes share a topic, "
        "and more must not be added later, since a row would change its partition.",
        "sh",
        (command,),
    )


def acl_part(structure: Structure, prefixes: Iterable[str], *, group: str, user: str, servers: str) -> Part:
    """The least that order-sync's user needs: reading the mapped topics and its group, nothing on the cluster."""
    topics = [*(source.topic for source in structure.sources.values()), *(HEARTBEAT_TOPIC + name for name in prefixes)]
    return Part(
        "acls",
        "All that order-sync does in Kafka is read these topics and their settings, and note in its group how far it "
        "is; it needs nothing on the cluster, and writes to no topic.",
        "sh",
        (
            acl_command(["Read", "Describe", "DescribeConfigs"], topics=topics, user=user, servers=servers),
            acl_command(["Read"], group=group, user=user, servers=servers),
        ),
    )


def acl_command(
    operations: Iterable[str],
    *,
    topics: Iterable[str] = (),
    group: str | None = None,
    user: str,
    servers: str,
) -> str:
    """The command that lets `user` do these operations on topics or a group."""
    words = ["--add", "--allow-principal", f"User:{user}"]
    for operation in operations:
        words += ["--operation", operation]
    for topic in topics:
        words += ["--topic", topic]
    if group is not None:
        words += ["--group", group]
    return f"kafka-acls.sh {_TOOL.format(servers=shlex.quote(servers))} {shlex.join(words)}"
