"""`plan`: what a mapping makes of the orders, against what was last accepted, before anything is sent."""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer

from daemon.cli.context import (
    ConfigOption,
    DestinationOption,
    JsonOption,
    RevealOption,
    destination_from,
    mapping_from,
    settings_from,
)
from daemon.cli.mask import masked
from daemon.cli.output import json_text, print_json, print_line, print_table, progress, span
from daemon.cli.resend import budget_secs
from daemon.cli.show import assembled, described
from daemon.document.assemble import Assembler
from daemon.document.difference import differences, parsed
from daemon.document.origin import origins, sums_of, values
from daemon.document.outcome import Invalid, Outcome, Ready
from daemon.errors import MappingError, SettingsError
from daemon.mapping.model import Mapping as MappingFile
from daemon.mapping.model import check_columns
from daemon.mapping.rows import StoredRow, Wanted
from daemon.settings import Settings
from daemon.state import mend, reads
from daemon.state.structure import check_rows

Found = dict[str, Any]


def plan(
    orders: Annotated[
        list[str] | None, typer.Argument(metavar="[ORDER_ID]...", help="Only these, whole; by key or id at the API.")
    ] = None,
    config: ConfigOption = None,
    mapping: Annotated[
        Path | None, typer.Option("--mapping", help="A mapping file; else that of the settings.", show_default=False)
    ] = None,
    destination: DestinationOption = None,
    examples: Annotated[int, typer.Option("--examples", min=0, help="Changed orders to show side by side.")] = 5,
    from_topic: Annotated[
        bool, typer.Option("--from-topic", help="Read the topics instead of the state: nothing need be deployed.")
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="With --from-topic: the newest messages of each partition.")
    ] = 1000,
    reveal: RevealOption = False,
    json: JsonOption = False,
) -> None:
    """What a mapping would change at a destination, against what was last accepted there. Sends and stores nothing.

    Orders named are shown whole: each value with the place in the mapping that made it, what is wrong, and whether
    the money adds up.
    """
    settings = settings_from(config)
    name = destination_from(settings, destination)
    file = mapping_from(settings, mapping)
    if from_topic:
        failed = _plan_topics(settings, file, name, orders or [], limit, examples, reveal=reveal, json=json)
    elif orders:
        failed = _plan_orders(settings, file, name, orders, reveal=reveal, json=json)
    else:
        found = _summary(settings, file, name, examples)
        if not reveal:
            found["examples"] = [masked_example(example) for example in found["examples"]]
        print_json(found) if json else _print_summary(found)
        failed = False
    raise typer.Exit(1 if failed else 0)


def _check(settings: Settings, file: MappingFile) -> None:
    """Raises what says why the stored rows cannot tell what this mapping would do."""
    with reads.reading(settings.postgres) as cursor:
        seen = reads.columns_seen(cursor)
    if problems := check_columns(file, seen):
        raise MappingError(problems)
    check_rows(settings.postgres, file.structure)


# All orders of a destination


def _summary(settings: Settings, file: MappingFile, name: str, examples: int) -> Found:
    from daemon.delivery.plan import Fate  # brings the delivery's libraries: no order that is named needs them

    _check(settings, file)
    plan = asyncio.run(_planned(settings, file, name, examples))
    sent = sum(plan.orders[fate] for fate in (Fate.CHANGED, Fate.UNCERTAIN, Fate.NEW, Fate.VOIDED))
    return {
        "destination": name,
        "mapping": file.path,
        "version": file.version,
        "orders": {fate.value: plan.orders[fate] for fate in Fate},
        "requested": {"orders": sent, "bytes": plan.size, "budget_secs": round(budget_secs(settings, plan.size), 1)},
        "attributes": dict(plan.attributes.most_common()),
        "faults": [
            {"reason": reason, "orders": count, "order_key": key, "detail": detail}
            for reason, count in plan.faults.most_common()
            for key, detail in [plan.fault_examples[reason]]
        ],
        "examples": [
            {
                "order_key": example.order_key,
                "order_id": example.order_id,
                "fate": example.fate.value,
                "differences": _side_by_side(example.differences),
            }
            for example in plan.examples
        ],
    }


