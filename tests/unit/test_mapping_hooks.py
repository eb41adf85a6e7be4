"""A merchant's own Python: functions by name, a last step over the document, and what their mistakes are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mapping_cases import SHOP, assemble, load, shop_rows

from daemon.document.outcome import Invalid, Outcome, Ready, Waiting
from daemon.errors import MappingError
from daemon.mapping.model import Mapping

HOOKS = '''
from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

RATE = Decimal("1.10")


@dataclass
class Rate:
    value: Decimal


def in_dollars(amount, rate=RATE):
    """the amount in dollars"""
    return None if amount is None else amount * Rate(rate).value


def _private(x):
    return x


def after(document, order):
    document["order_tags"] = sorted({*document["order_tags"], f"lines:{len(order['lines'])}", order["status"]})
    if order["customer"]["phone"] is None:
        document["customer_name"] = "nobody"
    return document
'''
USED = (
    ("root: orders", "root: orders\nhooks: hooks.py"),
    ("tax: order.tax", "tax: in_dollars(order.tax)"),
)


def hooked(directory: Path, hooks: str = HOOKS, *changes: tuple[str, str]) -> Mapping:
    """The shop's mapping with a hooks file."""
    (directory / "hooks.py").write_text(hooks, encoding="utf-8")
    return load(directory, SHOP, *(changes or USED))


def changed(old: str, new: str) -> str:
    assert old in HOOKS
    return HOOKS.replace(old, new)


def said(outcome: Outcome) -> str:
    assert isinstance(outcome, Invalid), outcome
    (problem,) = outcome.problems
    return problem


def test_functions_and_the_last_step(tmp_path: Path) -> None:
    """A function is called like any other; `after` has the document and the order's rows, and gives the document."""
    outcome = assemble(hooked(tmp_path), shop_rows())
    assert isinstance(outcome, Ready), outcome
    assert b'"tax":4.4,' in outcome.document.body
    assert b'"order_tags":["lines:2","paid","web"]' in outcome.document.body


def test_the_text_is_part_of_the_version(tmp_path: Path) -> None:
    """Another text is another mapping: orders that changed since are judged anew, a rolling deploy is safe."""
    first = hooked(tmp_path)
    assert hooked(tmp_path).version == first.version
    assert hooked(tmp_path, HOOKS + "\n# words\n").version != first.version


FAULTS: list[tuple[str, str, str]] = [
    ("* Rate(rate).value", "* Rate(rat).value", "hooks.py:17: in_dollars raises NameError; mend it there"),
    ("* Rate(rate).value", "* float(rate)", "hooks.py:17: in_dollars raises TypeError; mend it there"),
    (
        "* Rate(rate).value",
        "and 0.5",
        "in_dollars(...) of hooks.py gives what is no value of the language, such as a float",
    ),
    (
        "return document",
        "raise KeyError(document['customer_email'])",
        "hooks.py:28: after(document, order) of order 1 raises KeyError; mend it there",
    ),
    ("return document", "return None", "hooks.py: after of order 1 gives NoneType; return the document"),
    ("return document", "return document | {'tax': 4.4}", "must be a number; it has passed `after` of hooks.py"),
    (
        "return document",
        "return document | {'note': 'x'}",
        "note: is not an attribute of the Orders API; it has passed",
    ),
    ("return document", "return {}", "is required and has no value"),
]


@pytest.mark.parametrize(("old", "new", "expected"), FAULTS)
def test_what_goes_wrong_with_an_order(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """The hook, its line and the order are named, no value is; what it gives is validated like any document."""
    outcome = assemble(hooked(tmp_path, changed(old, new)), shop_rows())
    assert isinstance(outcome, Invalid)
    assert any(expected in problem for problem in outcome.problems), outcome.problems
    assert not any("jo@example.com" in problem for problem in outcome.problems)


def test_a_function_is_named_with_the_attribute_that_calls_it(tmp_path: Path) -> None:
    """As of every fault: place, attribute, expression."""
    outcome = assemble(hooked(tmp_path, changed("* Rate(rate).value", "* None")), shop_rows())
    assert said(outcome).startswith(
        "mapping.yaml:48:8: document.tax: in_dollars(order.tax): hooks.py:17: in_dollars raises"
    )


def test_what_has_not_arrived_is_waited_for(tmp_path: Path) -> None:
    """A hook that reads an unknown column or an absent row makes the order wait, as an expression would."""
    rows = [row for row in shop_rows() if row.source != "customers"]
    guests = (*USED, ("coalesce(row.customer.email, row.guest_email)", "row.guest_email"))
    mapping = hooked(tmp_path, HOOKS, *guests, ("customer_phone_number: order.customer.phone\n  ", ""))
    assert isinstance(assemble(mapping, rows), Waiting)


MISTAKES: list[tuple[str, Any, str]] = [
    ("from decimal import Decimal", "from decimal import Decimals", "hooks.py:5: ImportError while it is loaded"),
    ("def after(document, order):", "def after(document, order)", "hooks.py:24: SyntaxError while it is loaded"),
    ("def in_dollars(", "def upper(x): return x\n\ndef in_dollars(", "hooks.py defines upper, which is a function"),
]


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES)
def test_what_goes_wrong_with_the_file(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """The mapping is not loaded; file and line are told."""
    with pytest.raises(MappingError) as caught:
        hooked(tmp_path, changed(old, new))
    assert any(problem.startswith("mapping.yaml:4:1: hooks: " + expected) for problem in caught.value.problems)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Its place is told from the mapping file."""
    with pytest.raises(MappingError, match=r"mapping.yaml:4:1: hooks: mine.py cannot be read: No such file"):
        load(tmp_path, SHOP, ("root: orders", "root: orders\nhooks: mine.py"))


def test_calls_are_checked_when_the_mapping_is_loaded(tmp_path: Path) -> None:
    """Unknown names and wrong arguments, private functions and the last step itself included."""
    for call, expected in (
        ("in_dolars(1)", "did you mean `in_dollars`?"),
        ("in_dollars()", "in_dollars(amount, rate) is called wrongly"),
        ("_private(1)", "unknown function `_private`"),
        ("after(1, 2)", "unknown function `after`"),
    ):
        with pytest.raises(MappingError, match="tax") as caught:
            hooked(tmp_path, HOOKS, USED[0], ("tax: order.tax", f"tax: {call}"))
        assert expected in str(caught.value)
