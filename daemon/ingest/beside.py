"""Messages that are about no row: what is skipped by name, and what cannot be read and says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from daemon.ingest.change import Message, RejectReason, Skip, SkipReason
from daemon.ingest.connect_json import REGISTRY_MAGIC
from daemon.ingest.plan import RefusedError

_NO_OP = "-"
_CLOUD_EVENT = ("specversion", "type", "id")
_OUTBOX_HEADER = "id"  # the event router always sets it, and nothing else of Debezium's does
_SIGNAL_COLUMNS = frozenset(("id", "type", "data"))
_SIGNALS = (
    *("execute-snapshot", "stop-snapshot", "pause-snapshot", "resume-snapshot"),
    *("snapshot-window-open", "snapshot-window-close", "schema-changes", "log"),
)
_CONVERTER_CURE = "set {converter} to Kafka Connect's JsonConverter"


def beside_rows(event: dict[str, Any], message: Message) -> Skip | None:
    """The skip for a heartbeat, a transaction's begin or end, or a schema change; None for everything else."""
    if event.keys() == {"ts_ms"}:
        return Skip(SkipReason.HEARTBEAT, _NO_OP, message)
    if event.get("status") in ("BEGIN", "END") and "id" in event and "event_count" in event:
        return Skip(SkipReason.TRANSACTION, _NO_OP, message)
    if "ddl" in event and ("databaseName" in event or "tableChanges" in event):
        return Skip(SkipReason.SCHEMA_CHANGE, _NO_OP, message)
    return None


def is_signal(row: dict[str, Any]) -> bool:
    """Whether a row of three columns is one of Debezium's signalling table: somebody mapped that by mistake."""
    return row.keys() == _SIGNAL_COLUMNS and row["type"] in _SIGNALS


def no_envelope(event: dict[str, Any], headers: Sequence[tuple[str, bytes | None]] | None) -> RefusedError:
    """The refusal of an object that is neither an envelope nor a row known to be flattened, naming what wrote it."""
    if all(name in event for name in _CLOUD_EVENT):
        text = "the value is a CloudEvent, which is not read: " + _CONVERTER_CURE.format(converter="value.converter")
    elif any(name == _OUTBOX_HEADER for name, _ in headers or ()):
        text = (
            "the value seems to be of the outbox event router (header `id`), whose events are no rows: remove that "
            "transform, or map the topics of the tables themselves"
        )
    else:
        text = (
            "the value has no Debezium envelope (before, after, source, op) and no field or header that "
            "ExtractNewRecordState adds: if that transform flattened it, write `unwrapped: true` under `debezium:` of "
            "the source (better: let it add op, lsn or file and pos, and source.ts_ms), else remove what else rewrites "
            "it from the connector's `transforms`"
        )
    return RefusedError(RejectReason.NOT_DEBEZIUM, text)


def not_json(raw: bytes, what: str, converter: str) -> RefusedError:
    """The refusal of bytes that are no JSON. `what` is `value` or `message key`, `converter` the option's name."""
    cure = _CONVERTER_CURE.format(converter=converter)
    if not raw.startswith(REGISTRY_MAGIC):
        return RefusedError(RejectReason.NOT_JSON, f"the {what} is not JSON: {cure}")
    written = "JSON Schema" if raw[5:6] in (b"{", b"[") else "Avro or Protobuf"
    if written == "JSON Schema":
        text = f"the {what} looks like {written} of a Schema Registry, which is not read: {cure}"
    else:
        text = (
            f"the {what} looks like {written} of a Schema Registry: for Avro set kafka.schema_registry_url (with the "
            f"extra northbeam-order-sync[avro]), else {cure}"
        )
    return RefusedError(RejectReason.NOT_JSON, text)
