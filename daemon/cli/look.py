"""Look: the state as it is now, from Postgres alone; only the lag also asks Kafka."""

from __future__ import annotations

import json as json_library
import sys
from decimal import Decimal
from typing import Annotated, Any

import typer

from daemon.cli import probes
from daemon.cli.context import ConfigOption, JsonOption, RevealOption, mapping_from, settings_from
from daemon.cli.mask import masked
from daemon.cli.output import json_text, print_json, print_line, print_table
from daemon.errors import MappingError, SettingsError
from daemon.settings import Settings
from daemon.state import reads
from daemon.state.reads import Record

LOST_SHOWN = 20


def status(
    config: ConfigOption = None,
    lag: Annotated[bool, typer.Option("--lag/--no-lag", help="Ask Kafka how much is not folded yet.")] = True,
    json: JsonOption = False,
) -> None:
    """What is owed and how old it is, lag, requests of the last hour, rejects, and who delivers."""
    settings = settings_from(config)
    found = _status(settings)
    found["kafka"], found["lag"] = _lag(settings, found.pop("positions")) if lag else ("not asked", [])
    if json:
        print_json(found)
        return
    print_table(
        "Destinations",
        ["name", "base_url", "client_id", "condition", "leader", "leader_until", "budget_used_bytes", "budget_bytes"],
        found["destinations"],
    )
    print_table("Orders owed", ["destination", "lane", "state", "orders", "due", "oldest_secs"], found["orders"])
    print_table("Orders held: the mapping does not take them for orders", ["destination", "orders"], found["held"])
    parked = ["destination", "reason", "orders", "bytes", "placed_from", "placed_to", "oldest_secs"]
    print_table("Orders parked: they could be sent and must not yet", parked, found["parked"])
    requests = ["destination", "verdict", "requests", "orders", "bytes", "last_at"]
    print_table("Requests of the last hour", requests, found["requests"])
    if found["halted"]:
        print_table("Ingest stands still", ["topic", "partition", "next_offset", "why", "halted_at"], found["halted"])
    if found["era"]:
        title = "The state went back: what may have been sent since the restored moment is sent anew"
        print_table(title, ["era", "began_at", "cause", "replayed", "lost_orders"], found["era"])
    if found["lost"]:
        title = f"Orders that may stand at the API and that no void can be made of ({LOST_SHOWN} at most)"
        print_table(title, ["destination", "order_key", "vendor_order_id", "hold_since"], found["lost"])
    if found["gate"]:
        title = "Delivery is held until a backlog is folded"
        print_table(title, ["topic", "partition", "next_offset", "target", "since", "until"], found["gate"])
    print_table("Open rejects", ["topic", "reason", "rejects", "first_at", "last_at"], found["rejects"])
    if found["kafka"] == "reachable":
        print_table(
            "Lag", ["topic", "partition", "next_offset", "end_offset", "lag_messages", "moved_at"], found["lag"]
        )
    else:
        print_line(f"Lag: Kafka {found['kafka']}")


def _status(settings: Settings) -> dict[str, Any]:
    with reads.reading(settings.postgres) as cursor:
        found: dict[str, Any] = {
            name: reads.records(cursor, statement)
            for name, statement in (
                ("destinations", "destinations"),
                ("orders", "owed_orders"),
                ("held", "held_orders"),
                ("parked", "parked_orders"),
                ("requests", "recent_requests"),
                ("rejects", "open_rejects"),
                ("halted", "halted_partitions"),
                ("gate", "gate"),
                ("era", "era"),
                ("positions", "positions"),
            )
        }
        found["lost"] = reads.records(cursor, "lost_orders", limit=LOST_SHOWN)
    for destination in found["destinations"]:
        ours = settings.destinations.get(destination["name"])
        destination["delivery"] = None if ours is None else ours.delivery
        destination["condition"] = _condition(destination)
        destination["budget_bytes"] = settings.delivery.budget_bytes
    return found


