"""`show`: one order whole: its record at each destination, what holds it, rows, documents, requests."""

from __future__ import annotations

import json as json_library
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import orjson
import typer

from daemon.cli.context import ConfigOption, JsonOption, RevealOption, mapping_from, settings_from
from daemon.cli.cure import Cure, cures, wanted_rows
from daemon.cli.mask import masked
from daemon.cli.output import cell, json_text, print_json, print_line, print_table
from daemon.document.assemble import Assembler
from daemon.document.outcome import Deleted, Ineligible, Invalid, Outcome, Ready, Voided, Waiting
from daemon.errors import MappingError
from daemon.mapping.model import Mapping
from daemon.mapping.rows import StoredRow
from daemon.state import reads
from daemon.state.database import Cursor
from daemon.state.delivery_records import Hold
from daemon.state.reads import Record

REQUESTS = 20  # the newest ones


def show(
    order: Annotated[str, typer.Argument(metavar="ORDER_ID", help="The order's key in the OMS, or its id at the API.")],
    config: ConfigOption = None,
    reveal: RevealOption = False,
    json: JsonOption = False,
) -> None:
    """One order: what holds it, its rows, the document as it would be now and as last accepted, its requests."""
    settings = settings_from(config)
    try:
        mapping, trouble = mapping_from(settings), ""
    except MappingError as error:
        mapping, trouble = None, str(error).splitlines()[0]
    with reads.reading(settings.postgres) as cursor:
        records = reads.records(cursor, "order_records", order=order)
        key = records[0]["order_key"] if records else order
        rows = reads.rows_of_order(cursor, key)
        outcome, looked_up = assembled(cursor, mapping, key, rows) if mapping and rows else (None, [])
        not_for = dict(_not_for(mapping, settings.destinations, key, rows + looked_up)) if mapping and rows else {}
        requests = reads.records(cursor, "requests_of_order", order_key=key, limit=REQUESTS)
        lineages = [record["identity"] for record in reads.records(cursor, "lineages")]
    found = _found(key, records, rows + looked_up, outcome, requests, trouble)
    wanted = wanted_rows(mapping, key, rows + looked_up, outcome) if mapping else []
    helps = cures(mapping.structure.sources, wanted, lineages) if mapping else []
    found["cures"] = [asdict(cure) for cure in helps]
    found["not_for"] = not_for
    if not reveal:
        for part in ("rows", "document", "accepted"):
            found[part] = masked(found[part])
    if json:
        print_json(found)
    else:
        _print(found, helps, reveal=reveal)
    raise typer.Exit(0 if records or rows else 1)


def assembled(
    cursor: Cursor, mapping: Mapping, order_key: str, rows: list[StoredRow], destination: str | None = None
) -> tuple[Outcome, list[StoredRow]]:
    """The order as it would be sent now, and the rows it looks up; what has not arrived makes it wait."""
    assembler = Assembler(mapping, destination)
    complete = assembler.complete(rows, lambda wanted: reads.rows_at(cursor, wanted))
    return assembler.assemble(order_key, complete), complete[len(rows) :]


def _not_for(
    mapping: Mapping, destinations: Iterable[str], order_key: str, rows: list[StoredRow]
) -> Iterator[tuple[str, str]]:
    """The destinations that this order is not for by their own conditions, and which condition says so."""
    for name in destinations if mapping.destinations else ():
        outcome = Assembler(mapping, name).assemble(order_key, rows)
        if isinstance(outcome, Ineligible) and outcome.reason != "when":
            yield name, described(outcome)[0]


def _found(
    key: str,
    records: list[Record],
    rows: list[StoredRow],
    outcome: Outcome | None,
    requests: list[Record],
    trouble: str,
) -> dict[str, Any]:
    accepted = {}
    for record in records:
        if (body := record.pop("last_accepted")) is not None:
            accepted[record["destination"]] = _parsed(zlib.decompress(body))
        record["held_by"] = list(holding(record))
    said, document = described(outcome) if outcome else (trouble or "no rows of this order have arrived", None)
    return {
        "order_key": key,
        "records": records,
        "rows": [_row(row) for row in rows],
        "outcome": said,
        "document": document,
        "accepted": accepted,
        "requests": requests,
    }


def _parsed(body: bytes) -> Any:
    return json_library.loads(body, parse_float=Decimal)


def _row(row: StoredRow) -> dict[str, Any]:
    return {
        "source": row.source,
        "key": row.key,
        "looked_up": row.root is None,
        "deleted": row.deleted,
        "unknown": sorted(row.unknown),
        "columns": dict(row.columns),
    }


