"""The `debezium:` table of a mapping: what it tells ingest of the connector, per mapping and per source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from mapping_cases import SHOP, load

from daemon.errors import MappingError
from daemon.mapping.structure import ConnectorModes, Role, Source


def modes(directory: Path, table: str) -> ConnectorModes:
    """The modes of the shop's root under a `debezium:` table at the top."""
    return load(directory, SHOP, ("root: orders", f"root: orders\ndebezium: {table}")).structure.sources["orders"].modes


def test_the_transforms_options_may_be_written_as_the_connector_has_them(tmp_path: Path) -> None:
    """A text with commas or a list, with prefixes, also an empty one where the fields are named."""
    text = modes(tmp_path, '{unwrapped: true, add_fields: "op, source.ts_ms:at", add_headers_prefix: h_}')
    listed = modes(tmp_path, "{unwrapped: true, add_fields: [op, source.ts_ms:at], add_headers_prefix: h_}")
    assert text == listed
    assert text == ConnectorModes(unwrapped=True, add_fields=("op", "source.ts_ms:at"), add_headers_prefix="h_")
    assert modes(tmp_path, '{add_fields: op, add_fields_prefix: ""}').add_fields_prefix == ""
    assert modes(tmp_path, "{bigint_unsigned_handling_mode: precise}").bigint_unsigned_handling_mode == "precise"


def test_a_source_may_differ_from_the_others(tmp_path: Path) -> None:
    """What it does not say itself it has from the top."""
    mapping = load(
        tmp_path,
        SHOP,
        ("root: orders", "root: orders\ndebezium: {unwrapped: true, add_fields: op}"),
        ("topic: shop.lines", "topic: shop.lines\n    debezium: {unwrapped: false}"),
    )
    assert mapping.structure.sources["orders"].modes == ConnectorModes(unwrapped=True, add_fields=("op",))
    assert mapping.structure.sources["lines"].modes == ConnectorModes(add_fields=("op",))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('{add_fields_prefix: ""}', "is empty; then name the fields under add_fields"),
        ("{add_fields: [source.a.b]}", "`source.a.b` is not what the option takes"),
        ("{unwrapped: perhaps}", "must be one of true, false"),
        ("{bigint_unsigned_handling_mode: exact}", "must be one of long, precise"),
        ("{add_field: op}", "did you mean `add_fields`"),
    ],
)
def test_a_slip_is_told_with_its_place(tmp_path: Path, table: str, words: str) -> None:
    """Each names its key."""
    with pytest.raises(MappingError, match="debezium") as caught:
        modes(tmp_path, table)
    assert any(words in problem for problem in caught.value.problems), caught.value.problems


def test_a_mode_that_is_not_used_asks_nobody_to_read_rows_anew() -> None:
    """Only what differs from the defaults is part of the version of a source's values. A new mode that changed this one
    would ask every installation for a rebuild."""
    source = Source("orders", "t", Role.ROOT, key=("id",))
    assert source.values_version() == "fe07703c92045d6c"
    for told in (ConnectorModes(decimal_handling_mode="string"), ConnectorModes(unwrapped=True)):
        assert replace(source, modes=told).values_version() != source.values_version()
