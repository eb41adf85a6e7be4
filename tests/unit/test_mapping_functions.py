"""The functions of the mapping language: what each gives, for null too, and what it refuses."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest
from mapping_cases import SHOP, line_row, load, refund_rows, shop_rows

from daemon.mapping import countries, currencies
from daemon.mapping.expressions import compile_expression
from daemon.mapping.faults import Fault
from daemon.mapping.functions import FUNCTIONS
from daemon.mapping.graph import Empties, Graph
from daemon.mapping.kinds import ANY
from daemon.mapping.model import Mapping
from daemon.mapping.place import Place
from daemon.mapping.rows import StoredRow

OPENAPI = Path(__file__).parents[3] / "shared" / "orders-api" / "openapi-v2.json"


class Anything:
    """A schema in which everything is only known when an order is seen."""

    constants: ClassVar[dict[str, Any]] = {}
    functions: ClassVar[dict[str, Any]] = FUNCTIONS

    def attribute(self, source: str, name: str, place: Place) -> Any:  # noqa: ARG002
        """Anything."""
        return ANY

    column = attribute

    def anywhere(self, name: str) -> None:
        """Nothing is recorded here."""

    def relations(self, source: str) -> list[str]:  # noqa: ARG002
        """None."""
        return []


def value(text: str, **names: Any) -> Any:
    """The value of an expression over names of unknown kind."""
    expression = compile_expression(text, "x", Place("m", 1, 1), dict.fromkeys(names, ANY), Anything())
    return expression.evaluate(names)


CASES: list[tuple[str, Any]] = [
    ("dec('1.50')", Decimal("1.50")),
    ("dec(' 7 ')", Decimal(7)),
    ("dec(3)", 3),
    ("dec(none)", None),
    ("dec('')", None),
    ("int('7')", 7),
    ("int(7.0)", 7),
    ("int(none)", None),
    ("abs(-2.5)", Decimal("2.5")),
    ("abs(none)", None),
    ("max(1, none, 2.5)", Decimal("2.5")),
    ("max([1, 3, 2])", 3),
    ("max(none, none)", None),
    ("max([])", None),
    ("min('2026-01-02', '2026-01-01')", "2026-01-01"),
    ("min(5, -1)", -1),
    ("total([1, none, 2.5])", Decimal("3.5")),
    ("total([])", 0),
    ("nonzero(0)", None),
    ("nonzero('0')", None),
    ("nonzero('')", None),
    ("nonzero(0.00)", None),
    ("nonzero(7)", 7),
    ("nonzero('00')", "00"),
    ("money(1.005, 'USD')", Decimal("1.01")),
    ("money(2.5, 'JPY')", Decimal(3)),
    ("money(-1.005, 'USD')", Decimal("-1.01")),
    ("money(1.0005, 'KWD')", Decimal("1.001")),
    ("money(1.005, 'usd')", Decimal("1.01")),
    ("money(none, 'USD')", None),
    ("minor(1999, 2)", Decimal("19.99")),
    ("minor(1999, 0)", 1999),
    ("minor(none, 2)", None),
    ("first([4, 5])", 4),
    ("first([])", None),
    ("rest([4, 5, 6])", [5, 6]),
    ("rest(split('', ','))", []),
    ("len('abc')", 3),
    ("len([1, 2])", 2),
    ("uniq(['b', '', none, 'a', 'b'])", ["b", "a"]),
    ("uniq([1, '1', 1])", [1, "1"]),
    ("text(7)", "7"),
    ("text(7.10)", "7.1"),
    ("text(100.0)", "100"),
    ("text(true)", "true"),
    ("text(none)", None),
    ("upper('ß€a')", "SS€A"),
    ("lower('AbC')", "abc"),
    ("upper(none)", None),
    ("lower(none)", None),
    ("trim('  a b ')", "a b"),
    ("trim(none)", None),
    ("split(' a, ,b ', ',')", ["a", "b"]),
    ("split(none, ',')", []),
    ("split('a b', '-')", ["a b"]),
    ("join(['a', '', none, 1], '-')", "a-1"),
    ("join([], '-')", None),
    ("words('Jo', none, ' ', 'Do ')", "Jo Do"),
    ("words(none, '')", None),
    ("b64('Order:7')", "T3JkZXI6Nw=="),
    ("b64(none)", None),
    ("sha256('123456')", "8d969eef6ecad3c29a3a629280e686cf0c3f5d5a86aff3ca12020c923adc6c92"),
    ("sha256(none)", None),
    ("coalesce(none, '', ' ', 0, 1)", 0),
    ("coalesce(none, false)", False),
    ("coalesce(none, '')", None),
    ("coalesce()", None),
    ("alpha3('us')", "USA"),
    ("alpha3(' GBR ')", "GBR"),
    ("alpha3('fj')", "FJI"),
    ("alpha3('XK')", None),
    ("alpha3('XKX')", None),
    ("alpha3('Germany')", "DEU"),
    ("alpha3('UNITED STATES')", "USA"),
    ("alpha3('Cote d’Ivoire')", "CIV"),  # noqa: RUF001
    ("alpha3('St. Lucia')", "LCA"),
    ("alpha3('The Gambia')", "GMB"),
    ("alpha3('Korea')", None),
    ("alpha3('')", None),
    ("hex('AAECAwQFBgcICQoLDA0ODw==')", "000102030405060708090a0b0c0d0e0f"),
    ("hex(none)", None),
    ("hex('')", None),
    ("uuid('AAECAwQFBgcICQoLDA0ODw==')", "00010203-0405-0607-0809-0a0b0c0d0e0f"),
    ("uuid(none)", None),
    ("subscription('first')", "Subscription First Order"),
    ("subscription('recurring')", "Subscription Recurring"),
    ("subscription('other')", "Subscription"),
    ("subscription(none)", None),
    ("col(parse('[{\"a\": {\"b\": 1.10}}, {}]'), 'a.b')", [Decimal("1.10"), None]),
    ('total(parse(\'[{"a": 1.10}, {"a": null}, {"a": 2}]\'), \'a\')', Decimal("3.10")),
    ('len(group(parse(\'[{"a": 1}, {"a": 2}, {"a": 1}, {}]\'), \'a\'))', 3),
    ('group(parse(\'[{"a": 2}, {"a": 1.0}, {"a": 1}]\'), \'a\')[1].rows', [{"a": Decimal(1)}, {"a": 1}]),
    ("alpha3(none)", None),
    ("iso('2026-03-01T08:00:00+01:00')", "2026-03-01T07:00:00Z"),
    ("iso('2026-03-01T08:00:10.015999Z')", "2026-03-01T08:00:10.015Z"),
    ("iso('2026-03-01 08:00:10.000400Z')", "2026-03-01T08:00:10Z"),
    ("iso('2026-07-01T12:00:00', zone='Europe/Berlin')", "2026-07-01T10:00:00Z"),
    ("iso('2026-01-01T12:00:00', 'Europe/Berlin')", "2026-01-01T11:00:00Z"),
    ("iso('2026-10-25T02:30:00', 'Europe/Berlin')", "2026-10-25T00:30:00Z"),
    ("iso('2026-03-01', 'UTC')", "2026-03-01T00:00:00Z"),
    ("iso('2026-03-01T08:00:00Z', 'Europe/Berlin')", "2026-03-01T08:00:00Z"),
    ("iso(none)", None),
    ("parse('[1.10, null]')", [Decimal("1.10"), None]),
    ("parse(none)", None),
    ("parse('')", None),
    ("guest('John.Doe+newsletters@gmail.com')", "guest_06a240d11cc201676da976f7b4934118"),
    ("guest(none)", None),
    ("guest(' ')", None),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_what_a_function_gives(text: str, expected: Any) -> None:
    """Every function, with null and blank among its arguments."""
    result = value(text)
    assert result == expected
    assert type(result) is type(expected) or isinstance(expected, Decimal | int)
    assert not isinstance(result, float)


def test_a_guest_is_the_same_however_the_address_is_written() -> None:
    """The id follows the normalised address and never shows it; two addresses never share one."""
    assert value("guest(' J.o+shop@Gmail.com ')") == value("guest('jo@gmail.com')")
    assert value("guest('jo@example.com')") != value("guest('jo@example.org')")
    assert value("guest('+a@gmail.com')") != value("guest('+b@gmail.com')"), "an empty local part is nobody's in common"
    assert "jo" not in value("guest('jo@example.com')").removeprefix("guest_")


REFUSALS = [
    ("dec('abc')", "no number"),
    ("dec('NaN')", "no finite number"),
    ("dec([1])", "needs a number, not a list"),
    ("int(7.5)", "not whole"),
    ("abs('7')", "declare `types"),
    ("max(1, 'a')", "numbers alone or texts alone"),
    ("total(none)", "needs a list, not null"),
    ("total(['1'])", "declare `types"),
    ("money('1', 'USD')", "needs a number"),
    ("money(1, none)", "needs a text, not null"),
    ("minor(1, 12)", "exponent from 0 to 9"),
    ("first(none)", "needs a list, not null"),
    ("len(none)", "needs a list or a text, not null"),
    ("text([1])", "a list has no text"),
    ("upper(5)", "needs a text, not a number; write text(x)"),
    ("split('a', '')", "needs a separator"),
    ("iso('2026-03-01T08:00:00')", "a time without offset; name its zone"),
    ("iso('2026-03-01T08:00:00', 'Mars/North')", "the zone is not known"),
    ("iso('yesterday')", "not an ISO-8601 time"),
    ("iso(5)", "of a number; declare the column's type"),
    ("iso('2026-03-01T08:00:00', 5)", "needs a text, not a number"),
    ("parse('{')", "not JSON"),
    ("parse('NaN')", "not JSON"),
    ("alpha3(276)", "needs a text"),
    ("first_seen(5)", "needs a row"),
    ("hex('xyz')", "needs a binary column"),
    ("uuid('AAEC')", "needs 16 bytes"),
    ("subscription('monthly')", "needs one of 'first', 'recurring', 'other'"),
    ("""col(parse('["a"]'), 'b')""", "starts from a row or an object"),
    ("group(parse('[{\"a\": []}]'), 'a')", "cannot group by a list"),
    ("allocate(1, [], 'w', none)", "needs a text, not null"),
]


@pytest.mark.parametrize(("text", "expected"), REFUSALS)
def test_what_a_function_refuses(text: str, expected: str) -> None:
    """A value of the wrong kind is an error that names the cure; it is never turned into something else."""
    with pytest.raises(Fault) as caught:
        value(text)
    assert expected in str(caught.value)


def test_every_function_is_tried_here_and_explained() -> None:
    """No function without a case, a usage and a meaning."""
    tried = " ".join(text for text, _ in CASES) + " ".join(ROW_CASES)
    for name, function in FUNCTIONS.items():
        assert f"{name}(" in tried, name
        assert function.usage.startswith(f"{name}(")
        assert function.summary


ROW_CASES: dict[str, Any] = {
    "total(order.lines, 'quantity')": 3,
    "total(order.lines, 'net')": Decimal("30.00"),
    "col(order.lines, 'sku')": ["S11", "S12"],
    "col(order.lines, 'variant.title')": ["Blue thing", None],
    "len(flat(order.refunds, 'lines'))": 1,
    "first(flat(order.refunds, 'lines')).line.sku": "S11",
    "first(flat([], 'lines'))": None,
    "first(order.lines).sku": "S11",
    "pivot(order.lines, 'sku', 'quantity')['S12']": 2,
    "pivot(order.lines, 'sku', 'quantity')['_qty']": None,
    "col(group(order.lines, 'order_id'), 'key')": [1],
    "total(group(order.lines, 'order_id')[0].rows, 'net')": Decimal("30.00"),
    "first(group(flat(order.refunds, 'lines'), 'line')).key.sku": "S11",
    "first(first(group(order.refunds, 'status')).rows).lines[0].line.sku": "S11",
    "col(rest(order.lines), 'sku')": ["S12"],
    "first(rest(rest(order.lines))).variant.title is none": True,
    "first_seen(order)": "2026-03-01T00:00:00.500Z",
    "first_seen(first(order.lines))": None,
    "allocate(10, order.lines, 'quantity', 'USD')[order.lines[0]]": Decimal("3.33"),
    "allocate(10, order.lines, 'quantity', 'USD')[order.lines[1]]": Decimal("6.67"),
    "order.customer is none": False,
    "order.lines[1].variant is none": True,
    "order.lines[1].variant.title is none": True,
    "order.lines[9].variant.title is none": True,
    "order['status']": "paid",
    "(order.lines[1].variant or order.lines[0].variant).title": "Blue thing",
    "coalesce(order.lines[1].variant, order.lines[0].variant).title": "Blue thing",
    "order.lines[0] == first(order.lines)": True,
}


def graph_of(mapping: Mapping, rows: list[StoredRow]) -> Graph:
    """The rows of order 1."""
    return Graph(mapping, Empties(mapping), "1", rows, final=False)


@pytest.mark.parametrize("text", list(ROW_CASES))
def test_functions_over_rows(tmp_path: Path, text: str) -> None:
    """Functions and navigation over an order's rows, in a mapping of their own."""
    mapping = load(tmp_path, SHOP, ("order_id: order.number", f'order_id: "{text}"'))
    rows = shop_rows() + refund_rows()
    root = rows[0]
    rows[0] = StoredRow(root.source, root.key, root.root, root.columns, first_seen_ms=1772323200500)
    order = graph_of(mapping, rows).order
    rule = mapping.document["order_id"]
    assert not isinstance(rule, dict | tuple)
    assert rule.evaluate({"row": order, "order": order}) == ROW_CASES[text]


