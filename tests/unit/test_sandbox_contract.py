"""The sandbox's transcription of the published contract."""

import copy
import itertools
import json
import re
import string
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.sandbox.codes import COUNTRIES, CURRENCIES
from daemon.sandbox.contract import Reading, identity, read

PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "orders-api" / "openapi-v2.json"

LEAST: dict[str, Any] = {
    "order_id": "A-1",
    "customer_id": "C-1",
    "time_of_purchase": "2024-03-01T10:00:00Z",
    "currency": "USD",
    "purchase_total": 16.0,
    "tax": 1,
    "shipping_cost": 0,
    "products": [{"id": "P-1", "name": "Mug", "quantity": 2, "price": 7.5}],
}
FULL: dict[str, Any] = LEAST | {
    "products": [
        {"id": "P-1", "name": "Mug", "quantity": 2, "price": 7.5, "variant_id": "V-1", "variant_name": "Red"},
        {"id": "P-2", "name": "Cup", "quantity": 0.5, "price": 0},
    ],
    "customer_email": "jane@example.com",
    "hashed_customer_phone_number": "ab12",
    "customer_name": "",
    "customer_ip_address": "2001:db8::1",
    "discount_codes": ["X", "Y"],
    "discount_amount": -3,
    "order_tags": ["web"],
    "is_recurring_order": False,
    "refunds": [
        {
            "product_id": "P-1",
            "quantity": 1,
            "refund_amount": 7.5,
            "refund_cost": 8,
            "refund_made_at": "2024-03-02T10:00:00.123456+02:00",
            "variant_id": "V-1",
        }
    ],
    "customer_shipping_address": {
        "address1": "1 Main St",
        "address2": "",
        "city": "Town",
        "state": "",
        "zip": "",
        "country_code": "USA",
    },
    "alternate_order_ids": [{"type": "web", "id": "9"}, {"type": "web", "id": "9"}],
}

REMOVED = object()


def order(**changes: Any) -> dict[str, Any]:
    """The full order with some attributes changed, or taken out by REMOVED."""
    return {name: value for name, value in (FULL | changes).items() if value is not REMOVED}


def product(**changes: Any) -> list[dict[str, Any]]:
    return [{name: value for name, value in (LEAST["products"][0] | changes).items() if value is not REMOVED}]


def refund(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (FULL["refunds"][0] | changes).items() if value is not REMOVED}


def address(**changes: Any) -> dict[str, Any]:
    parts = FULL["customer_shipping_address"] | changes
    return {name: value for name, value in parts.items() if value is not REMOVED}


def judge(*orders: Any, **switches: Any) -> Reading:
    return read(json.dumps(orders).encode(), **switches)


def paths(reading: Reading) -> list[tuple[Any, ...]]:
    return [problem.path for problem in reading.problems]


@pytest.mark.parametrize(
    "good",
    [
        LEAST,
        FULL,
        order(purchase_total=100_000_000_000_000),
        order(purchase_total=-1, tax=-0.0, products=product(quantity=0, price=-2)),
        order(discount_codes=[], order_tags=[], refunds=[]),
        order(refunds=[refund(), refund(quantity=2)]),
        order(refunds=[refund(product_id="not ordered", variant_id=REMOVED)]),
        order(products=product() + product()),
        order(customer_shipping_address={"zip": "1", "country_code": "FRO"}),
        order(currency="BYR"),
        order(order_id="C-1"),
        order(customer_email=REMOVED, hashed_customer_email=""),
        order(time_of_purchase="0001-01-01T00:00:00-01:00"),
        order(customer_ip_address="127.0.0.1"),
    ],
)
def test_an_order_that_fits_is_accepted(good: dict[str, Any]) -> None:
    """What the contract allows is accepted, also where it is odd."""
    reading = judge(good)
    assert paths(reading) == []
    assert [accepted.order_id for accepted in reading.orders] == [good["order_id"]]


@pytest.mark.parametrize("attribute", sorted(LEAST))
@pytest.mark.parametrize("change", [REMOVED, None, {}, True])
def test_required_attributes(attribute: str, change: Any) -> None:
    """A required attribute may be neither absent nor null nor of another type."""
    assert (attribute,) in paths(judge(order(**{attribute: change})))