def described(outcome: Outcome) -> tuple[str, Any]:
    """What assembling came to, in words, and the document where there is one."""
    match outcome:
        case Ready(document, oddities):
            noted = f"; noted: {', '.join(sorted(set(oddities)))}" if oddities else ""
            return f"ready, {len(document.body)} bytes{noted}", _parsed(document.body)
        case Voided(tag):
            return f"cancelled: goes out as its last document with zeros and the tag {tag}, if it was ever sent", None
        case Ineligible(reason):
            return f"no order for the API: `{reason}` of the mapping is false", None
        case Deleted():
            return "deleted in the OMS", None
        case Waiting(reason, detail):
            return f"waiting: {reason}: {detail}", None
        case Invalid(problems):
            return f"invalid: {'; '.join(problems)}", None


def holding(record: Record) -> Iterator[str]:
    """Why this order is not being sent now, and until when; nothing where it can be sent."""
    now: datetime = record["now"]
    owed = record["revision"] > record["settled_revision"]
    if not owed:
        yield f"nothing is owed: revision {record['settled_revision']} is settled"
    parked = owed and record["parked_revision"] == record["revision"]
    if parked:
        yield f"parked since {cell('', record['hold_since'])}: {_PARKED[Hold(record['hold'])]}"
    # On an owed order any other hold is of an earlier judgement and holds nothing now.
    elif record["hold"] and (not owed or record["hold"] == Hold.WAITING):
        detail = f": {record['hold_detail']}" if record["hold_detail"] else ""
        yield f"{record['hold']} since {cell('', record['hold_since'])}{detail}"
    if record["quarantine_revision"] == record["revision"]:
        reason = record["quarantine_reason"] or "no reason kept"
        yield f"quarantined since {cell('', record['quarantined_at'])} until its rows or the mapping change: {reason}"
    if not owed:
        return
    if record["request_id"] is not None:
        yield f"in flight: request {record['request_id']} carries revision {record['sent_revision']}"
    if record["halted_reason"]:
        yield f"the destination is halted: {record['halted_reason']}"
    if record["paused"]:
        yield "the destination is paused"
    for until, why in (
        (record["due_at"], "its quiet period or maximum wait ends"),
        (record["not_before"], "a back-off, a fence or the gap after the last send ends"),
        (record["destination_not_before"], "the destination may send again"),
    ):
        if until is not None and until > now:
            yield f"until {cell('', until)}, when {why}"


_PARKED = {
    Hold.SHADOW: "the destination is in shadow, which sends nothing",
    Hold.BACKFILL: "an old order of the backfill; `order-sync backfill --since DATE` asks for it, oldest first",
    Hold.GUARDED: "it would go to 0 beyond max_voids_per_hour; `order-sync guard release` or `discard` decides",
}


def curing(cure: Cure) -> Iterator[str]:
    """What is missing of one source and what brings it, in lines."""
    for row in cure.rows:
        what = f"no value of {', '.join(row.columns)} is known" if row.columns else "the row has not arrived"
        yield f"{row.source} {row.key}: {what}"
    if cure.signal is not None:
        yield f"  in the OMS's database, so that the running connector sends it again: {cure.signal}"
    yield f"  or, while the topic still holds it: {cure.rebuild}"


def _print(found: dict[str, Any], helps: list[Cure], *, reveal: bool) -> None:
    for record in found["records"]:
        print_line(f"order {record['order_key']} at {record['destination']}")
        shown = {name: value for name, value in record.items() if name not in _SAID_ELSEWHERE and value is not None}
        for name, value in shown.items():
            print_line(f"  {name.replace('_', ' ')}: {cell(name, value)}")
        for reason in record["held_by"] or ["nothing: it is sent as soon as leader and budget allow"]:
            print_line(f"  held by: {reason}")
    if not found["records"]:
        print_line(
            f"order {found['order_key']}: no order has this key, and none was sent under this id;"
            " one that was never sent is found by its key in the OMS alone (see `order-sync rows`)"
        )
    print_line()
    for row in found["rows"]:
        mark = (" looked up" if row["looked_up"] else "") + (" deleted" if row["deleted"] else "")
        unknown = f" unknown: {', '.join(row['unknown'])}" if row["unknown"] else ""
        print_line(f"{row['source']} {row['key']}{mark}{unknown}")
        print_line(f"  {json_text(row['columns'])}")
    print_line(f"\nas it would be now: {found['outcome']}")
    for destination, why in found["not_for"].items():
        print_line(f"at {destination}: {why}")
    if found["document"] is not None:
        print_line(json_text(found["document"], orjson.OPT_INDENT_2))
    for cure in helps:
        for line in curing(cure):
            print_line(line)
    for destination, document in found["accepted"].items():
        print_line(f"\nlast accepted by {destination}")
        print_line(json_text(document, orjson.OPT_INDENT_2))
    print_line()
    columns = [
        "id",
        "destination",
        "revision",
        "reserved_at",
        "settled_at",
        "outcome",
        "status",
        "orders",
        "bytes",
        "error",
    ]
    print_table("Requests", columns, found["requests"])
    if not reveal:
        print_line("Personal values are masked by the name of their column; --reveal shows them.")


_SAID_ELSEWHERE = {"order_key", "destination", "held_by", "now", "paused", "halted_reason", "destination_not_before"}