def test_constants(tmp_path: Path) -> None:
    """Names for sets of states and the like, known in every expression."""
    lines = ["constants:", "  placed: \"['paid', 'shipped']\"", "  fee: dec('1.50')", "  over: placed + ['done']"]
    changes = (
        ("root: orders", "\n".join([*lines, "root: orders"])),
        ("where: row.status == 'done'", "where: row.status in over"),
        ("order_id: order.number", "order_id: order.status in placed and fee * 2 == 3"),
    )
    mapping = load(tmp_path, SHOP, *changes)
    order = graph_of(mapping, shop_rows() + refund_rows()).order
    rule = mapping.document["order_id"]
    assert not isinstance(rule, dict | tuple)
    assert rule.evaluate({"row": order, "order": order}) is True
    assert len(order.attribute("refunds")) == 1


def test_columns_called_like_methods(tmp_path: Path) -> None:
    """A column may be called items, values, keys or start with an underscore."""
    names = ["items", "values", "keys", "_qty", "get", "attribute", "stored", "__len__"]
    text = " ~ ".join([*(f"row.{name}" for name in names), *(f"row['{name}']" for name in names)])
    mapping = load(tmp_path, SHOP, ("net: row.unit_price", f'odd: "{text}"\n      net: row.unit_price'))
    order = graph_of(mapping, [*shop_rows()[:1], line_row(11, **dict.fromkeys(names, "x"))]).order
    assert order.attribute("lines")[0].attribute("odd") == "x" * 2 * len(names)


