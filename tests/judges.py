"""Random rows and random orders, judged by the document's rules and by the sandbox's transcription of the contract."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from decimal import Decimal
from typing import Any

from mapping_cases import assemble, refund_rows, shop_rows

from daemon.document.order import LARGEST, breaches
from daemon.document.outcome import Ready
from daemon.mapping.model import Mapping
from daemon.mapping.rows import StoredRow
from daemon.sandbox.contract import read

ORDER: dict[str, Any] = {
    "order_id": "A-1",
    "customer_id": "C-1",
    "time_of_purchase": "2026-03-01T10:00:00Z",
    "currency": "USD",
    "purchase_total": Decimal("16.00"),
    "tax": 1,
    "shipping_cost": 0,
    "discount_amount": Decimal("3.5"),
    "discount_codes": ["X", "Y"],
    "order_tags": ["web"],
    "is_recurring_order": False,
    "customer_email": "jane@example.com",
    "customer_phone_number": "+12125551234",
    "customer_name": "Jane",
    "customer_ip_address": "2001:db8::1",
    "customer_shipping_address": {
        "address1": "1 Main St",
        "address2": "",
        "city": "Town",
        "state": "",
        "zip": "1",
        "country_code": "USA",
    },
    "products": [
        {
            "id": "P-1",
            "name": "Mug",
            "quantity": 2,
            "price": Decimal("7.5"),
            "variant_id": "V-1",
            "variant_name": "Red",
        },
        {"id": "P-2", "name": "Cup", "quantity": Decimal("0.5"), "price": 0},
    ],
    "refunds": [
        {
            "product_id": "P-1",
            "quantity": 1,
            "refund_amount": Decimal("7.5"),
            "refund_cost": 8,
            "refund_made_at": "2026-03-02T10:00:00.123+02:00",
        }
    ],
    "alternate_order_ids": [{"type": "custom:erp", "id": "E-9"}],
}

VALUES: list[Any] = [
    *(None, True, False, [], {}, ["x"], ["x", "x"], [""], [1], [{}], [[]]),
    *("", " ", "x", "0", "é", "\U0001f600", "USD", "usd", "USDT", "BYN", "USA", "US", "XKX", "xUSAx"),
    *(0, 1, -1, Decimal("2.5"), Decimal("0.10"), Decimal("-0.01"), LARGEST, int(LARGEST) + 1, Decimal("1E+14")),
    *("2026-03-01T10:00:00", "2026-03-01T10:00:00Z", "2026-03-01 10:00:00+01:00", "2026-03-01", "2026-13-01T10:00:00Z"),
    *("jane@example.com", "jane@", "a@b", "1.2.3.4", "1.2.3.256", "1.2.3.4/8"),
]

WE_ARE_STRICTER = ("is negative",)
"""What this project never sends although the contract lets it pass."""


def bent(lots: random.Random) -> dict[str, Any]:
    """An order with none to three of its values replaced, taken out, doubled, or put where they do not belong."""
    order = copy.deepcopy(ORDER)
    for _ in range(lots.choice((0, 1, 1, 1, 2, 3))):
        places = list(_places(order))
        holder, key = lots.choice(places)
        turn = lots.random()
        if turn < 0.25:
            del holder[key]
        elif turn < 0.35 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        elif turn < 0.45 and isinstance(holder, dict):
            holder[lots.choice(("status", "note", "hashed_customer_email", "variant_id", "id"))] = lots.choice(VALUES)
        else:
            holder[key] = copy.deepcopy(lots.choice(VALUES))
    return order


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from _places(item)


def _exact(number: Decimal) -> str:
    return f"\x00{number:f}\x00"


def disagreement(order: dict[str, Any]) -> str | None:
    """What one judge says and the other does not."""
    body = (
        json.dumps(order, default=_exact, ensure_ascii=False).replace('"\\u0000', "").replace('\\u0000"', "").encode()
    )
    ours = [str(breach) for breach in breaches(order) if not breach.what.startswith(WE_ARE_STRICTER)]
    theirs = [str(problem) for problem in read(b"[" + body + b"]").problems]
    return None if bool(ours) == bool(theirs) else f"{body.decode()}\n  here: {ours}\n  sandbox: {theirs}"


def random_rows(lots: random.Random) -> list[StoredRow]:
    """The shop's order with a refund, some of its columns replaced."""
    rows = shop_rows() + refund_rows()
    for index, row in enumerate(rows):
        columns = dict(row.columns)
        for name in columns:
            if lots.random() < 0.04:
                columns[name] = copy.deepcopy(lots.choice(VALUES))
        rows[index] = StoredRow(row.source, row.key, row.root, columns)
    return rows


def outcomes(mapping: Mapping, lots: random.Random, rows: int) -> Counter[str]:
    """Assemble so many random rows; what came of them. Raises AssertionError where the sandbox refuses a document."""
    found: Counter[str] = Counter()
    while found["rows"] < rows:
        stored = random_rows(lots)
        outcome = assemble(mapping, stored, final=True)
        found.update({"rows": len(stored), type(outcome).__name__: 1})
        if isinstance(outcome, Ready):
            problems = read(b"[" + outcome.document.body + b"]").problems
            assert not problems, (outcome.document.body, problems)
    return found
