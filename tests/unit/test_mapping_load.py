"""Loading the mapping file: what follows from the relations, and what each mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from mapping_cases import SHOP, load, order_row, shop_rows

from daemon.errors import MappingError
from daemon.mapping.expressions import Expression
from daemon.mapping.loader import load_mapping
from daemon.mapping.model import check_columns, check_destinations
from daemon.mapping.rows import lookups
from daemon.mapping.structure import Link, Role


def problems(directory: Path, *changes: tuple[str, str]) -> list[str]:
    """What is wrong with the shop's mapping after changes."""
    with pytest.raises(MappingError) as caught:
        load(directory, SHOP, *changes)
    return caught.value.problems


def test_roles_owners_and_refs(tmp_path: Path) -> None:
    """To-many relations make owners, to-one relations to other rows make refs."""
    structure = load(tmp_path).structure
    assert {name: source.role for name, source in structure.sources.items()} == {
        "orders": Role.ROOT,
        "lines": Role.OWNED,
        "refunds": Role.OWNED,
        "refund_lines": Role.OWNED,
        "customers": Role.SHARED,
        "addresses": Role.SHARED,
        "variants": Role.SHARED,
    }
    assert structure.sources["refund_lines"].owners == (
        Link("refunds.lines", "refund_lines", "refunds", ("refund_id",)),
    )
    assert [link.target for link in structure.sources["orders"].refs] == ["customers", "addresses"]
    assert structure.sources["refund_lines"].refs == (), "the order's own tree marks it due by itself"


def test_on_change_ignore_is_no_ref(tmp_path: Path) -> None:
    """A relation with on_change: ignore is looked up and never followed backwards."""
    mapping = load(tmp_path, SHOP, ("required: false}", "required: false, on_change: ignore}"))
    assert mapping.structure.sources["lines"].refs == ()
    assert mapping.sources["lines"].one["variant"].link is not None


def test_keys_follow_from_relations(tmp_path: Path) -> None:
    """A source without a key has the columns by which others name it."""
    mapping = load(tmp_path, SHOP, ("{topic: shop.customers, key: [id]}", "{topic: shop.customers}"))
    assert mapping.structure.sources["customers"].key == ("id",)


def test_versions_follow_the_content(tmp_path: Path) -> None:
    """Comments change no version, an expression changes the mapping's alone, a topic both."""
    first = load(tmp_path)
    comment = load(tmp_path, SHOP, ("version: 1", "# words\nversion: 1"))
    expression = load(tmp_path, SHOP, ("order_id: order.number", "order_id: order.id"))
    topic = load(tmp_path, SHOP, ("shop.lines", "shop.lines2"))
    assert comment.version == first.version
    assert expression.version != first.version
    assert expression.structure.version == first.structure.version
    assert topic.version != first.version
    assert topic.structure.version != first.structure.version


def test_a_required_topic_reads_no_row_anew(tmp_path: Path) -> None:
    """`required: true` belongs to the source and leaves the structure's version alone; no other word is taken."""
    first = load(tmp_path)
    needed = load(tmp_path, SHOP, ("topic: shop.lines", "topic: shop.lines\n    required: true"))
    assert not first.structure.sources["lines"].required
    assert needed.structure.sources["lines"].required
    assert needed.structure.version == first.structure.version
    (problem,) = problems(tmp_path, ("topic: shop.lines", "topic: shop.lines\n    required: maybe"))
    assert "sources.lines.required: must be one of true, false" in problem


def test_yaml_words_stay_text(tmp_path: Path) -> None:
    """`NO` and `on` are words, as in YAML 1.2, and a column may have such a name."""
    mapping = load(tmp_path, SHOP, ("match: {id: customer_id}", "match: {id: NO}"))
    assert mapping.structure.sources["orders"].refs[0].columns == ("NO",)


def test_yaml_words_stay_text_everywhere(tmp_path: Path) -> None:
    """Keys and values that YAML 1.1 takes for something else, and texts over several lines."""
    folded = "order_id: >-\n    order.number\n    ~ order.NO"
    changes = (
        ("root: orders", "constants: {on: 1, NO: \"'Norway'\", yes: 0x1F == 31 or 2}\nroot: orders"),
        ("topic: shop.lines", "topic: shop.lines\n    defaults: {off: 1_000, y: 1.10, n: true}"),
        ("order_id: order.number", folded),
    )
    mapping = load(tmp_path, SHOP, *changes)
    defaults = mapping.sources["lines"].defaults
    assert {name: str(value) for name, value in defaults.items()} == {"off": "1000", "y": "1.10", "n": "True"}
    rule = mapping.document["order_id"]
    assert isinstance(rule, Expression)
    assert rule.text == "order.number ~ order.NO"