async def _planned(settings: Settings, file: MappingFile, name: str, examples: int) -> Any:
    """Judge every order of the destination as delivery would, a page in memory at a time."""
    from daemon.delivery.assembly import Assembly
    from daemon.delivery.judge import Rules
    from daemon.delivery.plan import Known, Plan
    from daemon.state.database import async_pool
    from daemon.state.delivery_records import DueOrder
    from daemon.state.delivery_store import PostgresDeliveryStore

    with reads.reading(settings.postgres) as cursor:
        number = mend.registered(cursor, [name])[name]
        [count] = reads.records(cursor, "order_count", destination=number)
    plan = Plan(examples)
    async with async_pool(settings.postgres) as pool:
        store = PostgresDeliveryStore(pool, settings.postgres)
        assembly = Assembly(store, file, name, number, Rules.of(file, settings.delivery))
        with progress() as bar:
            task = bar.add_task("plan", total=count["orders"])
            for records in reads.order_pages(settings.postgres, number):
                page = [
                    Known(
                        DueOrder(
                            record["order_key"],
                            record["lane"],
                            record["revision"],
                            record["read_at"],
                            ever_attempted=record["ever_attempted"],
                            voided=record["voided"],
                            send_alone=record["send_alone"],
                            vendor_order_id=record["vendor_order_id"],
                            waited_secs=record["waited_secs"],
                        ),
                        record["last_accepted"],
                        record["certain"],
                    )
                    for record in records
                ]
                plan.add(page, await assembly.gather([one.as_accepted() for one in page], monotonic))
                bar.advance(task, len(page))
    return plan


def _side_by_side(found: Mapping[str, tuple[Any, Any]]) -> list[Found]:
    return [{"attribute": name, "accepted": before, "planned": after} for name, (before, after) in found.items()]


def masked_example(example: Found) -> Found:
    """The same without personal values."""
    return example | {"differences": [_masked_difference(one) for one in example["differences"]]}


def _masked_difference(one: Found) -> Found:
    name = one["attribute"]
    return one | {side: masked({name: one[side]})[name] for side in ("accepted", "planned")}


def _print_summary(found: Found) -> None:
    print_line(f"{found['destination']} by {found['mapping']}, version {found['version'][:12]}\n")
    print_table(
        "Orders, against what was last accepted",
        ["fate", "orders"],
        [{"fate": fate.replace("_", " "), "orders": count} for fate, count in found["orders"].items() if count],
    )
    attributes = [{"attribute": name, "orders": count} for name, count in found["attributes"].items()]
    print_table("Attributes that change", ["attribute", "orders"], attributes)
    if found["faults"]:
        print_table("Would go into quarantine", ["reason", "orders", "order_key", "detail"], found["faults"])
    for example in found["examples"]:
        title = f"{example['order_id']} ({example['fate']})"
        rows = [{name: _text(value) for name, value in one.items()} for one in example["differences"]]
        print_table(title, ["attribute", "accepted", "planned"], rows)
    sent = found["requested"]
    took = span(sent["budget_secs"])
    print_line(f"would send {sent['orders']} orders, {sent['bytes'] / 1e6:.1f} MB: {took} of the whole budget")
    print_line("A new mapping sends none of them by itself: see `order-sync resend --changed`.")


def _text(value: Any) -> str:
    return "-" if value is None else value if isinstance(value, str) else json_text(value)


# Single orders


def _plan_orders(
    settings: Settings, file: MappingFile, name: str, orders: Sequence[str], *, reveal: bool, json: bool
) -> bool:
    _check(settings, file)
    made = []
    with reads.reading(settings.postgres) as cursor:
        for order in orders:
            records = reads.records(cursor, "order_records", order=order)
            key = records[0]["order_key"] if records else order
            rows = reads.rows_of_order(cursor, key)
            if not rows:
                raise SettingsError(f"order {order}: no rows of it have arrived; `order-sync show {order}` says more")
            outcome, _ = assembled(cursor, file, key, rows, name)
            bodies = [record["last_accepted"] for record in records if record["destination"] == name]
            accepted = zlib.decompress(bodies[0]) if bodies and bodies[0] is not None else None
            made.append(_rendered(file, key, outcome, accepted))
    return _show(made, reveal=reveal, json=json)


