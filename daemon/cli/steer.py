"""Steer: let a destination go or have it wait, ask for its old orders, decide about what the void guard holds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from daemon.cli.context import ConfigOption, JsonOption, LimitOption, settings_from
from daemon.cli.mend import named_or_all, who
from daemon.cli.output import console, print_json, print_line, print_table, span
from daemon.errors import SettingsError
from daemon.settings import Settings, moment
from daemon.state import reads
from daemon.state import steer as state
from daemon.state.reads import Record

guard = typer.Typer(no_args_is_help=True, help="Orders that would go to 0, held by the void guard until you decide.")

LIMIT = 100
WATCH_SECS = 1.0
ALL = "all"

DestinationOption = Annotated[
    list[str] | None,
    typer.Option("--destination", help="Only this destination; may be repeated. Without: all of them."),
]
OrdersArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[ORDER]...", help="Order keys, or ids at the API.")
]
AllOption = Annotated[bool, typer.Option("--all", help="All guarded orders.")]


def _destinations(settings: Settings, named: Sequence[str] | None) -> list[str]:
    if unknown := sorted(set(named or ()) - settings.destinations.keys()):
        known = ", ".join(sorted(settings.destinations))
        raise SettingsError(f"--destination {unknown[0]}: the settings have no such destination; they have {known}")
    return sorted(set(named)) if named else sorted(settings.destinations)


def _moment(option: str, text: str) -> datetime:
    try:
        return moment(text)
    except ValueError as error:
        raise SettingsError(f"{option} {text}: {error}") from None


def pause(config: ConfigOption = None, destinations: DestinationOption = None, json: JsonOption = False) -> None:
    """Have destinations send nothing, over restarts too, until `resume`. What is under way is finished."""
    settings = settings_from(config)
    names = _destinations(settings, destinations)
    done = state.pause(settings.postgres, names, who())
    _say(names, done, "paused", "paused already", json=json)


def resume(config: ConfigOption = None, destinations: DestinationOption = None, json: JsonOption = False) -> None:
    """End the pause of destinations, and a halt: it is found again where its cause is still there."""
    settings = settings_from(config)
    names = _destinations(settings, destinations)
    done = state.resume(settings.postgres, names, who())
    _say(names, done, "resumed", "neither paused nor halted", json=json)


def _say(names: Sequence[str], done: Sequence[str], word: str, otherwise: str, *, json: bool) -> None:
    if json:
        print_json({word: list(done)})
        return
    for name in names:
        print_line(f"{name}: {word if name in done else otherwise}")


def backfill(
    config: ConfigOption = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Orders placed from this date or time on; all: every order.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Only orders placed before this date or time.")] = None,
    stop: Annotated[bool, typer.Option("--stop", help="Ask for nothing any more; what was sent stays sent.")] = False,
    destinations: DestinationOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show the progress until all of it is sent.")] = False,
    json: JsonOption = False,
) -> None:
    """Ask for old orders, which are sent oldest first beside the live ones; alone, say what there is to ask for.

    Orders of the backfill placed before live_since are kept back until they are asked for here. A later range takes the
    place of this one. It is stored: the daemon goes on with it after a restart, with or without this command.
    """
    settings = settings_from(config)
    names = _destinations(settings, destinations)
    if (stop and (since or until or wait)) or (since is None and (until or wait)):
        raise SettingsError("backfill: give --since (with --until and --wait where you like) or --stop; one of the two")
    if stop:
        done = state.stop_backfill(settings.postgres, names, who())
        _say(names, done, "stopped", "nothing was asked for", json=json)
        return
    begin = None if since in (None, ALL) else _moment("--since", since or "")
    end = None if until is None else _moment("--until", until)
    if begin is not None and end is not None and end <= begin:
        raise SettingsError(f"backfill: --until {until} is not after --since {since}: no order was placed then")
    if since is not None:
        state.ask_backfill(settings.postgres, names, begin, end, who())
    if wait:
        _watch(settings, names, begin, end)
        return
    ahead = _ahead(settings, names, begin, end)
    if json:
        print_json(ahead)
        return
    for record in ahead:
        print_line(_forecast(record))


def _ahead(settings: Settings, names: list[str], begin: datetime | None, end: datetime | None) -> list[Record]:
    placed = {
        "since": "-infinity" if begin is None else begin.isoformat(),
        "until": "infinity" if end is None else end.isoformat(),
    }
    with reads.reading(settings.postgres) as cursor:
        ahead = reads.records(cursor, "backfill_ahead", names=names, **placed)
        standing = {record["name"]: record for record in reads.records(cursor, "destinations")}
    for record in ahead:
        destination = standing[record["destination"]]
        record["minutes"] = round(record["bytes"] / _bytes_per_sec(settings) / 60.0, 1)
        record["stopped_by"] = _stopped_by(settings, destination)
    return ahead


def _bytes_per_sec(settings: Settings) -> float:
    """What the backfill can have while the live lane uses its share or less of the budget."""
    delivery = settings.delivery
    return max(delivery.budget_bytes * (1.0 - delivery.live_min_share), 1.0) / delivery.budget_window_secs


def _stopped_by(settings: Settings, destination: Record) -> str | None:
    mode = settings.destinations[destination["name"]].delivery
    if mode != "on":
        return f"delivery: {mode}"
    if destination["halted_reason"]:
        return f"halted: {destination['halted_reason']}"
    return "paused" if destination["paused"] else None


def _forecast(record: Record) -> str:
    text = f"{record['destination']}: {record['orders']} orders, {record['bytes']} bytes to send"
    text += f", about {span(record['minutes'] * 60.0)} at the backfill's part of the budget"
    if record["unsurveyed"]:
        text += f"; {record['unsurveyed']} orders are not surveyed yet: when they were placed is not known"
    if record["stopped_by"]:
        text += f"; nothing is sent now ({record['stopped_by']})"
    return text


def _watch(settings: Settings, names: list[str], begin: datetime | None, end: datetime | None) -> None:
    """Until nothing is left. Interrupting it stops the watching alone."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}")
    with Progress(*columns, console=console()) as progress:
        tasks = {name: progress.add_task(name, total=None, left="") for name in names}
        most: dict[str, int] = dict.fromkeys(names, 0)
        while True:
            ahead = _ahead(settings, names, begin, end)
            for record in ahead:
                name, left = record["destination"], record["orders"] + record["unsurveyed"]
                most[name] = max(most[name], left)
                says = f"{record['bytes']} bytes left, about {span(record['minutes'] * 60.0)}"
                says += f", {record['unsurveyed']} not surveyed" if record["unsurveyed"] else ""
                says += f", nothing is sent now ({record['stopped_by']})" if record["stopped_by"] else ""
                progress.update(tasks[name], total=most[name], completed=most[name] - left, left=says)
            if not any(record["orders"] or record["unsurveyed"] for record in ahead):
                return
            time.sleep(WATCH_SECS)


