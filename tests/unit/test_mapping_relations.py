"""Relations as real shops need them: link tables of shared rows, several owners, polymorphic joins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mapping_cases import load

from daemon.document.assemble import Assembler
from daemon.errors import MappingError
from daemon.mapping.graph import Empties, Graph
from daemon.mapping.model import Mapping
from daemon.mapping.rows import StoredRow, Wanted
from daemon.mapping.structure import Link, Role, Step

SHOP = """
version: 1
root: orders
sources:
  orders:
    topic: s.orders
    key: [id]
    one:
      site: {source: sites, match: {id: "=1"}}
    many:
      lines: {source: lines, match: {order_id: id}}
      shipments: {source: shipments, match: {order_id: id}}
      adjustments: {source: adjustments, match: {order_id: id}}
      summaries: {source: summaries, match: {order_id: id, version: version}}
  lines:
    topic: s.lines
    key: [id]
    one:
      variant: {source: variants, match: {id: variant_id}}
      summary: {source: summaries, match: {order_id: order_id, version: order.version}}
    many:
      taxes: {source: adjustments, match: {owner_id: id, owner_type: "=Line"}}
  shipments:
    topic: s.shipments
    key: [id]
    many:
      taxes: {source: adjustments, match: {owner_id: id, owner_type: "=Shipment"}}
  adjustments:
    topic: s.adjustments
    key: [id]
    one:
      line: {source: lines, match: {id: owner_id, "=Line": owner_type}}
      reason: {source: reasons, match: {id: reason_id, "=Tax": reason_type}}
  summaries: {topic: s.summaries, key: [id]}
  variants:
    topic: s.variants
    key: [id]
    one:
      product: {source: products, match: {id: product_id}}
    many:
      options: {source: variant_options, match: {variant_id: id}, where: row.value.name, sort: value.type.position}
  variant_options:
    topic: s.variant_options
    key: [id]
    one:
      value: {source: option_values, match: {id: value_id}}
      variant: {source: variants, match: {id: variant_id}}
  option_values:
    topic: s.option_values
    key: [id]
    one:
      type: {source: option_types, match: {id: type_id}}
  option_types: {topic: s.option_types, key: [id]}
  products:
    topic: s.products
    key: [id]
    one:
      german: {source: translations, match: {product_id: id, locale: "=de"}}
    many:
      names: {source: translations, match: {product_id: id}}
  translations: {topic: s.translations, key: [product_id, locale]}
  reasons: {topic: s.reasons, key: [id]}
  sites: {topic: s.sites, key: [id]}
document:
  order_id: order.id
  customer_id: order.site.name
  time_of_purchase: order.at
  currency: order.currency
  purchase_total: order.total
  tax: total(order.adjustments, 'amount') + total(flat(order.lines, 'taxes'), 'amount')
  shipping_cost: total(flat(order.shipments, 'taxes'), 'amount')
  customer_name: coalesce(first(order.adjustments).reason.name, first(order.adjustments).line.id)
  products:
    for: {l: order.lines}
    item:
      id: l.id
      name: coalesce(l.variant.product.german.name, first(l.variant.product.names).name)
      quantity: l.summary.factor
      price: len(order.summaries)
      variant_name: join(col(l.variant.options, 'value.name'), ' / ')
"""


@pytest.fixture
def shop(tmp_path: Path) -> Mapping:
    return load(tmp_path, SHOP)


def row(source: str, key: str, root: str | None = None, parent: str | None = None, **columns: Any) -> StoredRow:
    return StoredRow(source, key, root, {"id": key} | columns, parent=parent)


ORDER = row("orders", "1", "1", version=3)
LINE = row("lines", "10", "1", order_id=1, variant_id=7)
SHARED = [
    row("variants", "7", product_id=5),
    row("variant_options", "a", parent="7", variant_id=7, value_id="red"),
    row("variant_options", "b", parent="7", variant_id=7, value_id="xl"),
    row("variant_options", "c", parent="8", variant_id=8, value_id="xl"),
    row("option_values", "red", name="Red", type_id="colour"),
    row("option_values", "xl", name="XL", type_id="size"),
    row("option_types", "colour", position=2),
    row("option_types", "size", position=1),
    row("products", "5"),
    StoredRow("translations", '["5","de"]', None, {"product_id": 5, "locale": "de", "name": "Hemd"}, parent="5"),
]


def order_of(mapping: Mapping, rows: list[StoredRow]) -> Any:
    return Graph(mapping, Empties(mapping), "1", rows, final=True).order


def value(mapping: Mapping, attribute: str, rows: list[StoredRow]) -> Any:
    rule = mapping.document[attribute]
    order = order_of(mapping, rows)
    if isinstance(rule, tuple):
        return [
            {name: part.evaluate({"l": line, "order": order}) for name, part in rule[0].item.items()}
            for line in order.attribute("lines")
        ]
    assert not isinstance(rule, dict)
    return rule.evaluate({"row": order, "order": order})


def test_structure(shop: Mapping) -> None:
    """Owners in the order in which they are tried; shared rows below shared rows are no order's."""
    sources = shop.structure.sources
    assert sources["adjustments"].owners == (
        Link("orders.adjustments", "adjustments", "orders", ("order_id",)),
        Link("lines.taxes", "adjustments", "lines", ("owner_id",), (("owner_type", "Line"),)),
        Link("shipments.taxes", "adjustments", "shipments", ("owner_id",), (("owner_type", "Shipment"),)),
    )
    assert sources["variant_options"].role is Role.SHARED
    assert [link.target for link in sources["variant_options"].owners] == ["variants"]
    assert shop.structure.steps(shared=True) == [
        Step("variant_options", "variants", ""),
        Step("translations", "products", ""),
    ]
    assert shop.structure.steps(shared=False) == [
        Step("adjustments", "lines", "lines/"),
        Step("adjustments", "shipments", "shipments/"),
    ]
    assert not shop.structure.nested
    # The way back to the variant is its own step; what it names besides is looked up.
    assert [link.target for link in sources["variant_options"].refs] == ["option_values"]
    assert [link.columns for link in sources["products"].refs] == [("id", "=de")]
    assert sources["products"].refs[0].target_key({"id": 5}) == '["5","de"]'
    assert sources["orders"].refs[0].target_key({}) == "1"


