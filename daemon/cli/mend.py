"""Mend: what could not be decoded, and what could not be sent. Every change is written down with who asked for it."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from typing import Annotated

import typer

from daemon.cli.context import ConfigOption, JsonOption, LimitOption, mapping_from, settings_from
from daemon.cli.cure import Wanted, cures
from daemon.cli.output import cell, print_json, print_line, print_table
from daemon.errors import MappingError, SettingsError
from daemon.settings import Settings
from daemon.state import mend, reads
from daemon.state.reads import Record

rejects = typer.Typer(no_args_is_help=True, help="Messages that could not be decoded, kept raw.")
quarantine = typer.Typer(no_args_is_help=True, help="Orders that are not sent until they change or are retried.")

LIMIT = 100


def who() -> str:
    """The person at the keyboard, as far as the system knows: LOGNAME, USER, or the account."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id without an account
        return "unknown"


def named_or_all(named: list[object], everything: bool, what: str) -> None:
    """Raises SettingsError unless exactly one of the two was given."""
    if bool(named) == everything:
        raise SettingsError(f"name the {what} or give --all; one of the two")


@rejects.command("list")
def list_rejects(
    config: ConfigOption = None,
    topic: Annotated[str | None, typer.Option("--topic", help="Only of this topic.")] = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Also those that a retry has folded.")] = False,
    limit: LimitOption = LIMIT,
    json: JsonOption = False,
) -> None:
    """The oldest rejects: where they stand in Kafka and why they could not be decoded."""
    settings = settings_from(config)
    with reads.reading(settings.postgres) as cursor:
        found = reads.rejects(cursor, limit=limit, topic=topic, resolved=resolved)
        lineages = [record["identity"] for record in reads.records(cursor, "lineages")]
    if json:
        print_json(found)
        return
    print_table("Rejects", ["id", "topic", "partition", "offset", "reason", "detail", "row_key", "rejected_at"], found)
    for line in _ways_out(settings, [record for record in found if record["resolved_at"] is None], lineages):
        print_line(line)


def _ways_out(settings: Settings, still_open: list[Record], lineages: list[str]) -> Iterator[str]:
    """What can be done about rejects, and the statements that bring those rows whose key could be read."""
    if not still_open:
        return
    yield "Mend what the detail says, then `order-sync rejects retry --all` decodes them anew."
    if digests := sorted({record["source"] for record in still_open if record["digest_only"]}):
        options = " ".join(f"--source {source}" for source in digests)
        yield (
            f"Of {', '.join(digests)} no bytes are kept, since the mapping hashes columns of them: while Kafka has the "
            f"messages, `order-sync rebuild {options}` reads them again; then `rejects retry --all`"
        )
    try:
        sources = mapping_from(settings).structure.sources
    except MappingError:
        return
    rows = {Wanted(record["source"], record["row_key"]) for record in still_open if record["row_key"] is not None}
    for cure in cures(sources, sorted(rows), lineages):
        how = f"in the OMS's database: {cure.signal}" if cure.signal else cure.rebuild
        yield f"Where the message itself was wrong, this has the rows of {cure.source} sent again, {how}"


@rejects.command("show")
def show_reject(
    number: Annotated[int, typer.Argument(metavar="ID", help="The reject's id.")],
    config: ConfigOption = None,
    raw: Annotated[bool, typer.Option("--raw", help="Also the message's bytes; they may hold personal data.")] = False,
    json: JsonOption = False,
) -> None:
    """One reject: coordinates, reason and, if asked for, the message as it was in Kafka (base64 in JSON)."""
    settings = settings_from(config)
    with reads.reading(settings.postgres) as cursor:
        found = reads.records(cursor, "reject", id=number)
    if not found:
        raise SettingsError(f"reject {number}: there is none; `order-sync rejects list` shows the open ones")
    [record] = found
    for name in ("key", "value", "headers"):
        content = record.pop(name)
        record[f"{name}_bytes"] = None if content is None else len(content)
        if raw:
            record[name] = content
    if json:
        print_json(record)
        return
    for name, content in record.items():
        text = content.decode("utf-8", "backslashreplace") if isinstance(content, bytes) else cell(name, content)
        print_line(f"{name.replace('_', ' ')}: {text}")


@rejects.command("retry")
def retry_rejects(
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Ids of rejects.")] = None,
    config: ConfigOption = None,
    everything: Annotated[bool, typer.Option("--all", help="All open rejects.")] = False,
    json: JsonOption = False,
) -> None:
    """Decode and fold rejects anew with the mapping as it is now; those that fail again stay rejects."""
    named_or_all(list(ids or ()), everything, "rejects")
    from daemon.ingest.retry import retry_rejects as retry  # decoder and fold: no other command here needs them

    settings = settings_from(config)
    with reads.reading(settings.postgres):
        pass  # refuses before `migrate`
    counts = retry(settings, mapping_from(settings), None if everything else ids, who())
    if json:
        print_json(counts)
    else:
        print_line(", ".join(f"{name}: {count}" for name, count in counts.items()))


@quarantine.command("list")
def list_quarantine(config: ConfigOption = None, limit: LimitOption = LIMIT, json: JsonOption = False) -> None:
    """The orders that have been in quarantine longest, and why."""
    settings = settings_from(config)
    with reads.reading(settings.postgres) as cursor:
        found = reads.quarantined(cursor, limit)
    if json:
        print_json(found)
        return
    columns = ["destination", "order_key", "vendor_order_id", "reason", "last_error", "attempts", "quarantined_at"]
    print_table("Quarantine", columns, found)


@quarantine.command("retry")
def retry_quarantine(
    orders: Annotated[
        list[str] | None, typer.Argument(metavar="[ORDER]...", help="Order keys, or ids at the API.")
    ] = None,
    config: ConfigOption = None,
    everything: Annotated[bool, typer.Option("--all", help="All quarantined orders.")] = False,
    json: JsonOption = False,
) -> None:
    """Send quarantined orders anew, each in a request of its own. One that fails again goes back into quarantine."""
    named_or_all(list(orders or ()), everything, "orders")
    settings = settings_from(config)
    done = mend.retry_quarantined(settings.postgres, None if everything else orders, who())
    if json:
        print_json({"retried": done})
        return
    print_line(f"{len(done)} orders will be sent anew")
    if missing := len(orders or ()) - len(done):
        print_line(f"{missing} of the named ones are not in quarantine; `order-sync show ORDER_ID` says how they stand")