def _rendered(file: MappingFile, key: str, outcome: Outcome, accepted: bytes | None) -> Found:
    """One order whole. `accepted` is the document last accepted."""
    said, document = described(outcome)
    found: Found = {"order_key": key, "outcome": said, "ready": isinstance(outcome, Ready), "document": document}
    found["problems"] = list(outcome.problems) if isinstance(outcome, Invalid) else []
    if isinstance(outcome, Ready):
        found["oddities"] = sorted(set(outcome.oddities))
        sums = sums_of(document)
        found["sums"] = asdict(sums) | {"gap": sums.gap, "agree": sums.agree}
    found["changes"] = None
    if accepted is not None and document is not None:
        found["changes"] = _side_by_side(differences(parsed(accepted), document))
    known = origins(file)
    found["values"] = [
        {
            "path": value.path,
            "value": value.value,
            "place": ", ".join(str(one.place) for one in value.origins) or None,
            "expression": " | ".join(" ".join(one.text.split()) for one in value.origins) or "(the engine)",
        }
        for value in values(document or {}, known)
    ]
    return found


def _show(made: list[Found], *, reveal: bool, json: bool) -> bool:
    """Print orders; whether one of them cannot be sent for a fault of its own."""
    if not reveal:
        made = [_masked(found) for found in made]
    if json:
        print_json(made)
    else:
        for found in made:
            _print_order(found)
        if not reveal:
            print_line("Personal values are masked by the name of their attribute; --reveal shows them.")
    return any(found["problems"] for found in made)


def _masked(found: Found) -> Found:
    return found | {
        "document": masked(found["document"]),
        "changes": found["changes"] and [_masked_difference(one) for one in found["changes"]],
        "values": [one | {"value": masked({one["path"]: one["value"]})[one["path"]]} for one in found["values"]],
    }


def _print_order(found: Found) -> None:
    print_line(f"order {found['order_key']}: {found['outcome']}")
    for problem in found["problems"]:
        print_line(f"  {problem}")
    rows = [one | {"value": _text(one["value"]), "place": one["place"] or "-"} for one in found["values"]]
    if rows:
        print_table("Document", ["path", "value", "place", "expression"], rows)
    if sums := found.get("sums"):
        verdict = "adds up" if sums["agree"] else f"does NOT add up: {sums['gap']:f} is missing from the lines"
        parts = f"lines {sums['lines']:f} + tax {sums['tax']:f} + shipping {sums['shipping']:f}"
        print_line(f"sums: {parts}, total {sums['total']:f}: {verdict}")
    if found["changes"] is None:
        print_line("never accepted so far\n" if found["document"] is not None else "")
    elif found["changes"]:
        changes = [{name: _text(value) for name, value in one.items()} for one in found["changes"]]
        print_table("Against what was last accepted", ["attribute", "accepted", "planned"], changes)
    else:
        print_line("as it was last accepted\n")


# Before anything is deployed


def _plan_topics(
    settings: Settings,
    file: MappingFile,
    name: str,
    orders: Sequence[str],
    limit: int,
    examples: int,
    *,
    reveal: bool,
    json: bool,
) -> bool:
    from daemon.cli.from_topic import read  # brings Kafka's client: no other path of this command needs it

    found = read(settings.kafka, file, limit)
    assembler = Assembler(file, name)
    outcomes: Counter[str] = Counter()
    made: list[Found] = []
    wanted = set(orders)
    for key in found.order_keys():
        outcome = _from_rows(assembler, key, found.of_order[key], found.shared)
        outcomes[type(outcome).__name__.lower()] += 1
        order_id = outcome.document.order_id if isinstance(outcome, Ready) else None
        if wanted & {key, order_id} or (not orders and len(made) < examples):
            made.append(_rendered(file, key, outcome, None))
            wanted -= {key, order_id}
    if wanted:
        raise SettingsError(
            f"order {min(wanted)}: its own row is not among the newest {limit} messages of each partition; "
            "give a larger --limit, or the row's key, by which an order without a document goes"
        )
    if not json:
        for line in _read_lines(found.messages, outcomes, found.rejects, found.unread):
            print_line(line)
    return _show(made, reveal=reveal, json=json)


def _from_rows(
    assembler: Assembler, key: str, rows: Iterable[StoredRow], known: Mapping[Wanted, Sequence[StoredRow]]
) -> Outcome:
    complete = assembler.complete(rows, lambda wanted: [row for name in wanted for row in known.get(name, ())])
    return assembler.assemble(key, complete)


def _read_lines(
    messages: int, outcomes: Mapping[str, int], rejects: Mapping[str, int], unread: Sequence[str]
) -> Iterator[str]:
    counts = ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items()))
    yield f"{messages} messages read, {sum(outcomes.values())} orders: {counts or 'none'}"
    for why, count in sorted(rejects.items()):
        yield f"{count} messages cannot be decoded: {why}"
    for topic in unread:
        yield f"topic {topic}: not there, or not read to its end in time; rows are missing"
    yield ""