def test_needs_over_link_tables(shop: Mapping) -> None:
    """Rows below a looked-up row are asked for with it, and what those look up in turn."""
    assembler = Assembler(shop)
    have = [ORDER, LINE]
    asked: set[Wanted] = set()
    steps = []
    while wanted := assembler.needs(have) - asked:
        asked |= wanted
        have += [row for row in SHARED for name in wanted if name.fits(row)]
        steps.append(sorted(f"{name.source}{'<' if name.below else ' '}{name.key}" for name in wanted))
    assert (
        Assembler(shop).complete([ORDER, LINE], lambda names: [r for r in SHARED for n in names if n.fits(r)]) == have
    )
    assert steps == [
        ["sites 1", "variants 7"],
        ["products 5", "variant_options<7"],
        ["option_values red", "option_values xl", 'translations ["5","de"]', "translations<5"],
        ["option_types colour", "option_types size"],
    ]


def test_values_over_link_tables(shop: Mapping) -> None:
    """Filtered, sorted by a looked-up column, in the order's own terms, whoever else's rows were read too."""
    (item,) = value(shop, "products", [ORDER, LINE, *SHARED])
    assert item["variant_name"] == "XL / Red"
    assert item["name"] == "Hemd"
    french = [row for row in SHARED if row.source != "translations"]
    french.append(StoredRow("translations", '["5","fr"]', None, {"product_id": 5, "locale": "fr", "name": "Chemise"}))
    assert value(shop, "products", [ORDER, LINE, *french])[0]["name"] == "Chemise"


def test_columns_of_the_order_in_a_match(shop: Mapping) -> None:
    """The version in force is named by the order's own row."""
    rows = [
        ORDER,
        LINE,
        row("summaries", "50", "1", order_id=1, version=2, factor=20),
        row("summaries", "51", "1", order_id=1, version=3, factor=30),
    ]
    (item,) = value(shop, "products", [*rows, *SHARED])
    assert (item["quantity"], item["price"]) == (30, 1)


def test_polymorphic_joins(shop: Mapping) -> None:
    """A constant on either side: rows of the wrong type are none, on the way down and on the way up."""
    rows = [
        ORDER,
        LINE,
        row("shipments", "10", "1", order_id=1),
        row(
            "adjustments",
            "20",
            "1",
            order_id=1,
            owner_id=None,
            owner_type=None,
            amount=1,
            reason_id=4,
            reason_type="Tax",
        ),
        row("adjustments", "21", "1", order_id=None, owner_id=10, owner_type="Line", amount=20),
        row("adjustments", "22", "1", order_id=None, owner_id=10, owner_type="Shipment", amount=300),
        row("reasons", "4", name="VAT"),
    ]
    assert value(shop, "tax", rows) == 21
    assert value(shop, "shipping_cost", rows) == 300
    assert value(shop, "customer_name", rows) == "VAT"
    rows[3] = row(
        "adjustments", "20", "1", order_id=1, owner_id=10, owner_type="Shipment", reason_id=4, reason_type="X"
    )
    assert value(shop, "customer_name", rows) is None
    rows[3] = row("adjustments", "20", "1", order_id=1, owner_id=10, owner_type="Line", reason_id=4, reason_type="X")
    assert value(shop, "customer_name", rows) == "10"


