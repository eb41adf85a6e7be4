"""How values are printed: exact for scripts, short for people."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from daemon.cli.output import cell, json_text, print_table, span


@pytest.mark.parametrize(
    ("secs", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 m 0 s"),
        (3599, "59 m 59 s"),
        (3600, "1 h 0 m"),
        (90061, "1 d 1 h"),
        (-5, "0 s"),
    ],
)
def test_spans_have_two_units(secs: float, text: str) -> None:
    """The two largest units say enough; a clock that went back gives no negative age."""
    assert span(secs) == text


def test_json_keeps_every_digit() -> None:
    """Decimals keep their scale, large integers their digits, bytes are base64."""
    value = {"a": Decimal("20.50"), "b": 2**70, "c": b"\xff", "d": Decimal("1E+3")}
    text = json_text(value)
    assert text == '{"a":20.50,"b":1180591620717411303424,"c":"/w==","d":1000}'
    assert json.loads(text)["b"] == 2**70


def test_json_refuses_what_it_cannot_say() -> None:
    """A mistake of ours is an error, not a repr."""
    with pytest.raises(TypeError, match="set"):
        json_text({"a": {1}})


def test_cells_are_for_people() -> None:
    """Null, truth, time and span."""
    when = datetime(2026, 3, 1, 8, 0, 10, tzinfo=UTC)
    assert [cell("x", value) for value in (None, True, False, when, 3)] == [
        "-",
        "yes",
        "no",
        "2026-03-01 08:00:10Z",
        "3",
    ]
    assert cell("oldest_secs", 75.2) == "1 m 15 s"


def test_tables_print_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """A value that looks like markup is text; an empty table says so."""
    print_table("Things", ["some_name"], [{"some_name": "[bold]x[/bold]"}])
    print_table("None of them", ["a"], [])
    out = capsys.readouterr().out
    assert "[bold]x[/bold]" in out
    assert "some name" in out
    assert "None of them: none" in out