def test_two_constant_relations_share_an_owner(tmp_path: Path) -> None:
    """Two relations that differ by a constant own all rows of their source."""
    mapping = load(
        tmp_path,
        SHOP,
        (
            "lines: {source: lines, match: {order_id: id}, sort",
            'lines: {source: lines, match: {order_id: id, kind: "=item"}, sort',
        ),
        ("      refunds: {s", '      fees: {source: lines, match: {order_id: id, kind: "=fee"}}\n      refunds: {s'),
    )
    assert mapping.structure.sources["lines"].owners == (Link("orders.lines", "lines", "orders", ("order_id",)),)


def test_a_constant_is_part_of_a_lone_owner(tmp_path: Path) -> None:
    """A polymorphic child belongs to the order only under its constant."""
    mapping = load(tmp_path, SHOP, ("match: {order_id: id}, sort", 'match: {order_id: id, kind: "=item"}, sort'))
    (owner,) = mapping.structure.sources["lines"].owners
    assert owner.constants == (("kind", "item"),)
    assert owner.target_key({"order_id": 1, "kind": "fee"}) is None


def test_columns_used_and_check(tmp_path: Path) -> None:
    """Columns that the topics never showed are named with place and near miss, unless a default is declared."""
    mapping = load(tmp_path)
    used = mapping.columns_used()
    assert set(used["lines"]) == {"id", "order_id", "position", "sku", "unit_price", "quantity", "discount", "title"}
    seen = {name: set(columns) for name, columns in used.items()}
    assert check_columns(mapping, seen) == []
    seen["lines"] = (seen["lines"] - {"unit_price"}) | {"unitprice"}
    (problem,) = check_columns(mapping, seen)
    assert problem.startswith("mapping.yaml:")
    assert "lines.unit_price" in problem
    assert "did you mean unitprice?" in problem
    defaulted = load(tmp_path, SHOP, ("topic: shop.lines", "topic: shop.lines\n    defaults: {unit_price: 0}"))
    assert check_columns(defaulted, seen) == []
    assert check_columns(mapping, {}) == [], "nothing read yet is no problem"


def test_lookups_of_a_row(tmp_path: Path) -> None:
    """A row points at the targets of its to-one relations; null, unknown and deleted point nowhere."""
    mapping = load(tmp_path)
    rows = shop_rows()
    assert list(lookups(mapping, rows[0])) == [("customers", "7"), ("addresses", "9")]
    assert list(lookups(mapping, rows[1])) == [("variants", "S11")]
    assert list(lookups(mapping, order_row(customer_id=None))) == [("addresses", "9")]