@guard.command("list")
def list_guarded(
    config: ConfigOption = None,
    destinations: DestinationOption = None,
    limit: LimitOption = LIMIT,
    json: JsonOption = False,
) -> None:
    """The orders that have been guarded longest. They stay so, whatever the hour, until you release or discard them."""
    settings = settings_from(config)
    names = _destinations(settings, destinations)
    with reads.reading(settings.postgres) as cursor:
        found = reads.records(cursor, "guarded_orders", destinations=names, limit=limit)
    if json:
        print_json(found)
        return
    print_table("Guarded", ["destination", "order_key", "vendor_order_id", "placed_at", "guarded_since"], found)


@guard.command("release")
def release_guarded(
    orders: OrdersArgument = None,
    config: ConfigOption = None,
    everything: AllOption = False,
    destinations: DestinationOption = None,
    json: JsonOption = False,
) -> None:
    """Let guarded orders go to 0 at the API. They do not count against max_voids_per_hour."""
    _decide(orders, config, destinations, everything=everything, release=True, json=json)


@guard.command("discard")
def discard_guarded(
    orders: OrdersArgument = None,
    config: ConfigOption = None,
    everything: AllOption = False,
    destinations: DestinationOption = None,
    json: JsonOption = False,
) -> None:
    """Have the API keep what it has of guarded orders, until they change again."""
    _decide(orders, config, destinations, everything=everything, release=False, json=json)


def _decide(
    orders: Sequence[str] | None,
    config: ConfigOption,
    destinations: Sequence[str] | None,
    *,
    everything: bool,
    release: bool,
    json: bool,
) -> None:
    named_or_all(list(orders or ()), everything, "orders")
    settings = settings_from(config)
    names = _destinations(settings, destinations)
    act = state.release_guarded if release else state.discard_guarded
    done = act(settings.postgres, None if everything else orders, names, who())
    if json:
        print_json({"released" if release else "discarded": done})
        return
    print_line(f"{len(done)} orders " + ("will be sent as they are" if release else "stay at the API as they were"))
    if missing := len(set(orders or ())) - len(done):
        print_line(f"{missing} of the named ones are not guarded; `order-sync show ORDER_ID` says how they stand")


def actions(config: ConfigOption = None, limit: LimitOption = LIMIT, json: JsonOption = False) -> None:
    """What operators did by command, the last first: who, when, what, and how many orders or others it changed."""
    settings = settings_from(config)
    with reads.reading(settings.postgres) as cursor:
        found = reads.records(cursor, "actions", limit=limit)
    if json:
        print_json(found)
        return
    print_table("Actions", ["id", "at", "who", "command", "arguments", "affected"], found)
