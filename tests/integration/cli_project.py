"""A settings file, a mapping and the command itself, for the tests of the commands."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from daemon.cli.main import main

KEY = "ORDER_SYNC_TEST_API_KEY"

MAPPING = """\
version: 1
root: orders
when: row.status != 'draft'
sources:
  orders:
    topic: {orders}
    key: [id]
    one:
      customer: {{source: customers, match: {{id: customer_id}}}}
    many:
      lines: {{source: lines, match: {{order_id: id}}, sort: id}}
  lines:
    topic: {lines}
    key: [id]
  customers:
    topic: {customers}
    key: [id]
document:
  order_id: order.number
  customer_id: text(order.customer_id)
  time_of_purchase: order.placed_at
  currency: order.currency
  purchase_total: order.total
  tax: 0
  shipping_cost: 0
  customer_email: order.customer.email
  products:
    for: {{l: order.lines}}
    item: {{id: l.sku, name: l.title, quantity: l.quantity, price: l.price}}
"""
TOPICS = {"orders": "shop.orders", "lines": "shop.lines", "customers": "shop.customers"}


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Its output as JSON."""
        return json.loads(self.out)


class Project:
    """A folder with a settings file and a mapping, in which commands are run within this process."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self.folder, self._patch, self._capture = folder, patch, capture
        patch.chdir(folder)
        patch.delenv("ORDER_SYNC_CONFIG", raising=False)
        self.sections: dict[str, Any] = {
            "mapping": "mapping.yaml",
            "kafka": {"bootstrap_servers": "127.0.0.1:1"},
            "destinations": {
                "main": {"base_url": "http://127.0.0.1:1", "client_id": "sandbox-client", "api_key_env": KEY}
            },
        }
        self.mapping()
        self.secret("sandbox-key")

    def mapping(self, text: str = MAPPING, **topics: str) -> None:
        """Write the mapping; topics by the name of their source."""
        (self.folder / "mapping.yaml").write_text(text.format(**TOPICS | topics))

    def secret(self, value: str | None) -> None:
        """Set or unset the API key."""
        if value is None:
            self._patch.delenv(KEY, raising=False)
        else:
            self._patch.setenv(KEY, value)

    def set(self, section: str, **values: object) -> None:
        """Set keys of one section."""
        self.sections.setdefault(section, {}).update(values)

    def destination(self, **values: object) -> None:
        """Set keys of the one destination."""
        self.sections["destinations"]["main"].update(values)

    def __call__(self, *arguments: str, write: bool = True) -> Ran:
        """Write the settings and run `order-sync` with these arguments."""
        if write:
            with (self.folder / "order-sync.yaml").open("w") as file:
                YAML(typ="safe", pure=True).dump(self.sections, file)
        self._capture.readouterr()
        self._patch.setattr(sys, "argv", ["order-sync", *arguments])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        output = self._capture.readouterr()
        return Ran(code, output.out, output.err)