def test_a_derived_column_fails_loudly(tmp_path: Path) -> None:
    """A fault inside a derived column names that column and the attribute that needed it; it is no missing name."""
    mapping = load(tmp_path)
    order = graph_of(mapping, [*shop_rows()[:1], line_row(11, unit_price="10.00")]).order
    rule = mapping.document["products"]
    assert isinstance(rule, tuple)
    with pytest.raises(Fault) as caught:
        rule[0].item["price"].evaluate({"l": order.attribute("lines")[0]})
    told = str(caught.value)
    assert told.startswith(
        "mapping.yaml:25:12: sources.lines.let.net: row.unit_price * row.quantity - row.discount: text"
    )
    assert told.endswith("(needed by document.products.price)")


def test_order_of_rows(tmp_path: Path) -> None:
    """Without a sort, numeric keys go by number; with one, nulls are last either way; keys break ties."""
    plain = load(tmp_path, SHOP, (", sort: [position, id]", ""))
    rows = [*shop_rows()[:1], line_row(100), line_row(20), line_row(3)]
    assert [row.stored.key for row in graph_of(plain, rows).order.attribute("lines")] == ["3", "20", "100"]
    down = load(tmp_path, SHOP, ("[position, id]", "[-variant.title, -id]"))
    rows = [*shop_rows(), line_row(13), StoredRow("variants", "S13", None, {"sku": "S13", "title": "Red"})]
    assert [row.stored.key for row in graph_of(down, rows).order.attribute("lines")] == ["13", "11", "12"]


