"""The newest messages of a topic, as the decoder understood them and as they were written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from daemon.ingest.change import Change, Decoded, Kind, Message
from daemon.ingest.connect_json import NotJsonError, parse
from daemon.ingest.debezium import Decoder
from daemon.mapping.structure import Source


@dataclass(frozen=True, slots=True)
class Writer:
    """Who wrote a change: connector kind, its logical name (topic.prefix), and the database."""

    connector: str
    name: str
    database: str

    def __str__(self) -> str:
        return f"the {self.connector} connector {self.name}" + (
            f" of database {self.database}" if self.database else ""
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """One message. `event` is its JSON where that is an object, `fields` its schema's for the row, if it has one."""

    message: Message
    decoded: Decoded
    event: dict[str, Any]
    fields: tuple[dict[str, Any], ...]
    key_columns: frozenset[str] | None

    @property
    def origin(self) -> dict[str, Any]:
        """The envelope's `source` block; empty where there is none."""
        block = self.event.get("source")
        return block if isinstance(block, dict) else {}

    @property
    def after(self) -> dict[str, Any]:
        """The row's new image as it was written; of a flattened message all of it."""
        row = self.event.get("after") if self.origin else self.event
        return row if isinstance(row, dict) else {}

    @property
    def writer(self) -> Writer | None:
        """Who wrote it; None where the message does not tell."""
        block = self.origin
        if not block.get("connector"):
            return None
        # MySQL's database is what PostgreSQL calls a schema: one connector writes several.
        database = block.get("db") if block["connector"] == "postgresql" else ""
        return Writer(str(block["connector"]), str(block.get("name")), str(database or ""))


@dataclass(frozen=True, slots=True)
class Sample:
    """The newest messages of one source's topic: partitions apart, offsets ascending. `compacted` by cleanup.policy."""

    source: Source
    compacted: bool
    seen: tuple[Seen, ...]

    def images(self) -> Iterator[tuple[Seen, Change]]:
        """The messages that carry a row's new image, with the changes that they are."""
        for seen in self.seen:
            if isinstance(seen.decoded, Change) and seen.decoded.kind is Kind.UPSERT:
                yield seen, seen.decoded

    def columns(self) -> set[str]:
        """The columns that the messages showed, dropped ones aside; empty where none carried a row."""
        return {name for _, change in self.images() for name in (*change.columns, *change.unavailable)}

    def values(self, column: str) -> list[Any]:
        """What the rows hold in a column, as it was written; nulls and placeholders are left out."""
        return [
            seen.after[column]
            for seen, change in self.images()
            if column not in change.unavailable and seen.after.get(column) is not None
        ]

    def writers(self) -> Counter[Writer]:
        """Who wrote the messages, as far as they tell."""
        return Counter(seen.writer for seen in self.seen if seen.writer is not None)

    def has_other_key(self) -> bool:
        """Whether the row's declared key has columns that the message key has not."""
        key = frozenset(self.source.key or ())
        return any(seen.key_columns is not None and not key <= seen.key_columns for seen, _ in self.images())


def take(source: Source, messages: Iterable[Message], decoder: Decoder, *, compacted: bool = False) -> Sample:
    """Understand the newest messages of a source's topic."""
    ordered = sorted(messages, key=lambda message: (message.partition, message.offset))
    return Sample(source, compacted, tuple(_seen(message, decoder) for message in ordered))


def _seen(message: Message, decoder: Decoder) -> Seen:
    event, schema = _document(message.value)
    key, _ = _document(message.key)
    return Seen(
        message,
        decoder.decode(message),
        event if isinstance(event, dict) else {},
        tuple(field for field in _row_fields(schema) if isinstance(field, dict)),
        frozenset(key) if isinstance(key, dict) else None,
    )


def _document(raw: bytes | None) -> tuple[Any, Any]:
    """Payload and schema of a message's key or value; nothing where it is no JSON."""
    try:
        document = parse(raw) if raw is not None else None
    except NotJsonError:
        return None, None
    if isinstance(document, dict) and document.keys() == {"schema", "payload"}:
        return document["payload"], document["schema"]
    return document, None


def _row_fields(schema: Any) -> list[Any]:
    fields = schema.get("fields") if isinstance(schema, dict) else None
    if not isinstance(fields, list):
        return []
    for part in fields:
        if isinstance(part, dict) and part.get("field") == "after":
            inner = part.get("fields")
            return inner if isinstance(inner, list) else []
    return fields