MISTAKES = {
    "unknown key": (
        "topic: shop.lines",
        "topik: shop.lines",
        "20:5: sources.lines.topik: unknown key; did you mean `topic`?",
    ),
    "missing key": ("topic: shop.lines\n", "\n", "sources.lines.topic: is missing"),
    "unknown source": (
        "{source: variants, match",
        "{source: variant, match",
        "unknown source `variant`; did you mean `variants`?",
    ),
    "unknown root": ("root: orders", "root: order", "3:1: root: unknown source `order`; did you mean `orders`?"),
    "unknown relation": (
        "coalesce(row.customer.email,",
        "coalesce(row.custmer.email,",
        (
            "18:14: sources.orders.let.email: coalesce(row.custmer.email, row.guest_email): `.email` after a column "
            "or a value, which has no parts; no relation `custmer` is declared for orders; did you mean `customer`, "
            "or is it JSON text?"
        ),
    ),
    "unknown function": (
        "iso(order.placed_at)",
        "isoo(order.placed_at)",
        "unknown function `isoo`; did you mean `iso`?",
    ),
    "wrong arguments": ("split(order.codes, ',')", "split(order.codes)", "split(x, separator) is called wrongly"),
    "unknown name": (
        "currency: order.currency",
        "currency: ordr.currency",
        "unknown name `ordr`; did you mean `order`?",
    ),
    "null written otherwise": ("product_id: none", "product_id: null", "unknown name `null`; "),
    "syntax": ("l.net / l.quantity", "l.net / ", "document.products.price: l.net /: is not an expression"),
    "two expressions": ("l.net / l.quantity", "l.net l.quantity", "goes on after its end at `l`"),
    "empty": ("tax: order.tax", "tax:", "document.tax: is empty; write an expression"),
    "filter": ("iso(order.placed_at)", "order.placed_at | upper", "filters (`|`) are not part of the language"),
    "method": ("currency: order.currency", "currency: order.currency.upper()", "only functions can be called"),
    "test": ("not r.lines", "r.lines is defined", "`is defined` is not part of the language; only `is none`"),
    "power": ("order.tax", "order.tax ** 2", "`**` is not part of the language"),
    "no else": ("tax: order.tax", "tax: order.tax if order.tax", "`a if c` needs `else`"),
    "list navigated": ("tax: order.tax", "tax: order.lines.tax", "`.tax` after a list; write first(...).tax"),
    "unknown attribute": ("order_tags: \"['web']\"", "order_tag: \"['web']\"", "did you mean `order_tags`?"),
    "missing attribute": ("  tax: order.tax\n", "", "document.tax: is missing; an order needs it"),
    "missing part": ("      price: l.net / l.quantity\n", "", "document.products.price: is missing; products needs it"),
    "raw and hashed": (
        "customer_email: order.email",
        "customer_email: order.email\n  hashed_customer_email: order.email",
        "may not be sent together with customer_email",
    ),
    "look-up without the key": (
        "{sku: sku}",
        "{barcode: sku}",
        "must match the key of variants (sku) and nothing else",
    ),
    "owner without the key": ("{refund_id: id}", "{refund_no: no}", "does not match the whole key of refunds (id)"),
    "many elsewhere": (
        "customers: {topic: shop.customers, key: [id]}",
        "customers: {topic: shop.customers, key: [id], many: {lines: {source: lines, match: {buyer: id}}}}",
        "customers belongs to no order",
    ),
    "itself": (
        "net: row.unit_price",
        "net: row.net",
        "needs itself: lines.net needs lines.net; for the column of that name write row['net']",
    ),
    "repeated key": ("root: orders", "root: orders\nroot: orders", "stands twice here (first in line 3); keep one"),
    "dropped but used": ("topic: shop.lines", "topic: shop.lines\n    drop: [sku]", "`sku` is used in line"),
    "hash": ("topic: shop.lines", "topic: shop.lines\n    hash: {title: name}", "hash.title: must be email or phone"),
    "hashed key": ("topic: shop.lines", "topic: shop.lines\n    hash: {id: email}", "is a key column"),
    "hashed and dropped": (
        "topic: shop.lines",
        "topic: shop.lines\n    hash: {x: email}\n    drop: [x]",
        "is dropped too; take it out",
    ),
    "phone region": (
        "root: orders",
        "root: orders\nphone_default_region: usa",
        "must be shipping_country, or an alpha-2",
    ),
    "type": ("topic: shop.lines", "topic: shop.lines\n    types: {unit_price: numerc}", "did you mean"),
    "mode": (
        "root: orders",
        "root: orders\ndebezium: {decimal_handling_mode: exact}",
        "must be one of precise, double, string",
    ),
    "choice": ("root: orders", "root: orders\non_delete: drop", "4:1: on_delete: must be one of keep, void"),
    "offset": ("root: orders", "root: orders\ntime_of_purchase_offset_secs: 1.5", "must be whole seconds"),
    "constant name": ("root: orders", "root: orders\nconstants: {order: 1}", "`order` has a meaning already"),
    "constant of nothing": ("root: orders", "root: orders\nconstants: {x: row.a}", "unknown name `row`"),
    "constant that fails": (
        "root: orders",
        "root: orders\nconstants: {x: 1 / 0}",
        "constants.x: 1 / 0: division by zero",
    ),
    "part of a group": (
        "tax: order.tax",
        "tax: first(group(order.lines, 'sku')).row",
        "a group has `.key` and `.rows`",
    ),
    "grouped by nothing": ("tax: order.tax", "tax: len(group(order.lines, 'variant.titl.x'))", "comes after something"),
    "loop name": (
        "{l: order.lines}",
        "{first: order.lines}",
        "`first` cannot be a name here, it has a meaning already",
    ),
    "shares as value": ("refund_amount: r.amount", "refund_amount: r.shares", "name one: shares[row]"),
    "column of a helper": ("'quantity', order", "row.quantity, order", "the column is named by a text"),
}


