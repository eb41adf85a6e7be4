"""What is generated in `helm/` is in step with where it is declared."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from chart.made import made
from chart.values import HELM, read_values
from jsonschema import Draft202012Validator

MADE = made()


@pytest.mark.parametrize("path", MADE, ids=lambda path: str(path.relative_to(HELM)))
def test_the_made_files_are_in_step(path: Path) -> None:
    """Settings, metrics, values or dashboards changed: `make generate`."""
    assert path.read_text(encoding="utf-8") == MADE[path], f"{path.name} is out of date; run `make generate`"


def _objects(schema: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every part of a schema that describes objects."""
    found = []
    if isinstance(schema, dict):
        kinds = schema.get("type", [])
        if "object" in ([kinds] if isinstance(kinds, str) else kinds):
            found.append((path, schema))
        for key, value in schema.items():
            found += _objects(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            found += _objects(value, f"{path}/{number}")
    return found


def test_the_schema_is_closed_everywhere() -> None:
    """A typo in values never installs: no object takes keys that are not declared."""
    schema = json.loads((HELM / "values.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    opened = [path for path, one in _objects(schema) if one.get("additionalProperties", True) is True]
    # Kubernetes itself leaves the second open: it is data of its own in an ephemeral volume's metadata.
    assert sorted(opened) == ["/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", "/properties/global"]


def test_every_value_has_a_sentence() -> None:
    """The comment of a key begins with a capital, or a path or name, and ends with a full stop."""
    for value in read_values():
        assert re.fullmatch(r"(false: |sha256:|/)?[A-Za-z].{3,}[.]", value.text), (value.key, value.text)