NESTED = """
version: 1
root: orders
when: row.type == 'shop_order'
sources:
  orders:
    topic: s.orders
    key: [id]
    many:
      refunds: {source: orders, match: {parent_id: id, type: "=refund"}}
      items: {source: items, match: {order_id: id}}
  items: {topic: s.items, key: [id]}
document:
  order_id: order.id
  customer_id: order.id
  time_of_purchase: order.at
  currency: order.currency
  purchase_total: order.total
  tax: total(flat(order.refunds, 'items'), 'amount')
  shipping_cost: total(order.items, 'amount')
  products: {for: {l: order.items}, item: {id: l.id, name: l.id, quantity: l.amount, price: l.amount}}
"""


def test_a_root_that_refers_to_itself(tmp_path: Path) -> None:
    """Refunds in the orders' own table belong to their order, with their own lines."""
    mapping = load(tmp_path, NESTED)
    assert mapping.structure.nested
    assert mapping.structure.sources["orders"].role is Role.ROOT
    assert mapping.structure.steps(shared=False) == [Step("orders", "orders", ""), Step("items", "orders", "")]
    rows = [
        row("orders", "1", "1", type="shop_order", parent_id=0),
        row("orders", "9", "1", type="refund", parent_id=1),
        row("items", "20", "1", order_id=1, amount=10),
        row("items", "21", "1", order_id=9, amount=-4),
    ]
    assert (value(mapping, "tax", rows), value(mapping, "shipping_cost", rows)) == (-4, 10)


def test_a_nested_root_places_its_children_anew(tmp_path: Path) -> None:
    """What hangs below the root is resolved in another way once root rows belong to others."""
    plain = load(
        tmp_path,
        NESTED,
        ('      refunds: {source: orders, match: {parent_id: id, type: "=refund"}}\n', ""),
        ("total(flat(order.refunds, 'items'), 'amount')", "0"),
    ).structure
    nested = load(tmp_path, NESTED).structure
    assert plain.sources["items"].relations_version() == nested.sources["items"].relations_version()
    assert plain.relations_version("items") != nested.relations_version("items")


ITEMS = "items: {topic: s.items, key: [id]"
PRODUCTS = "  products: {topic: s.products, key: [id]}"
ON_ORDER = ITEMS + ", one: {p: {source: products, match: {id: order.product_id}}}}\n" + PRODUCTS
MIXED = (
    ITEMS
    + ", one: {p: {source: products, match: {id: product_id}}}}\n"
    + "  products: {topic: s.products, many: {items: {source: items, match: {product_id: id}}}}"
)
TWICE = (
    ITEMS
    + ", one: {p: {source: products, match: {id: product_id}}, s: {source: shops, match: {id: shop_id}}}}\n"
    + "  products: {topic: s.products, many: {tags: {source: tags, match: {product_id: id}}}}\n"
    + "  shops: {topic: s.shops, many: {tags: {source: tags, match: {shop_id: id}}}}\n"
    + "  tags: {topic: s.tags, key: [id]}"
)
REFUSED = [
    (ITEMS + "}", TWICE, "sources.shops.many.tags: rows of tags hang below products already; two such relations need"),
    (
        ITEMS,
        ITEMS + ", many: {back: {source: orders, match: {id: order_id}}}",
        "leads to the root orders; only orders itself can have rows of orders below it",
    ),
    ('{parent_id: id, type: "=refund"}', '{parent_id: id, "=a": "=b"}', "holds two constants against each other"),
    (ITEMS + "}", ON_ORDER, "matches a column of the order; only the order's own rows can be found by one"),
    (ITEMS + "}", MIXED, "products belongs to no order and items does; relate items to the order or to rows of it"),
]


def test_shared_rows_of_two_owners_told_apart(tmp_path: Path) -> None:
    """With a constant each, a shared row hangs below the one whose constant it has, and is asked for by that."""
    told = TWICE.replace("{product_id: id}", '{owner: id, kind: "=p"}').replace(
        "{shop_id: id}}}}", '{owner: id, kind: "=s"}}}}'
    )
    tags = ("name: l.id", "name: first(l.p.tags).id")
    mapping = load(tmp_path, NESTED, (ITEMS + "}", told), tags)
    assert mapping.structure.steps(shared=True) == [
        Step("tags", "products", "products/"),
        Step("tags", "shops", "shops/"),
    ]
    assert Assembler(mapping).needs([row("products", "5")]) == {Wanted("tags", "products/5", below=True)}


@pytest.mark.parametrize(("old", "new", "expected"), REFUSED)
def test_refused(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """Relations that lead nowhere are told with the cure."""
    with pytest.raises(MappingError) as caught:
        load(tmp_path, NESTED, (old, new))
    assert any(expected in problem for problem in caught.value.problems), caught.value.problems


def test_a_constant_key_under_a_condition_stays_constant() -> None:
    """The column that decides whether a link holds is no part of the key it leads to."""
    link = Link("orders.shop", "orders", "shops", ("=main",), (("kind", "web"),))
    assert [link.target_key({"kind": kind}) for kind in ("web", "till", None)] == ["main", None, None]
