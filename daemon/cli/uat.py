"""`uat`: have the vendor's test host judge real documents, outside of everything that delivery remembers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer
from pydantic import ValidationError

from daemon.cli.context import (
    ConfigOption,
    DestinationOption,
    JsonOption,
    destination_from,
    mapping_from,
    settings_from,
)
from daemon.cli.mask import unpersonal
from daemon.cli.output import print_json, print_line, print_table, progress
from daemon.cli.show import assembled, described
from daemon.delivery.orders_api import HttpOrdersApi
from daemon.delivery.verdict import Kind, Verdict, verdict_of
from daemon.document.difference import parsed
from daemon.document.outcome import Document, Ready
from daemon.errors import SettingsError
from daemon.mapping.model import Mapping
from daemon.settings import Destination, PublicKey, Secret, Settings, Uat
from daemon.state import reads
from daemon.state.database import Cursor
from daemon.state.delivery_records import array_bytes

LOOKED_AT = 20  # times as many orders are looked at as are wanted: not every one can be sent
NOT_POSTED = "not posted"
ANONYMOUS = "None"
"""What the vendor's pages send as the key of its public test account."""


@dataclass(slots=True)
class Tried:
    """One order: its document, and what became of it alone and within a batch."""

    order_key: str
    document: Document | None
    single: str = NOT_POSTED
    batched: str = NOT_POSTED
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether the host takes it either way; a batch that others sank says nothing of it."""
        return self.single == Kind.ACCEPTED and self.batched in (Kind.ACCEPTED, "")

    def add(self, detail: str) -> None:
        """More of what was said, without the order's personal values."""
        if self.document is not None and detail:
            clean = unpersonal(detail, parsed(self.document.body))
            self.detail = clean if self.detail in ("", clean) else f"{self.detail}; {clean}"


def uat(
    orders: Annotated[
        list[str] | None, typer.Argument(metavar="[ORDER_ID]...", help="Order keys, or ids at the API.")
    ] = None,
    config: ConfigOption = None,
    count: Annotated[
        int, typer.Option("--orders", min=1, max=1000, help="So many of the newest that can be sent.")
    ] = 10,
    destination: DestinationOption = None,
    url: Annotated[
        str | None, typer.Option("--url", help="Another host than that of the settings, such as a sandbox.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Post real orders to the vendor's test host, each alone and all in batches, and say what it makes of each.

    Exit code 0 only if all pass. The host judges the form of orders and keeps nothing; production is refused.
    """
    settings = settings_from(config)
    name = destination_from(settings, destination)
    host = _host(settings, url)
    mapping = mapping_from(settings)
    tried = _documents(settings, mapping, name, orders or [], count)
    asyncio.run(_try(settings, host, [one for one in tried if one.document is not None]))
    found = [
        {
            "order_key": one.order_key,
            "order_id": one.document and one.document.order_id,
            "single": one.single,
            "batched": one.batched or "refused for others",
            "detail": one.detail,
            "passed": one.passed,
        }
        for one in tried
    ]
    passed = sum(one.passed for one in tried)
    if json:
        print_json({"host": host.base_url, "passed": passed == len(tried), "orders": found})
    else:
        print_table(f"Posted to {host.base_url}", ["order_key", "order_id", "single", "batched", "detail"], found)
        print_line(f"{passed} of {len(tried)} orders pass")
    raise typer.Exit(0 if passed == len(tried) else 1)


def _host(settings: Settings, url: str | None) -> Uat:
    """Where to post. Raises SettingsError for production, and for no URL."""
    if url is None:
        return settings.uat
    try:
        return Uat.model_validate(settings.uat.model_dump() | {"base_url": url})
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise SettingsError(f"--url {url}: {reason}") from None


def _documents(settings: Settings, mapping: Mapping, name: str, named: Sequence[str], count: int) -> list[Tried]:
    """The orders to try. Of those that are named, also the ones that cannot be posted."""
    found: list[Tried] = []
    with reads.reading(settings.postgres) as cursor:
        for key in _keys(cursor, mapping, named, count):
            rows = reads.rows_of_order(cursor, key)
            if not rows:
                raise SettingsError(f"order {key}: no rows of it have arrived; `order-sync show {key}` says more")
            outcome, _ = assembled(cursor, mapping, key, rows, name)
            if isinstance(outcome, Ready):
                found.append(Tried(key, outcome.document))
            elif named:
                found.append(Tried(key, None, detail=described(outcome)[0]))
            if not named and len(found) == count:
                break
    if not found:
        raise SettingsError("no order can be made of the rows that have arrived; `order-sync plan` says why")
    return found


def _keys(cursor: Cursor, mapping: Mapping, named: Sequence[str], count: int) -> Iterator[str]:
    for order in named:
        records = reads.records(cursor, "order_records", order=order)
        yield records[0]["order_key"] if records else order
    if not named:
        newest = reads.records(cursor, "newest_orders", root=mapping.root, limit=count * LOOKED_AT)
        yield from (record["key"] for record in newest)


async def _try(settings: Settings, host: Uat, tried: Sequence[Tried]) -> None:
    secret = Secret(host.api_key_env) if host.api_key_env else PublicKey(ANONYMOUS)
    secret.read()  # refuses before anything is posted
    target = Destination(base_url=host.base_url, client_id=host.client_id)
    chosen = settings.delivery
    batches = list(_batches(tried, chosen.max_orders_per_request, chosen.max_request_bytes))
    async with HttpOrdersApi(target, settings.http, chosen.connect_timeout_secs, time.monotonic, secret) as api:

        async def post(orders: Sequence[Tried]) -> Verdict:
            body = b"[" + b",".join(one.document.body for one in orders if one.document) + b"]"
            timeout = chosen.request_timeout_secs
            answer = await api.post(body, begin_by=time.monotonic() + timeout, timeout_secs=timeout)
            return verdict_of(answer, datetime.now(UTC))

        with progress() as bar:
            task = bar.add_task("uat", total=len(batches) + len(tried))
            for batch in batches:
                _judge_batch(batch, await post(batch))
                bar.advance(task)
            for one in tried:
                _judge_single(one, await post([one]))
                bar.advance(task)


def _batches(tried: Sequence[Tried], most_orders: int, most_bytes: int) -> Iterator[list[Tried]]:
    batch: list[Tried] = []
    for one in tried:
        if one.document is None:
            continue
        grown = array_bytes(other.document.body for other in (*batch, one) if other.document)
        if batch and (len(batch) >= most_orders or grown > most_bytes):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _judge_single(one: Tried, verdict: Verdict) -> None:
    refused = verdict.kind is Kind.ACCEPTED and bool(verdict.faults)
    one.single = Kind.REJECTED if refused else verdict.kind
    one.add("; ".join(fault.message for fault in verdict.faults) or verdict.detail)


def _judge_batch(batch: Sequence[Tried], verdict: Verdict) -> None:
    named = {fault.order_id: fault.message for fault in verdict.faults}
    for one in batch:
        order_id = one.document.order_id if one.document else ""
        if order_id in named:
            one.batched = Kind.REJECTED
            one.add(named[order_id])
        elif verdict.kind is Kind.REJECTED and named:
            one.batched = ""
        else:
            one.batched = verdict.kind
            one.add(verdict.detail if verdict.kind is not Kind.ACCEPTED else "")
