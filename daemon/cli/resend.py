"""Mend: send orders once more, all that a new mapping changes, or whatever was accepted."""

from __future__ import annotations

from typing import Annotated

import typer

from daemon.cli.context import (
    ConfigOption,
    DestinationOption,
    JsonOption,
    destinations_from,
    mapping_from,
    settings_from,
)
from daemon.cli.mend import who
from daemon.cli.output import print_json, print_line, progress, span
from daemon.errors import SettingsError
from daemon.settings import Settings
from daemon.state import mend


def resend(
    orders: Annotated[
        list[str] | None, typer.Argument(metavar="[ORDER_ID]...", help="Order keys, or ids at the API.")
    ] = None,
    config: ConfigOption = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="All orders that come out otherwise than they were last accepted.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="All orders that were ever accepted, changed or not.")
    ] = False,
    destination: DestinationOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Send orders anew: those named at once; masses in the backfill lane, behind what is fresh.

    A new mapping sends nothing by itself: --changed has every order that was ever accepted assembled by it and sends
    those that differ (`order-sync plan` says which). Orders in quarantine stay there.
    """
    if bool(orders) + changed + everything != 1:
        raise SettingsError("name orders, or give --changed or --all; one of the three")
    settings = settings_from(config)
    names = destinations_from(settings, destination)
    if orders:
        sent = mend.force_orders(settings.postgres, names, orders, who())
        if json:
            print_json({"resent": sent})
        else:
            for name, keys in sent.items():
                print_line(f"{name}: {len(keys)} orders will be sent anew")
        return
    mend.check_in_force(settings.postgres, mapping_from(settings).version)
    extents = mend.extents(settings.postgres, names)
    if not yes:
        typer.confirm("\n".join([*_forecast(settings, extents, forced=everything), "Go on?"]), abort=True)
    with progress() as bar:
        task = bar.add_task("resend", total=sum(extent.records for extent in extents.values()))
        counts = mend.resend_accepted(
            settings.postgres, names, who(), forced=everything, moved=lambda count: bar.advance(task, count)
        )
    if json:
        print_json({"marked": counts})
        return
    for name, count in counts.items():
        then = "be sent anew" if everything else "be assembled anew and, where they differ, sent"
        print_line(f"{name}: {count} orders will {then}, in the backfill lane")


def _forecast(settings: Settings, extents: dict[str, mend.Extent], *, forced: bool) -> list[str]:
    """A line for each destination: orders, bytes, and the time that the budget needs for them."""
    lines = []
    for name, extent in extents.items():
        size = int(extent.accepted * extent.document_bytes)
        most = "" if forced else "at most "
        took = span(budget_secs(settings, size))
        lines.append(f"{name}: {extent.accepted} orders, {most}{size / 1e6:.1f} MB, {most}{took} of the whole budget")
    return lines


def budget_secs(settings: Settings, size: int) -> float:
    """How long the byte budget takes for so many bytes, if nothing else used it."""
    return size / settings.delivery.budget_bytes * settings.delivery.budget_window_secs
