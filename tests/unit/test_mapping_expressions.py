"""The meaning of expressions: exact numbers, loud nulls, navigation, and what stock Jinja2 gets wrong."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from daemon.mapping.expressions import compile_expression
from daemon.mapping.faults import Fault, Mistake
from daemon.mapping.functions import FUNCTIONS
from daemon.mapping.kinds import ANY, VALUE, Kind
from daemon.mapping.place import Place

PLACE = Place("mapping.yaml", 3, 7)


class NoSources:
    """A schema without sources: these expressions only have plain values."""

    constants: ClassVar[dict[str, Any]] = {}
    functions: ClassVar[dict[str, Any]] = FUNCTIONS

    def attribute(self, source: str, name: str, place: Place) -> Kind:
        """Never asked."""
        raise AssertionError(source, name, place)

    column = attribute

    def anywhere(self, name: str) -> None:
        """Nothing is recorded here."""

    def relations(self, source: str) -> list[str]:
        """Never asked."""
        raise AssertionError(source)


def value(text: str, kinds: Mapping[str, Kind] | None = None, **names: Any) -> Any:
    """The value of an expression over plain names."""
    known = dict.fromkeys(names, VALUE) | dict(kinds or {})
    return compile_expression(text, "document.tax", PLACE, known, NoSources()).evaluate(names)


EXACT = [
    ("0.1 + 0.2", "0.3"),
    ("x * 0.5", "0.615"),
    ("3 / 2", "1.5"),
    ("1 / 4 * 4", "1"),
    ("10 / 3 * 3", "9.9999999999999999999999999999999999999"),
    ("12345678901234567.89 + 0.01", "12345678901234567.90"),
    ("0.1234567890123456789", "0.1234567890123456789"),
    ("-x", "-1.23"),
    ("7 - 10", "-3"),
    ("2 * 3", "6"),
    ("9007199254740993 * 3", "27021597764222979"),
]


@pytest.mark.parametrize(("text", "expected"), EXACT)
def test_arithmetic_is_exact(text: str, expected: str) -> None:
    """Whole numbers and decimals are exact; no literal and no quotient is ever a float."""
    result = value(text, x=Decimal("1.23"))
    assert isinstance(result, int | Decimal)
    assert result == Decimal(expected)


def test_comparisons_with_decimal_literals() -> None:
    """`rate == 0.2` is true for the decimal 0.20, which it is not with a float literal."""
    assert value("rate == 0.2", rate=Decimal("0.20")) is True
    assert value("rate in [0.1, 0.2]", rate=Decimal("0.2")) is True
    assert value("0 < rate <= 0.2", rate=Decimal("0.2")) is True
    assert value("rate != 1", rate=Decimal("1.00")) is False


FAULTS = [
    ("x + 1", {"x": None}, "null in `+`; write (x or 0)"),
    ("x * 2", {"x": None}, "null in `*`"),
    ("-x", {"x": None}, "null in `-`"),
    ("x > 1", {"x": None}, "null in `>`"),
    ("'A' ~ x", {"x": None}, "null in `~`; use words(...)"),
    ("x + 1", {"x": "5"}, "text in `+`: declare `types: {column: numeric}`"),
    ("x + y", {"x": "5", "y": "6"}, "text in `+`"),
    ("x * 3", {"x": "5"}, "text in `*`"),
    ("x == 5", {"x": "5"}, "text compared with a number"),
    ("x in [1, 2]", {"x": "1"}, "text compared with a number"),
    ("x < 5", {"x": "4"}, "text in `<`"),
    ("x + 1", {"x": True}, "`+` needs numbers, not true or false and a number"),
    ("x / y", {"x": 1, "y": 0}, "division by zero"),
    ("x / y", {"x": Decimal(0), "y": 0}, "division of zero by zero"),
    ("1 in x", {"x": None}, "`in` needs a list, an object or a text on its right, not null"),
    ("x[0]", {"x": 5}, "`[...]` after a number"),
]


@pytest.mark.parametrize(("text", "names", "expected"), FAULTS)
def test_faults_name_place_and_expression_and_no_value(text: str, names: dict[str, Any], expected: str) -> None:
    """What cannot be worked out is an error with place, attribute, expression and cure, never a guess."""
    with pytest.raises(Fault) as caught:
        value(text, **names)
    assert str(caught.value).startswith(f"mapping.yaml:3:7: document.tax: {text}: ")
    assert expected in str(caught.value)


def test_truth_and_choice() -> None:
    """`or` takes 0 and '' for missing, `coalesce` takes '' alone, `is none` neither."""
    assert value("x or 5", x=0) == 5
    assert value("coalesce(x, 5)", x=0) == 0
    assert value("coalesce(x, 5)", x=" ") == 5
    assert value("x is none", x=0) is False
    assert value("x is not none", x=None) is False
    assert value("none == x", x=None) is True
    assert value("x == 'a'", x=None) is False
    assert value("'yes' if not x else 'no'", x="") == "yes"


def test_only_what_is_needed_is_read() -> None:
    """The branch not taken, and what comes after the first value of coalesce, are not worked out."""
    assert value("1 if x else 1 / 0", x=True) == 1
    assert value("coalesce(x, 1 / 0)", x=3) == 3
    assert value("x or 1 / 0", x=3) == 3
    assert value("x and 1 / 0", x=0) == 0


def test_texts_and_lists() -> None:
    """Texts are put together with `~`, in canonical form; lists with `+`."""
    assert value("'n' ~ x ~ true", x=Decimal("1.50")) == "n1.5true"
    assert value("[x] + ['b']", x="a") == ["a", "b"]
    assert value("x[0]", x=[1, 2]) == 1
    assert value("x[5]", x=[1, 2]) is None
    assert value("{'a': 'AA'}[x]", x="a") == "AA"
    assert value("{'a': 'AA'}[x]", x="b") is None


def test_parsed_json_is_navigable_and_exact() -> None:
    """Members of parsed JSON are null-safe, decimals exact, and a member may be called like a method."""
    text = '{"a": {"b": 1.10, "items": [3]}, "values": 2}'
    assert value("parse(x).a.b", x=text) == Decimal("1.10")
    assert value("parse(x).a['items'][0]", x=text) == 3
    assert value("parse(x).a.items", x=text) == [3]
    assert value("parse(x).values", x=text) == 2
    assert value("parse(x).no.where", x=text) is None
    assert value("parse(x).a", x=None) is None


REFUSED = [
    ("x.__class__", "after a column or a value"),
    ("x['__class__'].mro()", "only functions can be called"),
    ("parse(x).__class__.__mro__()", "only functions can be called"),
    ("x | attr('y')", "filters"),
    ("x % 2", "`%` is not part"),
    ("x // 2", "`//` is not part"),
    ("x[1:2]", "slices"),
    ("[i for i in x]", "is not an expression"),
    ("x is defined", "`is defined` is not part"),
    ("max", "`max` is a function; call it: max(...)"),
    ("range(10)", "unknown function `range`"),
    ("max(*x)", "`*` and `**` in calls"),
    ("{1: 2}", "must be texts"),
]


@pytest.mark.parametrize(("text", "expected"), REFUSED)
def test_the_language_is_closed(text: str, expected: str) -> None:
    """What the language does not have is refused when the mapping is loaded."""
    with pytest.raises(Mistake, match=r"(?s).*") as caught:
        value(text, x=[1])
    assert expected in str(caught.value)


def test_parsed_json_gives_no_python_attributes() -> None:
    """`.__class__` of a parsed object is a missing member, not Python's."""
    assert value("parse(x).__class__", x="{}") is None
    with pytest.raises(Fault, match="after a number"):
        value("x.real", {"x": ANY}, x=5)


def test_unforeseen_values_are_faults() -> None:
    """A value that trips Python itself is a fault of that order, told without the value."""
    with pytest.raises(Fault, match=r"cannot be worked out for these values \(TypeError\)"):
        value("[x] in parse(x)", x="{}")