@pytest.mark.parametrize("name", list(MISTAKES))
def test_a_mistake_says_place_cause_and_cure(tmp_path: Path, name: str) -> None:
    """Each mistake is told with file, line, column, attribute, text and what to do."""
    old, new, expected = MISTAKES[name]
    found = problems(tmp_path, (old, new))
    assert any(expected in problem for problem in found), found
    assert all(problem.startswith("mapping.yaml:") for problem in found), found


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """One look shows every mistake, in the order of the file."""
    found = problems(
        tmp_path,
        ("iso(order.placed_at)", "isoo(order.placed_at)"),
        ("net: row.unit_price", "net: ro.unit_price"),
        ("tax: order.tax", "tax: order.tax +"),
    )
    assert len(found) == 3
    lines = [int(problem.split(":")[1]) for problem in found]
    assert lines == sorted(lines)


def test_a_source_in_no_relation_is_refused(tmp_path: Path) -> None:
    """A source that no relation leads to would be read for nothing."""
    (found,) = problems(tmp_path, ("  variants: {", "  coupons: {topic: shop.coupons}\n  variants: {"))
    assert "sources.coupons: no relation leads here from orders" in found


def test_the_file_itself(tmp_path: Path) -> None:
    """A missing file, a file that is no YAML and an empty one are told with a cure."""
    with pytest.raises(MappingError, match="cannot be read: No such file"):
        load_mapping(tmp_path / "none.yaml")
    (found,) = problems(tmp_path, ("currency: order.currency", "currency: order.currency: x"))
    assert found.startswith("mapping.yaml:45:27:")
    assert "is not YAML" in found
    assert "quote an expression" in found
    with pytest.raises(MappingError, match="must be a table of keys"):
        load(tmp_path, "\n")


def test_destinations_have_conditions_of_their_own(tmp_path: Path) -> None:
    """A destination's condition is part of the version, and its columns are stored and checked like any others."""
    one = ("root: orders", "root: orders\ndestinations:\n  eu: {when: row.region == 'eu'}\n  all: {}")
    mapping = load(tmp_path, SHOP, one)
    assert mapping.version != load(tmp_path).version
    assert "region" in mapping.columns_used()["orders"]
    assert mapping.destinations["all"].when is None
    assert problems(tmp_path, ("root: orders", "root: orders\ndestinations: {eu: {when: row.customer.}}"))
    assert problems(tmp_path, ("root: orders", "root: orders\ndestinations: {eu: yes}")) == [
        "mapping.yaml:4:16: destinations.eu: must be a table: {when: expression}, or {} for all orders"
    ]


def test_destinations_are_those_of_the_settings(tmp_path: Path) -> None:
    """A name that only one of the two knows is told, either way; without the section every name will do."""
    assert check_destinations(load(tmp_path), ["eu"]) == []
    mapping = load(tmp_path, SHOP, ("root: orders", "root: orders\ndestinations:\n  eu: {}\n  uss: {}"))
    assert check_destinations(mapping, ["eu", "uss"]) == []
    assert check_destinations(mapping, ["eu", "us"]) == [
        "mapping.yaml:6:3: destinations.uss: the settings have no such destination; did you mean `us`?",
        "mapping.yaml: destinations: us of the settings is not in here; write `us: {}` to send it all",
    ]


def test_hashed_columns(tmp_path: Path) -> None:
    """Which hash, and for phones as read from which country; a country that only the order tells comes too late."""
    hash_phone = (
        "topic: shop.customers, key: [id]",
        "topic: shop.customers, key: [id], hash: {email: email, tel: phone}",
    )
    british = load(tmp_path, SHOP, hash_phone, ("root: orders", "root: orders\nphone_default_region: GB"))
    assert british.structure.sources["customers"].hashed == {"email": "email", "tel": "phone GB"}
    (problem,) = problems(
        tmp_path, hash_phone, ("root: orders", "root: orders\nphone_default_region: shipping_country")
    )
    assert "sources.customers.hash.tel: cannot be hashed by the order's country" in problem