@pytest.mark.parametrize("attribute", sorted(FULL))
def test_no_attribute_is_nullable(attribute: str) -> None:
    """POST knows no null."""
    assert paths(judge(order(**{attribute: None}))) == [(attribute,)]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"order_id": ""}, ("order_id",)),
        ({"order_id": 7}, ("order_id",)),
        ({"customer_id": ""}, ("customer_id",)),
        ({"status": "paid"}, ("status",)),
        ({"purchase_total": "16.00"}, ("purchase_total",)),
        ({"purchase_total": 100_000_000_000_000.02}, ("purchase_total",)),
        ({"tax": 1e300}, ("tax",)),
        ({"discount_amount": False}, ("discount_amount",)),
        ({"is_recurring_order": 1}, ("is_recurring_order",)),
        ({"currency": "usd"}, ("currency",)),
        ({"currency": "USDT"}, ("currency",)),
        ({"currency": "US"}, ("currency",)),
        ({"currency": "SSP"}, ("currency",)),
        ({"time_of_purchase": ""}, ("time_of_purchase",)),
        ({"time_of_purchase": "2024-03-01"}, ("time_of_purchase",)),
        ({"time_of_purchase": "2024-03-01 10:00:00Z"}, ("time_of_purchase",)),
        ({"time_of_purchase": "2024-03-01T10:00:00"}, ("time_of_purchase",)),
        ({"time_of_purchase": "2024-02-30T10:00:00Z"}, ("time_of_purchase",)),
        ({"time_of_purchase": "2024-03-01T25:00:00Z"}, ("time_of_purchase",)),
        ({"time_of_purchase": "2024-03-01T10:00:00+24:00"}, ("time_of_purchase",)),
        ({"time_of_purchase": "0001-01-01T00:00:00+01:00"}, ("time_of_purchase",)),
        ({"time_of_purchase": "٢٠٢٤-03-01T10:00:00Z"}, ("time_of_purchase",)),
        ({"customer_email": ""}, ("customer_email",)),
        ({"customer_email": "jane"}, ("customer_email",)),
        ({"customer_email": "a@b@c.com"}, ("customer_email",)),
        ({"customer_email": "jane@localhost"}, ("customer_email",)),
        ({"customer_email": "ja ne@example.com"}, ("customer_email",)),
        ({"customer_email": ".jane@example.com"}, ("customer_email",)),
        ({"customer_email": "jane@example.com\n"}, ("customer_email",)),
        ({"customer_email": "j" * 65 + "@example.com"}, ("customer_email",)),
        ({"hashed_customer_email": "ab"}, ("customer_email",)),
        ({"customer_phone_number": "+1"}, ("customer_phone_number",)),
        ({"customer_ip_address": "1.2.3"}, ("customer_ip_address",)),
        ({"customer_ip_address": "fe80::1%eth0"}, ("customer_ip_address",)),
        ({"discount_codes": ["X", "X"]}, ("discount_codes", 1)),
        ({"discount_codes": "X"}, ("discount_codes",)),
        ({"order_tags": ["a", "b", "a"]}, ("order_tags", 2)),
        ({"order_tags": [1]}, ("order_tags", 0)),
        ({"products": []}, ("products",)),
        ({"products": ["P-1"]}, ("products", 0)),
        ({"products": product(id="")}, ("products", 0, "id")),
        ({"products": product(name=REMOVED)}, ("products", 0, "name")),
        ({"products": product(quantity="2")}, ("products", 0, "quantity")),
        ({"products": product(price=None)}, ("products", 0, "price")),
        ({"products": product(variant_id="")}, ("products", 0, "variant_id")),
        ({"products": product(variant_name="")}, ("products", 0, "variant_name")),
        ({"products": product(sku="x")}, ("products", 0, "sku")),
        ({"refunds": [refund(refund_cost=REMOVED)]}, ("refunds", 0, "refund_cost")),
        ({"refunds": [refund(refund_made_at="2024-03-02")]}, ("refunds", 0, "refund_made_at")),
        ({"refunds": [refund(note="x")]}, ("refunds", 0, "note")),
        ({"refunds": [refund(quantity=1), refund(quantity=1.0)]}, ("refunds", 1)),
        ({"customer_shipping_address": address(country_code="US")}, ("customer_shipping_address", "country_code")),
        ({"customer_shipping_address": address(country_code="CANADA")}, ("customer_shipping_address", "country_code")),
        ({"customer_shipping_address": address(country_code="XKX")}, ("customer_shipping_address", "country_code")),
        ({"customer_shipping_address": address(zip=REMOVED)}, ("customer_shipping_address", "zip")),
        ({"customer_shipping_address": address(zip=12345)}, ("customer_shipping_address", "zip")),
        ({"customer_shipping_address": address(address1="")}, ("customer_shipping_address", "address1")),
        ({"customer_shipping_address": address(city="")}, ("customer_shipping_address", "city")),
        ({"customer_shipping_address": address(phone="1")}, ("customer_shipping_address", "phone")),
        ({"alternate_order_ids": [{"type": "", "id": "1"}]}, ("alternate_order_ids", 0, "type")),
        ({"alternate_order_ids": [{"type": "a"}]}, ("alternate_order_ids", 0, "id")),
    ],
)
def test_an_order_that_does_not_fit_is_refused(changes: dict[str, Any], path: tuple[Any, ...]) -> None:
    """One thing wrong gives one problem, at its place, under its order."""
    reading = judge(LEAST, order(**({"order_id": "B"} | changes)))
    assert paths(reading) == [path]
    assert reading.problems[0].index == 1
    assert [accepted.order_id for accepted in reading.orders] == ["A-1"]


