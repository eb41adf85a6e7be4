"""What one Kafka message turns into: a `Change`, a `Skip` or a `Reject`, never nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeAlias

ColumnValue: TypeAlias = "bool | int | float | str | Decimal | list[Any] | dict[str, Any] | None"
"""One column as the mirror keeps it, in JSON: numbers exact (numeric as a JSON number with its own scale), NaN and
infinities as text, dates `2026-03-01`, times `17:30:00.5`, timestamps without zone `2026-03-01T08:00:10.015`,
with zone the same in UTC with `Z`, intervals in microseconds, bytea in base64, json as its text, arrays as lists."""


# Message and Change are made once per message on the hot path: not frozen, since that triples the time it takes to make
# one, but nobody changes them afterwards.
@dataclass(slots=True)
class Message:
    """One Kafka message, as consumed. `timestamp_ms` is Kafka's own, epoch milliseconds, None where it has none."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int | None
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] | None


class Kind(StrEnum):
    """What a change does to its row."""

    UPSERT = "upsert"  # a full image of the row, but for `unavailable` columns
    DELETE = "delete"
    TOMBSTONE = "tombstone"  # a null value: deletes the row if no delete of the same key came just before it
    UNKNOWN = "unknown"  # a reject whose key could be read: the row's values are not known any more


@dataclass(slots=True)
class Change:
    """One decoded Debezium event about one row.

    `key` is the row's canonical key (see `daemon.mapping.keys`). `columns` holds the stored columns of an UPSERT,
    without the `unavailable` ones (TOAST placeholders). `position` orders changes of one `lineage` (connector kind,
    server, database, schema, table) and is None where the event carries none (incremental snapshots);
    `committed_ms` is the commit time at the source, epoch milliseconds, None where unknown or meaningless.
    `old_key` is set on the insert half of a primary-key change, `new_key` on its delete half (and on the tombstone
    behind that). `op` of a flattened row that does not tell it is `u`. `then` is a second change by the same message,
    to be folded after this one and counted with it: the row's key changed, but not the message's.
    """

    source: str
    key: str
    kind: Kind
    op: str
    columns: dict[str, ColumnValue]
    unavailable: tuple[str, ...]
    lineage: str | None
    position: tuple[int, ...] | None
    committed_ms: int | None
    snapshot: bool
    message: Message
    old_key: str | None = None
    new_key: str | None = None
    oddity: Oddity | None = None
    then: Change | None = None


UNCOUNTED = "none"
"""The `op` of a change whose message is counted as something else: as a reject, or with the change that it follows."""


class Oddity(StrEnum):
    """What is strange about a message that was decoded all the same. Part of a metric's closed label set."""

    IMPOSSIBLE_MESSAGE_KEY = "impossible_message_key"  # made of zeros: columns outside the replica identity
    NO_LOG_POSITION = "no_log_position"  # an event tells no log position or commit time: said once per source
    INEXACT_DOUBLE = "inexact_double"  # a decimal came as a floating-point number of more digits than that keeps


class SkipReason(StrEnum):
    """Why a message changes nothing. The metric's closed label set."""

    TOMBSTONE_AFTER_DELETE = "tombstone_after_delete"
    TOMBSTONE_OF_OTHER_KEY = "tombstone_of_other_key"  # its key is not the row's key (message.key.columns)
    HEARTBEAT = "heartbeat"
    TRANSACTION = "transaction"
    LOGICAL_MESSAGE = "logical_message"
    TRUNCATE = "truncate"
    SCHEMA_CHANGE = "schema_change"
    SIGNAL = "signal"  # a row of Debezium's own signalling table


@dataclass(frozen=True, slots=True)
class Skip:
    """A message that is understood and changes nothing."""

    reason: SkipReason
    op: str
    message: Message


class RejectReason(StrEnum):
    """Why a message could not be decoded. The metric's closed label set."""

    NOT_JSON = "not_json"
    NOT_AVRO = "not_avro"  # a schema id that the Schema Registry does not have, or bytes that do not fit its schema
    NOT_DEBEZIUM = "not_debezium"  # JSON, but neither envelope nor row
    NO_KEY = "no_key"  # the row's key cannot be told
    BAD_VALUE = "bad_value"  # a column's value does not fit its type
    UNDECLARED_TYPE = "undeclared_type"  # the value cannot be read without `types:` or the connector's modes


@dataclass(frozen=True, slots=True)
class Reject:
    """A message that could not be decoded, kept raw. `detail` names field, type and cure, never a row value.

    `key` is the row's key where at least that could be read.
    """

    reason: RejectReason
    detail: str
    source: str | None
    key: str | None
    message: Message


Decoded: TypeAlias = Change | Skip | Reject
