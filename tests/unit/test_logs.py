"""Log lines: one form for ours and other libraries', times in UTC, and no value that an error quotes."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import structlog

from daemon.errors import StateUnavailable
from daemon.operate.logs import configure_logs, kafka_logger


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the lines go; the configuration before the test comes back after it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    """What was written, as JSON."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_hold_event_keys_level_and_utc_time(stream: io.StringIO) -> None:
    """A constant message, keys beside it, an ISO time in UTC."""
    configure_logs("json", "info", stream)
    structlog.get_logger("daemon.x").info("batch folded", messages=3)
    [line] = lines(stream)
    stamp = datetime.fromisoformat(str(line.pop("timestamp")))
    assert stamp.utcoffset() == timedelta(0)
    assert line == {"event": "batch folded", "messages": 3, "level": "info", "logger": "daemon.x"}


def test_console_lines_hold_the_same(stream: io.StringIO) -> None:
    """For people: one line, without colours where there is no terminal."""
    configure_logs("console", "info", stream)
    structlog.get_logger("daemon.x").warning("topic missing", topic="shop.orders")
    text = stream.getvalue()
    assert "topic missing" in text
    assert "topic=shop.orders" in text
    assert "\x1b" not in text


def test_level_holds_for_ours_and_theirs(stream: io.StringIO) -> None:
    """Below the level nothing is written, and a line for each HTTP request only from warning up."""
    configure_logs("json", "info", stream)
    structlog.get_logger("daemon.x").debug("not this")
    kafka_logger().debug("nor this")
    logging.getLogger("httpx").info("nor this one")
    logging.getLogger("httpx").warning("but this")
    assert [line["logger"] for line in lines(stream)] == ["httpx"]


def test_librdkafka_lines_are_events(stream: io.StringIO) -> None:
    """Their text is a key, so that the message stays constant."""
    configure_logs("json", "info", stream)
    kafka_logger().error("%s is down", "broker 1")
    [line] = lines(stream)
    assert (line["event"], line["text"], line["logger"]) == ("library", "broker 1 is down", "librdkafka")


def _fold() -> None:
    try:
        int("jane@example.com")
    except ValueError as error:
        raise StateUnavailable("Postgres: gone") from error


@pytest.mark.parametrize("form", ["json", "console"])
def test_errors_show_places_and_only_our_own_texts(stream: io.StringIO, form: str) -> None:
    """An error of another library may quote the row it choked on: its type and places are enough."""
    configure_logs("json" if form == "json" else "console", "info", stream)
    try:
        _fold()
    except StateUnavailable:
        structlog.get_logger("daemon.x").exception("fold failed")
        logging.getLogger("other").exception("theirs")
    text = stream.getvalue()
    assert "jane" not in text
    assert text.count("daemon.errors.StateUnavailable") == 2
    assert text.count("builtins.ValueError") == 2
    assert text.count("Postgres: gone") == 2
    assert "test_logs.py" in text


def test_configuring_again_replaces(stream: io.StringIO) -> None:
    """A second call does not write every line twice."""
    configure_logs("json", "info", stream)
    configure_logs("json", "info", stream)
    logging.getLogger("other").warning("once")
    assert len(lines(stream)) == 1
