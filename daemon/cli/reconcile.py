"""`reconcile`: what the API shows of the orders of some days, held against what it last accepted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Annotated, Any

import typer

from daemon.cli.context import ConfigOption, DestinationOption, JsonOption, destination_from, settings_from
from daemon.cli.mend import who
from daemon.cli.output import print_json, print_line, print_table, progress
from daemon.delivery.read_back import ReadBack
from daemon.delivery.reconcile import ONE_DAY, Days, Drift, Kind, Ours, compare, missed, placed_on
from daemon.document.difference import Document, parsed
from daemon.errors import SettingsError
from daemon.state.mend import Marking
from daemon.state.reconcile import Accepted, Books, Result

STRETCH = timedelta(days=31)
"""Days whose order ids are in memory at once; each stretch costs one look through the accepted orders."""

PAGE = 500  # orders of an answer that are compared at once


@dataclass(slots=True)
class Sums:
    """What was found so far; of the orders themselves the first few."""

    most_listed: int
    drift: Counter[Kind] = field(default_factory=Counter)
    compared: int = 0
    unfinished: int = 0
    listed: list[Drift] = field(default_factory=list)
    silent: dict[date, int] = field(default_factory=dict)

    def add(self, drift: Drift) -> None:
        """One order that is not as it should be."""
        self.drift[drift.kind] += 1
        if len(self.listed) < self.most_listed:
            self.listed.append(drift)


def reconcile(
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="The first day (UTC) of purchase.")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="The last one, included.")],
    config: ConfigOption = None,
    destination: DestinationOption = None,
    mark: Annotated[
        bool, typer.Option("--mark", help="Send missing and different orders anew, in the backfill lane.")
    ] = False,
    trust_empty: Annotated[
        bool, typer.Option("--trust-empty", help="Where the API shows no order of a day, its orders are missing.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="List at most so many orders.")] = 100,
    json: JsonOption = False,
) -> None:
    """Read orders back from the API day by day and say which are missing, extra or other than it accepted them.

    Delivery goes on meanwhile; orders that are on their way are not judged. The newest result is a metric of the
    daemon. Exit code 1 where something was found.
    """
    begin, end = first.date(), last.date()
    if end < begin:
        raise SettingsError(f"--from {begin} is after --to {end}; exchange them")
    settings = settings_from(config)
    name = destination_from(settings, destination)
    arguments = {"destination": name, "from": begin.isoformat(), "to": end.isoformat()}
    marking = Marking(settings.postgres, name, who(), "reconcile --mark", arguments) if mark else None
    sums = Sums(limit)
    with Books(settings.postgres, name, settings.delivery.vendor_settle_secs) as books:
        with (
            ReadBack(settings.destinations[name], settings.http, settings.delivery.connect_timeout_secs) as api,
            progress() as bar,
        ):
            task = bar.add_task("reconcile", total=(end - begin).days + 1)
            for stretch in _stretches(begin, end):
                _reconcile(books, api, stretch, sums, marking, trust_empty=trust_empty)
                bar.advance(task, (stretch.last - stretch.first).days + 1)
        marked = marking.marked if marking else 0
        counts = {kind.value: sums.drift[kind] for kind in Kind}
        counts |= {"unfinished": sums.unfinished, "silent_days": len(sums.silent), "marked": marked}
        books.note(Result(begin, end, sums.compared, **counts))
    found = _found(name, begin, end, sums, marked)
    print_json(found) if json else _print(found)
    raise typer.Exit(1 if sums.drift.total() or sums.silent else 0)


def _stretches(first: date, last: date) -> Iterator[Days]:
    while first <= last:
        end = min(first + STRETCH - ONE_DAY, last)
        yield Days(first, end)
        first = end + ONE_DAY


def _reconcile(
    books: Books, api: ReadBack, days: Days, sums: Sums, marking: Marking | None, *, trust_empty: bool
) -> None:
    for one in books.accepted():
        days.expect(one.order_id, placed_on(one.body or b""))
    began = books.now()
    for start, end in days.questions():
        asked_at = books.now()
        orders = (order for order in api.orders(start, end) if days.meets(_id(order), placed_on(order)))
        for page in _pages(orders, PAGE):
            known = books.by_id([_id(order) for order in page], asked_at)
            pairs = [(_ours(known.get(_id(order))), order) for order in page]
            sums.compared += len(pairs)
            sums.unfinished += sum(ours is not None and not _judged(ours) for ours, _ in pairs)
            _note(sums, marking, (compare(ours, order) for ours, order in pairs))
    for page in _pages(days.unmet(trust_empty=trust_empty), PAGE):
        known = books.by_id(page, began)
        found = [_ours(known.get(order_id)) for order_id in page]
        sums.unfinished += sum(ours is None or not _judged(ours) for ours in found)
        _note(sums, marking, map(missed, found))
    if not trust_empty:
        sums.silent |= days.silent()


def _id(order: Document) -> str:
    """As a text, whatever the API makes of it."""
    return str(order.get("order_id"))


def _pages(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    left = iter(items)
    while page := list(islice(left, size)):
        yield page


def _ours(record: Accepted | None) -> Ours | None:
    if record is None:
        return None
    document = parsed(record.body) if record.body is not None else None
    return Ours(record.order_key, record.order_id, document, record.finished)


def _judged(ours: Ours) -> bool:
    return ours.document is not None and ours.finished


def _note(sums: Sums, marking: Marking | None, found: Iterable[Drift | None]) -> None:
    drifts = [one for one in found if one is not None]
    for one in drifts:
        sums.add(one)
    if marking is not None and (keys := [one.order_key for one in drifts if one.order_key is not None]):
        marking.page(keys)


def _found(name: str, first: date, last: date, sums: Sums, marked: int) -> dict[str, Any]:
    return {
        "destination": name,
        "from": first,
        "to": last,
        "compared": sums.compared,
        **{kind.value: sums.drift[kind] for kind in Kind},
        "unfinished": sums.unfinished,
        "silent_days": [{"day": day, "accepted_orders": count} for day, count in sums.silent.items()],
        "marked": marked,
        "orders": [asdict(one) for one in sums.listed],
    }


def _print(found: dict[str, Any]) -> None:
    rows = [one | {"attributes": ", ".join(one["attributes"]) or None} for one in found["orders"]]
    columns: Sequence[str] = ["kind", "order_id", "order_key", "attributes"]
    print_table(f"Drift at {found['destination']}, orders of {found['from']} to {found['to']}", columns, rows)
    if found["silent_days"]:
        print_table("Days of which the API returned nothing", ["day", "accepted_orders"], found["silent_days"])
        print_line("Seen in the wild: ask again later; --trust-empty takes those orders for missing.")
    total = sum(found[kind.value] for kind in Kind)
    if total > len(rows):
        print_line(f"{total - len(rows)} more are not listed; see --limit")
    counts = ", ".join(f"{found[kind.value]} {kind.value}" for kind in Kind)
    print_line(f"{found['compared']} orders compared: {counts}; {found['unfinished']} on their way and not judged")
    if found["marked"]:
        print_line(f"{found['marked']} orders will be sent anew, in the backfill lane")
    elif found[Kind.MISSING.value] or found[Kind.DIFFERENT.value]:
        print_line("--mark sends missing and different orders anew.")
    if found[Kind.EXTRA.value]:
        print_line(f"Extra orders were sent to {found['destination']} by somebody else, or before this state began.")
