"""Reading back everything that a broker holds, and the form in which a recording keeps it."""

from __future__ import annotations

import base64
import json
import lzma
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from daemon.demo.process import RigError

TIMEOUT_SECS = 60.0
CONTEXT_HEADERS = "__debezium.context."
MESSAGES_WITH_CONTEXT = 12

Text: TypeAlias = "str | dict[str, str] | None"
Line: TypeAlias = tuple[str, int, int, int, Text, list[list[Any]], Text]


def drain(bootstrap: str, *, topics: Collection[str] = (), leave_out: Collection[str] = ()) -> list[Line]:
    """Every message of the topics, in the order of a recording; without a name, of all but Kafka's own and `leave_out`.

    That is (timestamp, topic, partition, offset), and it never breaks the order of offsets within a partition.
    Raises RigError if the ends are not reached in time.
    """
    places = {place for place in _places(bootstrap) if (place[0] in topics if topics else place[0] not in leave_out)}
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "recorder",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    lines: list[Line] = []
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in places])
        deadline = time.monotonic() + TIMEOUT_SECS
        while places:
            message = consumer.poll(1.0)
            if message is None:
                if time.monotonic() > deadline:
                    raise RigError(f"recorder: the end of {min(places)} was not reached")
                continue
            error = message.error()
            if error is None:
                lines.append(_line(message))
            elif error.code() == KafkaError._PARTITION_EOF:
                places.discard((str(message.topic()), int(message.partition() or 0)))
            else:
                raise RigError(f"recorder: {error.str()}")
    finally:
        consumer.close()
    return _ordered(lines)


def _places(bootstrap: str) -> set[tuple[str, int]]:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    topics = admin.list_topics(timeout=TIMEOUT_SECS).topics
    return {
        (name, partition)
        for name, topic in topics.items()
        for partition in topic.partitions
        if not name.startswith("__consumer")
    }


def _line(message: Message) -> Line:
    return (
        str(message.topic()),
        int(message.partition() or 0),
        int(message.offset() or 0),
        message.timestamp()[1],
        text_of(message.key()),
        [[name, text_of(value)] for name, value in cast("list[tuple[str, bytes | None]]", message.headers() or [])],
        text_of(message.value()),
    )


def _ordered(lines: Iterable[Line]) -> list[Line]:
    """By time; a message that claims to be older than the one before it in its partition takes that one's place."""
    latest: dict[tuple[str, int], int] = {}
    keyed = []
    for line in sorted(lines, key=lambda line: line[:3]):
        topic, partition, offset, timestamp = line[:4]
        moment = latest[topic, partition] = max(timestamp, latest.get((topic, partition), 0))
        keyed.append(((moment, topic, partition, offset), line))
    return [line for _, line in sorted(keyed, key=lambda pair: pair[0])]


def text_of(raw: bytes | None) -> Text:
    """Bytes as a recording keeps them: as text where they are UTF-8 without zero bytes, else {"base64": ...}."""
    if raw is None:
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = "\0"
    return {"base64": base64.b64encode(raw).decode()} if "\0" in text else text


def write_messages(path: Path, lines: Sequence[Line]) -> None:
    """Write `<name>.jsonl.xz`. The headers that never differ stay on the first few messages only."""
    with lzma.open(path, "wt", encoding="utf-8", newline="\n", preset=9 | lzma.PRESET_EXTREME) as file:
        for index, line in enumerate(lines):
            key, headers, value = line[4:]
            if index >= MESSAGES_WITH_CONTEXT:
                headers = [header for header in headers if not header[0].startswith(CONTEXT_HEADERS)]
            file.write(json.dumps([*line[:4], key, headers, value], ensure_ascii=False, separators=(",", ":")) + "\n")


def schema_ids(lines: Iterable[Line]) -> list[int]:
    """The ids of the schemas that keys and values name in Confluent's wire format: a zero byte and four of the id."""
    raws = (base64.b64decode(text["base64"]) for line in lines for text in (line[4], line[6]) if isinstance(text, dict))
    return sorted({int.from_bytes(raw[1:5], "big") for raw in raws if raw[:1] == b"\0"})


def write_json(path: Path, truth: Mapping[str, Any]) -> None:
    """Write `<name>.expected.json.xz` or `<name>.schemas.json.xz`."""
    with lzma.open(path, "wt", encoding="utf-8", newline="\n", preset=9 | lzma.PRESET_EXTREME) as file:
        json.dump(truth, file, ensure_ascii=False, separators=(",", ":"))