def test_many_columns_and_constants_in_memory(tmp_path: Path) -> None:
    """A to-many relation over other columns of an owned source, a constant, and a self-join."""
    mapping = load(
        tmp_path,
        SHOP,
        (
            "    let:\n      net:",
            '    many:\n      parts: {source: lines, match: {parent_id: id, kind: "=part"}}\n    let:\n      net:',
        ),
        (
            "match: {sku: sku}, required: false}",
            "match: {sku: sku}, required: false}\n      whole: {source: lines, match: {id: parent_id}}",
        ),
    )
    rows = [
        *shop_rows()[:1],
        line_row(11, parent_id=None, kind=None),
        line_row(12, parent_id="11", kind="part"),
        line_row(13, parent_id=11, kind="gift"),
    ]
    order = graph_of(mapping, rows).order
    first, part, _ = order.attribute("lines")
    assert list(first.attribute("parts")) == [part], "7 and '7' are one key"
    assert part.attribute("whole") is first
    assert not first.attribute("whole")


def test_a_to_one_relation_within_the_order(tmp_path: Path) -> None:
    """A to-one relation to an owned source may match what is no key."""
    gift = '\n      gift: {source: lines, match: {order_id: id, kind: "=gift"}}'
    mapping = load(tmp_path, SHOP, ("match: {id: address_id}}", "match: {id: address_id}}" + gift))
    assert mapping.structure.sources["orders"].refs[-1].target == "addresses"
    order = graph_of(mapping, [*shop_rows()[:1], line_row(11, kind="x"), line_row(12, kind="gift")]).order
    assert order.attribute("gift").column("sku") == "S12"


@pytest.mark.skipif(not OPENAPI.exists(), reason="the provider's published document is not beside the clone")
def test_code_sets_equal_the_published_patterns() -> None:
    """The currencies are the pattern's alternatives, and every alpha-3 code matches the pattern."""
    import json
    import re

    patterns = json.loads(OPENAPI.read_text())["components"]["schemas"]["_patterns"]
    assert set(patterns["currency"].strip("^$").split("|")) == currencies.CURRENCIES
    country = re.compile(f"(?:{patterns['country_code'].strip('^$')})")
    assert len(countries.ALPHA3) == 249
    assert all(country.fullmatch(code) for code in countries.ALPHA3)