def test_a_batch_names_every_problem_of_every_order() -> None:
    """Bad orders are told by index and id, good ones beside them are kept."""
    reading = judge(order(order_id="a", tax="", currency="X"), LEAST, 5, {"order_id": 3})
    assert {(found.index, found.order_id) for found in reading.problems} == {(0, "a"), (2, None), (3, None)}
    assert reading.order_ids == ("a", "A-1")
    assert [accepted.index for accepted in reading.orders] == [1]


def test_equal_orders_are_refused_but_two_versions_of_one_are_not() -> None:
    """Orders must differ within a request, by value; nothing forbids one id twice."""
    assert paths(judge(LEAST, FULL)) == []
    repeated = judge(LEAST, FULL, dict(reversed(LEAST.items())))
    assert [(found.index, found.path) for found in repeated.problems] == [(2, ())]


@pytest.mark.parametrize(
    "body",
    [b"", b"[", b"[1,]", b"[1 2]", b"[] x", b"\xff", b"[NaN]", b"nope", b'{"a":1} 2', b"[1e99999999999999999999]"],
)
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    """A body that cannot be read has no orders and names none."""
    reading = read(body)
    assert (reading.malformed, reading.orders, reading.order_ids) == (True, (), ())


@pytest.mark.parametrize("nesting", [900, 100_000])
def test_deep_nesting_is_an_answer_not_a_crash(nesting: int) -> None:
    """However deep a body is nested, it is judged."""
    deep = "[" * nesting + "]" * nesting
    assert read(f"[{deep}]".encode()).problems
    assert read(json.dumps([order(order_tags=0)]).replace('"order_tags": 0', f'"order_tags": {deep}').encode()).problems


@pytest.mark.parametrize("body", [b"{}", b'"[]"', b"1", b"[]", b" [ ] "])
def test_the_body_must_be_an_array_of_at_least_one_order(body: bytes) -> None:
    """The fault is then the batch's, not an order's."""
    reading = read(body)
    assert not reading.malformed
    assert [(found.index, found.order_id) for found in reading.problems] == [(None, None)]


def test_a_thousand_orders_fit_and_one_more_does_not() -> None:
    """The hard cap of one POST."""
    many = [LEAST | {"order_id": str(number)} for number in range(1001)]
    assert len(judge(*many[:1000]).orders) == 1000
    too_many = judge(*many)
    assert too_many.too_many
    assert too_many.orders == ()
    assert len(too_many.order_ids) == 1001


def test_raw_bytes_and_numbers_are_kept() -> None:
    """Every order keeps the very bytes it came in, whatever stands between them."""
    first = json.dumps(LEAST).replace("16.0", "16.10000000000000000001")
    second = json.dumps(order(order_id="é"), indent=1, ensure_ascii=False)
    reading = read(f" [\n{first} ,\t{second}\r\n] ".encode())
    assert [kept.raw.decode() for kept in reading.orders] == [first, second]


def test_numbers_are_compared_exactly() -> None:
    """One part in 10^30 above the bound is above the bound."""
    text = json.dumps([LEAST]).replace("16.0", "100000000000000.000000000000000000000000000001")
    assert paths(read(text.encode())) == [("purchase_total",)]


def test_duplicate_products_by_switch() -> None:
    """The contract has a message about duplicate product ids and no rule; a switch makes it one."""
    twice = order(products=product() + product(price=1), refunds=[refund(), refund(quantity=0)])
    assert paths(judge(twice)) == []
    assert paths(judge(twice, unique_product_ids=True)) == [("products", 1, "id"), ("refunds", 1, "product_id")]


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ("1", "1.0", True),
        ("1", "true", False),
        ("0", "false", False),
        ('"1"', "1", False),
        ("null", "false", False),
        ('{"a":1,"b":2}', '{"b":2,"a":1}', True),
        ("[1,2]", "[2,1]", False),
        ("[]", "{}", False),
    ],
)
def test_identity_is_json_equality(left: str, right: str, equal: bool) -> None:
    """Values are equal as JSON sees it, not as Python does."""
    first, second = (json.loads(text, parse_int=Decimal, parse_float=Decimal) for text in (left, right))
    assert (identity(first) == identity(second)) is equal


