"""Position: where ingest stands in each partition, and going on from somewhere else, knowingly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from daemon.cli.context import ConfigOption, JsonOption, mapping_from, settings_from
from daemon.cli.mend import who
from daemon.cli.output import print_json, print_line, print_table
from daemon.errors import BrokerUnavailable, SettingsError
from daemon.ingest.cluster import Cluster, Picture
from daemon.settings import Kafka
from daemon.state import reads
from daemon.state.positions import read_positions, reset_positions

position = typer.Typer(no_args_is_help=True, help="Where ingest stands in Kafka, and going on from somewhere else.")

EARLIEST, LATEST, HERE = "earliest", "latest", "here"


@dataclass(frozen=True, slots=True)
class Reset:
    """What is to become of one partition. `known`: its next offset so far, None where this topic was never read;
    `to`: the next offset from now on, -1 for the beginning; start and end are Kafka's.
    """

    partition: int
    known: int | None
    to: int
    start: int
    end: int

    @property
    def effect(self) -> str:
        """What it does, and what it loses."""
        before = self.start if self.known is None else max(self.known, 0)
        after = self.start if self.to < 0 else self.to
        if after > before:
            return (
                f"skips offsets {before} to {after - 1}: changes in there never reach the mirror, unless their rows "
                f"change again or a snapshot sends them"
            )
        if after < before:
            return f"reads offsets {after} to {before - 1} again: orders that it does not change are not sent again"
        return "reads on where it stands"


@position.command("show")
def show_positions(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Each partition's position, counts, Kafka's start and end, lag, halt and gate. Works without Kafka, too."""
    settings = settings_from(config)
    with reads.reading(settings.postgres) as cursor:
        found = read_positions(cursor)
    says = _add_kafka(settings.kafka, found)
    if json:
        print_json({"kafka": says, "positions": found})
        return
    counts = ["folded", "stale", "skipped", "rejected"]
    offsets = ["next_offset", "start_offset", "end_offset", "lag_messages"]
    print_table("Positions", ["topic", "partition", *offsets, *counts, "moved_at", "read_at", "topic_id"], found)
    if halted := [record for record in found if record["halted"]]:
        print_table("Halted", ["topic", "partition", "halted_at", "halted"], halted)
    if gate := [record for record in found if record["gate_target"] is not None]:
        columns = ["topic", "partition", "next_offset", "gate_target", "gate_since"]
        print_table("Delivery is held until these have caught up", columns, gate)
    if says != "reachable":
        print_line(f"Start, end and lag are not known: Kafka is {says}")


def _add_kafka(settings: Kafka, found: list[dict[str, Any]]) -> str:
    """Add what Kafka knows to each record; how Kafka is."""
    try:
        picture = _look(settings, (record["topic"] for record in found))
        says = "reachable"
    except (BrokerUnavailable, SettingsError) as error:
        picture, says = Picture(), f"not reachable: {error}"
    for record in found:
        name = (record["topic"], record["partition"])
        start, end = picture.starts.get(name), picture.ends.get(name)
        record |= {"start_offset": start, "end_offset": end, "lag_messages": None}
        # An end before our position is a broker that misstates its ends: that says nothing of the lag.
        if end is not None and end >= record["next_offset"]:
            record["lag_messages"] = end - max(record["next_offset"], 0)
    return says


def _look(settings: Kafka, topics: Iterable[str]) -> Picture:
    picture = Cluster(settings, topics).look()
    if picture.failure is not None:
        cure = "start the brokers, or mend kafka.bootstrap_servers and kafka.properties"
        raise BrokerUnavailable(f"Kafka {settings.bootstrap_servers}: {picture.failure}; {cure}")
    return picture


@position.command("reset")
def reset(
    topic: Annotated[str, typer.Argument(help="A topic of the mapping.")],
    to: Annotated[
        str,
        typer.Option(
            help="earliest: all that Kafka has · latest: its end · here: where it stands, or the nearest offset that "
            "Kafka has · a number: that offset."
        ),
    ],
    config: ConfigOption = None,
    partition: Annotated[int | None, typer.Option("--partition", min=0, help="Only this partition.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Go on reading a topic from somewhere else, also after a halt. A running daemon follows by itself.

    Reading again sends nothing twice: an order whose document stays as it was needs no request. Going forward loses
    the changes in between, and asks first.
    """
    settings = settings_from(config)
    sources = {source.topic: source.name for source in mapping_from(settings).structure.sources.values()}
    if topic not in sources:
        raise SettingsError(f"topic {topic}: no source of the mapping reads it; it reads {', '.join(sorted(sources))}")
    picture = _look(settings.kafka, [topic])
    if topic not in picture.topics:
        why = picture.refused.get(topic, "Kafka has no such topic")
        raise SettingsError(f"topic {topic}: {why}; there is nothing to read, start the connector first")
    with reads.reading(settings.postgres) as cursor:
        known = [record for record in read_positions(cursor) if record["topic"] == topic]
    resets = _plan(topic, to, partition, picture, known)
    print_table(
        f"Source {sources[topic]}, topic {topic}",
        ["partition", "now", "then", "effect"],
        [{"partition": r.partition, "now": r.known, "then": r.to, "effect": r.effect} for r in resets],
    )
    if not yes:
        typer.confirm("Go on from there?", abort=True)
    # Where it stays, a daemon that reads meanwhile must not be set back.
    offsets = {r.partition: None if r.to == r.known else r.to for r in resets}
    reset_positions(settings.postgres, topic, picture.topics[topic].topic_id, offsets, who(), to)
    print_line(f"{len(offsets)} partitions reset; a running daemon goes on from there within a minute")


def _plan(topic: str, to: str, partition: int | None, picture: Picture, known: list[dict[str, Any]]) -> list[Reset]:
    """One reset for each partition asked for. Raises SettingsError where that is not possible."""
    there = picture.topics[topic]
    if partition is not None and partition not in there.partitions:
        raise SettingsError(f"topic {topic}: has no partition {partition}; it has {len(there.partitions)}")
    at = {
        r["partition"]: r["next_offset"] for r in known if r["topic_id"] in ("", there.topic_id) or not there.topic_id
    }
    if to == HERE and known and not at:
        raise SettingsError(
            f"topic {topic}: was deleted and made anew since it was read, so that there is no place to stay; say "
            f"--to {EARLIEST} or --to {LATEST}"
        )
    resets = []
    for number in there.partitions if partition is None else [partition]:
        log = picture.log((topic, number))
        if log is None:
            raise BrokerUnavailable(f"topic {topic} partition {number}: has no leader now; try again")
        stands = at.get(number)
        resets.append(Reset(number, stands, _target(topic, number, to, stands, log.start, log.end), log.start, log.end))
    return resets


def _target(topic: str, number: int, to: str, stands: int | None, start: int, end: int) -> int:
    if to == EARLIEST:
        return -1
    if to == LATEST:
        return end
    if to == HERE:
        return -1 if stands is None or stands < 0 else min(max(stands, start), end)
    if not to.isdecimal():
        raise SettingsError(f"--to {to}: must be {EARLIEST}, {LATEST}, {HERE} or an offset")
    if not start <= int(to) <= end:
        raise SettingsError(
            f"--to {to}: topic {topic} partition {number} has offsets {start} to {end}; say one of these"
        )
    return int(to)