def _condition(destination: Record) -> str:
    if destination["delivery"] == "off":
        return "off: nothing is judged or sent"
    if destination["halted_reason"]:
        return f"halted: {destination['halted_reason']}"
    if destination["paused"]:
        return "paused" + (f" since {destination['paused_at']:%Y-%m-%d %H:%MZ}" if destination["paused_at"] else "")
    if destination["delivery"] == "shadow":
        return "shadow: nothing is sent" if destination["leader"] else "shadow, no leader"
    if destination["send_not_before"]:
        return f"sends nothing before {destination['send_not_before']:%H:%M:%SZ} ({destination['failures']} failures)"
    return "delivering" if destination["leader"] else "no leader"


def _lag(settings: Settings, positions: list[Record]) -> tuple[str, list[Record]]:
    """How Kafka is, and each partition's position, end and distance."""
    try:
        ends = probes.end_offsets(settings.kafka, ((at["topic"], at["partition"]) for at in positions))
    except (probes.ProbeFailed, SettingsError) as error:
        return f"unknown: {error}", []
    rows: list[Record] = []
    for at in positions:
        end = ends.get((at["topic"], at["partition"]))
        rows.append(
            {
                "topic": at["topic"],
                "partition": at["partition"],
                "next_offset": at["next_offset"],
                "end_offset": end,
                # An end before our position is a broker that misstates its ends: that says nothing of the lag.
                "lag_messages": None if end is None or end < at["next_offset"] else end - max(at["next_offset"], 0),
                "moved_at": at["moved_at"],
            }
        )
    return "reachable", rows


def rows(
    source: Annotated[str, typer.Argument(help="A source of the mapping.")],
    config: ConfigOption = None,
    key: Annotated[str | None, typer.Option("--key", help="Only the row with this key.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.", show_default=False)] = None,
    reveal: RevealOption = False,
) -> None:
    """The mirrored rows of one source as JSON lines, in key order, each number with the digits that are stored.

    {"key": "17", "deleted": false, "unknown": [], "columns": {"id": 17, "total": 10.50}}. A column in `unknown` has a
    value that never arrived ("*": all of them). Numbers are JSON numbers of any size, dates and times text, bytes
    base64.
    """
    settings = settings_from(config)
    try:
        for line in reads.mirror(settings.postgres, source, key, limit):
            sys.stdout.write((line if reveal else _masked_line(line)) + "\n")
    except KeyError:
        raise SettingsError(
            f"source {source}: nothing was ever read into it; `order-sync sources` lists them"
        ) from None


def _masked_line(line: str) -> str:
    """The line as it is where nothing in it is personal, else written anew."""
    told = json_library.loads(line, parse_float=Decimal)
    hidden = masked(told["columns"])
    return line if hidden == told["columns"] else json_text(told | {"columns": hidden})


def sources(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Topics of the mapping, positions and counts of each partition, columns and types that messages have shown."""
    settings = settings_from(config)
    try:
        topics = {source.topic: source for source in mapping_from(settings).structure.sources.values()}
        mapping_says = ""
    except MappingError as error:
        topics, mapping_says = {}, str(error).splitlines()[0]
    with reads.reading(settings.postgres) as cursor:
        positions = reads.records(cursor, "positions")
        columns = reads.records(cursor, "columns")
    for at in positions:
        at["source"] = topics[at["topic"]].name if at["topic"] in topics else None
    mapped = [{"source": s.name, "topic": s.topic, "role": s.role.value} for s in topics.values()]
    if json:
        print_json({"sources": mapped, "positions": positions, "columns": columns})
        return
    if mapping_says:
        print_line(f"mapping: {mapping_says}")
    print_table("Sources", ["source", "role", "topic"], mapped)
    counts = ["source", "topic", "partition", "next_offset", "folded", "stale", "skipped", "rejected", "moved_at"]
    print_table("Positions", counts, positions)
    print_table("Columns seen", ["source", "name", "type", "first_seen", "last_seen"], columns)
