"""How commands print: tables for people, JSON for scripts, both on standard output."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

PIPED_WIDTH = 200  # there is no terminal to fit: wide enough that no id or reason is broken


def console() -> Console:
    """Standard output as it is now (tests replace it)."""
    piped = not sys.stdout.isatty()
    return Console(file=sys.stdout, width=PIPED_WIDTH if piped else None, highlight=False, soft_wrap=piped)


def progress() -> Progress:
    """A bar with counts and the time that is left, on standard error; nothing where that is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)


def print_json(value: object) -> None:
    """One JSON document, indented, with every number exact."""
    sys.stdout.write(json_text(value, orjson.OPT_INDENT_2) + "\n")


def json_text(value: object, option: int = 0) -> str:
    """JSON with exact numbers, times in ISO form and bytes in base64."""
    return orjson.dumps(_plain(value), option=option).decode()


def _plain(value: object) -> object:
    """`value` with what orjson does not write exactly, or at all, in a form that it does."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f").encode())
    if isinstance(value, int) and value.bit_length() > 63:
        return orjson.Fragment(str(value).encode())
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(value).decode()
    return value


def print_table(title: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """One table of records; `columns` are the record's names, shown with blanks. Says so where there is nothing."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    listed = list(rows)
    for column in columns:
        numeric = any(isinstance(row[column], int | float) and not isinstance(row[column], bool) for row in listed)
        table.add_column(column.replace("_", " "), justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        table.add_row(*(escape(cell(column, row[column])) for column in columns))
    if listed:
        console().print(table)
    else:
        console().print(f"[bold]{escape(title)}[/bold]: none\n")


def print_line(text: str = "") -> None:
    """One line of plain text."""
    sys.stdout.write(text + "\n")


def cell(column: str, value: object) -> str:
    """A value as people read it: spans with their unit, times to the second."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, float) and column.endswith("_secs"):
        return span(value)
    return str(value)


def span(secs: float) -> str:
    """A duration in its two largest units."""
    whole = max(0, round(secs))
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {name}"
    return f"{whole} s"
