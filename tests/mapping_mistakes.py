"""Typical mistakes in a mapping file, each with what is said about it; run as a program, prints them all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from mapping_cases import SHOP, assemble, load, order_row, refund_rows, shop_rows

from daemon.document.outcome import Invalid
from daemon.errors import MappingError
from daemon.mapping.model import check_columns
from daemon.mapping.rows import StoredRow

MISTAKES: dict[str, tuple[str, str]] = {
    "a key misspelt": ("topic: shop.lines", "topik: shop.lines"),
    "a source misspelt": ("{source: variants, match", "{source: variant, match"),
    "a relation misspelt": ("coalesce(row.customer.email,", "coalesce(row.custmer.email,"),
    "a function misspelt": ("iso(order.placed_at)", "isso(order.placed_at)"),
    "an attribute misspelt": ("discount_codes:", "discount_code:"),
    "a variable misspelt": ("quantity: l.quantity", "quantity: line.quantity"),
    "a type misspelt": ("topic: shop.lines", "topic: shop.lines\n    types: {unit_price: numeric(10.2), x: varchr}"),
    "a required attribute left out": ("  tax: order.tax\n", ""),
    "a list that YAML takes for its own": ("order_tags: \"['web']\"", "order_tags: ['web']"),
    "a colon that YAML takes for its own": ("currency: order.currency", "currency: {'a': 'USD'}[order.shop]"),
    "a text that begins with a quote": ("currency: order.currency", "currency: 'US' ~ order.letter"),
    "a tab": ("  tax: order.tax", "\ttax: order.tax"),
    "braces of templates": ("currency: order.currency", 'currency: "{{ order.currency }}"'),
    "a filter": ("currency: order.currency", "currency: order.currency | upper"),
    "a method": ("currency: order.currency", "currency: order.currency.upper()"),
    "null in another language": ("customer_ip_address: order.ip", "customer_ip_address: null"),
    "and in another language": ("row.status != 'draft'", "row.status != 'draft' && row.total"),
    "a comparison with one sign": ("row.status == 'cancelled'", "row.status = 'cancelled'"),
    "an unequal of SQL": ("row.status != 'draft'", "row.status <> 'draft'"),
    "a question mark": ("tax: order.tax", "tax: order.tax ? order.tax : 0"),
    "an or of C": ("tax: order.tax", "tax: order.tax || 0"),
    "an is of SQL": ("row.status != 'draft'", "row.status is not null"),
    "an if without else": ("tax: order.tax", "tax: order.tax if order.tax"),
    "a list taken for a row": ("tax: order.tax", "tax: order.lines.tax"),
    "JSON text taken for an object": ("customer_ip_address: order.ip", "customer_ip_address: order.details.ip"),
    "a look-up by something that is no key": ("{sku: sku}", "{barcode: sku}"),
    "children that do not name their parent": ("{refund_id: id}", "{refund_no: number}"),
    "a match the wrong way round": ("{order_id: id}, sort", "{id: order_id}, sort"),
    "a source that nothing relates to": ("  variants: {", "  coupons: {topic: shop.coupons}\n  variants: {"),
    "two sources of one topic": ("topic: shop.variants", "topic: shop.lines"),
    "a derived column that needs itself": ("net: row.unit_price", "net: row.net"),
    "an address plain and hashed": (
        "customer_email: order.email",
        "customer_email: order.email\n  hashed_customer_email: order.email",
    ),
    "a key written twice": ("root: orders", "root: orders\nroot: orders"),
    "a dropped column that is used": ("topic: shop.lines", "topic: shop.lines\n    drop: [title]"),
    "a variable named like a function": ("{r: order.refunds}", "{r: order.refunds, first: r.lines}"),
    "shares without a row": ("refund_amount: r.shares[rl]", "refund_amount: r.shares"),
    "a sort that is more than a path": ("sort: [position, id]", 'sort: ["position + 1"]'),
    "an unknown policy": ("root: orders", "root: orders\nrefund_without_product: ignore"),
    "another grammar": ("version: 1", "version: 2"),
}


def told_by_the_file() -> Iterator[tuple[str, list[str]]]:
    """Each mistake and what loading the file says."""
    with tempfile.TemporaryDirectory() as directory:
        for name, (old, new) in MISTAKES.items():
            try:
                load(Path(directory), SHOP, (old, new))
            except MappingError as error:
                yield name, error.problems
            else:
                yield name, []


def told_by_the_topics() -> Iterator[tuple[str, list[str]]]:
    """What comes out once messages show other columns than the mapping names."""
    with tempfile.TemporaryDirectory() as directory:
        mapping = load(Path(directory))
    seen = {name: set(columns) for name, columns in mapping.columns_used().items()}
    seen["lines"] = seen["lines"] - {"unit_price"} | {"unit_prize"}
    yield "a column misspelt", check_columns(mapping, seen)


def told_by_an_order() -> Iterator[tuple[str, list[str]]]:
    """What comes out once an order is assembled."""
    with tempfile.TemporaryDirectory() as directory:
        mapping = load(Path(directory))
    rows = {
        "a decimal that arrives as text": _with("lines", unit_price="10.00"),
        "a null where a number is needed": _with("lines", discount=None),
        "a time without its zone": [order_row(placed_at="2026-03-01T07:59:10"), *shop_rows()[1:]],
        "a currency that the API does not know": [order_row(currency="usd"), *shop_rows()[1:]],
        "a refund that is stored negative": shop_rows() + refund_rows("-15.00"),
    }
    for name, given in rows.items():
        outcome = assemble(mapping, given)
        yield name, list(outcome.problems) if isinstance(outcome, Invalid) else [repr(outcome)]


def _with(source: str, **columns: object) -> list[StoredRow]:
    return [
        StoredRow(row.source, row.key, row.root, {**row.columns, **columns}) if row.source == source else row
        for row in shop_rows()
    ]


def snapshot() -> str:
    """All of them, as the file beside this one holds it."""
    lines = []
    for told in (told_by_the_file(), told_by_the_topics(), told_by_an_order()):
        for name, problems in told:
            lines += [f"# {name}", *problems, ""]
    return "\n".join(lines)


if __name__ == "__main__":
    print(snapshot(), end="")
