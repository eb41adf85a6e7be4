"""Mend: erase a customer, here and in what comes again; and say what could not be searched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from daemon.cli.context import ConfigOption, JsonOption, mapping_from, settings_from
from daemon.cli.mend import who
from daemon.cli.output import print_json, print_line, progress
from daemon.errors import SettingsError
from daemon.mapping.model import Mapping
from daemon.mapping.personal import is_personal
from daemon.settings import Settings
from daemon.state import mend
from daemon.state.erase_customer import Report, erase_customer


def erase(
    customer: Annotated[str, typer.Option("--customer", help="The customer_id, as documents have it.")],
    config: ConfigOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count; change nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Take out of the state, and out of the API's copies, who a customer is; orders and their money stay as they are.

    What comes again from Kafka, after a rebuild too, comes in without it. The API's copies follow by the daemon's usual
    requests: the order without its customer, then a PATCH that clears what that leaves out. May be run again.
    """
    if not customer.strip():
        raise SettingsError(
            "--customer is empty: give the customer_id, as documents have it; `order-sync show` tells it"
        )
    settings = settings_from(config)
    mapping = mapping_from(settings)
    if not dry_run:
        mend.check_in_force(settings.postgres, mapping.version)
    with progress() as bar:
        task = bar.add_task("look", total=None)
        report = erase_customer(
            settings, mapping, customer, who(), dry_run=dry_run, looked=lambda count: bar.advance(task, count)
        )
    unsearched = list(_unsearched(settings, mapping, report))
    if json:
        print_json({"dry_run": dry_run, **report.as_json(), "not_searched": unsearched})
        return
    verb = "would be erased" if dry_run else "erased"
    print_line(
        f"{verb}: {report.orders} orders, {report.rows} rows, {report.documents} documents, {report.rejects} rejects, "
        f"errors of {report.request_errors} requests"
    )
    for line in (*_waiting(report, dry_run=dry_run), "Not searched:", *(f"  {line}" for line in unsearched)):
        print_line(line)


def _waiting(report: Report, *, dry_run: bool) -> Iterator[str]:
    """How it stands with the API's copies."""
    for one in report.destinations:
        stopped = "; nothing is sent now: it is paused" if one["paused"] else ""
        stopped = f"; nothing is sent now: {one['halted']}" if one["halted"] else stopped
        if one["waiting"]:
            yield f"{one['name']}: {one['waiting']} orders wait for a request that clears the API's copy{stopped}"
        if one["in_flight"] and not dry_run:
            yield (
                f"{one['name']}: {one['in_flight']} orders were in flight: the answer to such a request may quote what "
                "it carried; run this again in a minute"
            )
    if report.shared_rows_kept:
        yield (
            f"{report.shared_rows_kept} looked-up rows stay as they are: orders of other customers look them up too; "
            "this customer's documents say nothing of them any more"
        )


def _kept(mapping: Mapping) -> Iterator[str]:
    """Columns that tell who somebody is, but not by their names, and that the rest of the document needs."""
    for source, column in mapping.uses.telling:
        key = mapping.structure.sources[source].key or ()
        if column in mapping.uses.kept[source] and column not in key and not is_personal(column):
            yield f"{source}.{column}"


def _unsearched(settings: Settings, mapping: Mapping, report: Report) -> Iterator[str]:
    topics = ", ".join(sorted(source.topic for source in mapping.structure.sources.values()))
    yield f"Kafka: {topics}, as long as they keep messages; what is read again of them comes in erased"
    if report.rejects_without_bytes:
        yield (
            f"{report.rejects_without_bytes} rejects of which only a digest is kept; none is kept longer than "
            f"{settings.ingest.reject_keep_days} days (ingest.reject_keep_days)"
        )
    if kept := sorted(_kept(mapping)):
        yield f"{', '.join(kept)}: they stay, since conditions or other attributes read them too"
    yield "compressed or encrypted texts within rejects, for the same reason kept no longer than that"
    yield "what Northbeam keeps of earlier versions of the orders, in exports, logs and models: ask them"
    yield "backups, replicas and the write-ahead log of Postgres; space that its vacuum has not used again yet"
    yield "the OMS itself, and logs: none of ours has row values"
    if off := sorted(name for name, one in settings.destinations.items() if one.delivery != "on"):
        yield f"the API's copies at {', '.join(off)}: nothing is sent there while delivery is off or shadow"
