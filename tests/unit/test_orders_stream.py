"""The orders of a GET's body, in whatever pieces it comes and however it is wrapped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.delivery.orders_stream import Unreadable, orders_in

ORDERS = [
    {"order_id": 'A "1"', "name": "J\u00fcrgen \U0001f600 \\u0041", "total": 10.5, "note": "a\\\\b\n"},
    {"order_id": "A-2", "total": 3, "products": [{"price": 0.25}]},
]


def pieces(body: bytes, cuts: list[int]) -> Iterator[bytes]:
    """The body cut at these places."""
    at = [0, *sorted({cut % (len(body) + 1) for cut in cuts}), len(body)]
    return (body[start:end] for start, end in pairwise(at))


def wrapped(form: str) -> bytes:
    """The orders as the API may send them."""
    plain = json.dumps(ORDERS, ensure_ascii=form == "ascii")
    match form:
        case "string":
            return json.dumps(plain).encode()
        case "raw string":
            return json.dumps(json.dumps(ORDERS, ensure_ascii=False), ensure_ascii=False).encode()
        case "slashes":
            return json.dumps(plain).replace("/", "\\/").encode()
        case "marked":
            return b"\xef\xbb\xbf \r\n" + plain.encode()
    return plain.encode()


FORMS = ["plain", "ascii", "string", "raw string", "slashes", "marked"]


@pytest.mark.parametrize("form", FORMS)
@given(cuts=st.lists(st.integers(0, 1000), max_size=12))
def test_orders_come_whole_however_they_are_cut(form: str, cuts: list[int]) -> None:
    """A list, or a string that holds one, with escapes, surrogate halves and UTF-8 cut anywhere."""
    assert list(orders_in(pieces(wrapped(form), cuts))) == ORDERS


@pytest.mark.parametrize("form", FORMS)
def test_every_cut(form: str) -> None:
    """Byte by byte, and at each single place."""
    body = wrapped(form)
    assert list(orders_in(bytes([byte]) for byte in body)) == ORDERS
    for cut in range(len(body)):
        assert list(orders_in([body[:cut], body[cut:]])) == ORDERS


def test_numbers_are_exact() -> None:
    """No number passes through a float."""
    [order] = orders_in([b'[{"a": 12345678901234567890.10, "b": 0.1, "c": 7}]'])
    assert (order["a"], order["b"], order["c"]) == (Decimal("12345678901234567890.10"), Decimal("0.1"), 7)


def test_orders_come_before_the_body_has_ended() -> None:
    """What is complete is handed out; nothing waits for the end."""
    asked: list[int] = []

    def body() -> Iterator[bytes]:
        yield b'"['
        for number in range(3):
            asked.append(number)
            yield b"," * (number > 0) + b'{\\"order_id\\": \\"' + str(number).encode() + b'\\"}'
        yield b']"'

    orders = orders_in(body())
    assert next(orders) == {"order_id": "0"}
    assert asked == [0]


@pytest.mark.parametrize("body", [b"", b" ", b"null", b"[]", b'"[]"', b'""', b'"null"'])
def test_nothing_is_no_orders(body: bytes) -> None:
    """However nothing is said."""
    assert list(orders_in([body])) == []


@pytest.mark.parametrize(
    "body",
    [
        b"{}", b'{"status": "500"}', b"<html>", b"[1]", b'["x"]', b'[{"a": 1}', b'[{"a": ]', b'"[{}]',
        b'"\\uZZ00[]12345"', b'"text"', b"\xff\xfe[", b"nullnull", b"[{}] x",
    ],
)  # fmt: skip
def test_anything_else_is_unreadable(body: bytes) -> None:
    """An error that shows nothing of the body."""
    with pytest.raises(Unreadable) as caught:
        list(orders_in([body]))
    assert "status" not in str(caught.value)