def test_code_sets_have_the_published_size() -> None:
    """162 currencies, and the 249 countries of ISO 3166."""
    assert (len(CURRENCIES), len(COUNTRIES)) == (162, 249)


# against the published document, where it is at hand


STRICTER = {
    "Value error, Invalid ISO TS",
    "value is not a valid email address",
    "value is not a valid IPv4 or IPv6 address",
    "Currency does not match any known currencies",
    "Country code should use three-letter ISO 3166 country codes",
    "Cannot be provided if hashed_customer_email is present",
    "Cannot be provided if hashed_customer_phone_number is present",
}


@pytest.fixture(scope="module")
def published() -> Any:
    """The provider's own schema of a POST body, with its `maximum`, a text there, made a number."""
    jsonschema = pytest.importorskip("jsonschema")
    if not PUBLISHED.exists():
        pytest.skip("the provider's OpenAPI document is not beside this repository")

    def patched(node: Any) -> Any:
        if isinstance(node, dict):
            return {
                name: int(part.replace("_", "")) if name == "maximum" and isinstance(part, str) else patched(part)
                for name, part in node.items()
            }
        return [patched(part) for part in node] if isinstance(node, list) else node

    document = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(patched(document["components"]["schemas"]["Order"]))


def test_code_sets_are_the_published_ones(published: Any) -> None:
    """No three letters are judged otherwise than by the published patterns, once these are anchored."""
    members = published.schema["items"]["properties"]
    address_members = members["customer_shipping_address"]["properties"]
    triples = ["".join(letters) for letters in itertools.product(string.ascii_uppercase, repeat=3)]
    for codes, pattern in (
        (CURRENCIES, members["currency"]["pattern"]),
        (COUNTRIES, address_members["country_code"]["pattern"]),
    ):
        anchored = re.compile(f"(?:{pattern.strip('^$')})")
        assert {code for code in triples if anchored.fullmatch(code)} == codes


VALUES = st.one_of(
    st.sampled_from([None, True, False, 0, 1, 1.0, -3, 100_000_000_000_000, 100_000_000_000_000.02, 1e40]),
    st.sampled_from(["", "x", "USD", "USA", "EURO", "12", "2024-03-01T10:00:00Z", "jane@example.com", "10.0.0.1"]),
    st.sampled_from(
        [[], [""], ["a", "a"], ["a", "b"], [1, 1.0], [1, True], {}, [{}], {"zip": "", "country_code": "DEU"}]
    ),
    st.just(FULL["products"]),
    st.just(FULL["refunds"]),
    st.just(FULL["refunds"] * 2),
)
NAMES = st.sampled_from([*FULL, "hashed_customer_email", "customer_phone_number", "variant_name", "sku", "id"])


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every container and leaf."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for name, part in parts for place in places(part, (*at, name)))]


@st.composite
def documents(draw: st.DrawFn) -> list[Any]:
    """A batch of one or two orders with up to four things changed, taken out, added or doubled."""
    batch: list[Any] = copy.deepcopy(draw(st.sampled_from([[FULL], [LEAST, FULL], [LEAST, LEAST]])))
    for _ in range(draw(st.integers(0, 4))):
        *above, last = draw(st.sampled_from(places(batch)[1:]))
        holder = batch
        for step in above:
            holder = holder[step]
        action = draw(st.sampled_from(["set", "remove", "add", "double"]))
        if action == "set":
            holder[last] = copy.deepcopy(draw(VALUES))
        elif action == "remove":
            del holder[last]
        elif isinstance(holder, dict):
            holder[draw(NAMES)] = copy.deepcopy(draw(VALUES))
        elif action == "double":
            holder.append(copy.deepcopy(holder[last]))
        if not batch:
            break
    return batch


@settings(max_examples=300, deadline=None)
@given(documents())
def test_agrees_with_the_published_schema(published: Any, batch: list[Any]) -> None:
    """Whatever the schema refuses is refused here; what is refused here alone is one of the stricter points."""
    text = json.dumps(batch)
    reading = read(text.encode())
    if not published.is_valid(json.loads(text, parse_float=Decimal)):
        assert reading.problems
    else:
        left = [found for found in reading.problems if found.message not in STRICTER]
        assert [found for found in left if found.path[-1:] != ("variant_name",)] == []
