"""`config/oms/README.md` says what the code does: a stranger has nothing but that page."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

from daemon.document.assemble import Assembler
from daemon.document.outcome import Ready
from daemon.mapping.attributes import ORDER
from daemon.mapping.json_schema import function_table
from daemon.mapping.loader import TOP_KEYS, load_mapping
from daemon.mapping.rows import StoredRow
from daemon.settings_file import load_settings

OMS = Path(__file__).parents[2] / "config" / "oms"
PAGE = (OMS / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def _section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_functions_are_those_of_the_language() -> None:
    """The table that `make schema` writes stands on the page too."""
    assert function_table() in _section("Functions") + "\n"


def test_the_attributes_are_those_of_the_api() -> None:
    """Every attribute and every part is named, and the required ones are marked."""
    text = _section("Attributes")
    marked = set(re.findall(r"`(\w+)` \\\*", text))
    named = set(re.findall(r"`(\w+)`", text))
    parts = [part for attribute in ORDER for part in attribute.parts]
    assert {one.name for one in (*ORDER, *parts)} <= named
    assert marked == {one.name for one in (*ORDER, *parts) if one.required and not one.derived}


def test_the_keys_are_those_of_the_file() -> None:
    """Every top-level key is explained somewhere."""
    assert {key for key in TOP_KEYS if not re.search(rf"`{key}[`:]", PAGE)} == set()


def test_the_files_are_those_beside_the_page() -> None:
    """Each mapping has its line."""
    listed = set(re.findall(r"^\| `(\w+\.yaml)` ", PAGE, re.MULTILINE))
    assert listed == {path.name for path in OMS.glob("*.yaml")}


def test_the_settings_load(tmp_path: Path) -> None:
    """As they stand there."""
    [text] = [block for block in _blocks("yaml") if block.startswith("mapping:")]
    path = tmp_path / "order-sync.yaml"
    path.write_text(text, encoding="utf-8")
    assert load_settings(path, environ={}).mapping == tmp_path / "mapping.yaml"


def test_the_small_mapping_makes_the_document_that_is_shown(tmp_path: Path) -> None:
    """From the rows that the page tells of."""
    [text] = [block for block in _blocks("yaml") if block.startswith("version:")]
    [shown] = _blocks("json")
    path = tmp_path / "mapping.yaml"
    path.write_text(text, encoding="utf-8")
    head = {
        "id": 7,
        "no": "A-7",
        "state": "paid",
        "buyer": 42,
        "mail": "ann@example.com",
        "placed": "2026-03-01T09:00:00",
        "currency": "USD",
        "total": Decimal("26.60"),
        "tax": Decimal("1.60"),
        "shipping": Decimal("5.00"),
    }
    line = {"id": 1, "purchase_id": 7, "sku": "MUG", "title": "Mug", "pieces": 2, "net": Decimal("20.00")}
    payback = {"id": 2, "purchase_id": 7, "line_id": None, "pieces": None, "amount": Decimal("4.00")}
    rows = [
        StoredRow("purchase", "7", "7", head),
        StoredRow("purchase_line", "1", "7", line),
        StoredRow("payback", "2", "7", payback | {"paid_at": "2026-03-03T12:00:00"}),
    ]
    outcome = Assembler(load_mapping(path)).assemble("7", rows)
    assert isinstance(outcome, Ready)
    assert _exact(outcome.document.body) == _exact(shown)


def _exact(text: str | bytes) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)
