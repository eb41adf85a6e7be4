"""The JSON Schema of the mapping file, for editors: what can stand where, with a word on each key.

It is made from the same lists that the loader reads by. `make schema` writes it to config/mapping.schema.json.
"""

from __future__ import annotations

import json
from typing import Any

from daemon.mapping.attributes import ORDER, Attribute, Type
from daemon.mapping.draft import MANY_KEYS, MODE_KEYS, MODES, ONE_KEYS, SOURCE_KEYS
from daemon.mapping.functions import FUNCTIONS
from daemon.mapping.loader import TOP_KEYS
from daemon.mapping.model import OnGone, Unplaced

Schema = dict[str, Any]

_EXPRESSION: Schema = {"$ref": "#/$defs/expression"}
_TEXT: Schema = {"type": "string", "minLength": 1}
_NAMES: Schema = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_FLAG: Schema = {"type": "boolean"}


def _one_of(*words: str) -> Schema:
    return {"enum": list(words)}


def _table(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def _closed(described: dict[str, tuple[Schema, str]], keys: tuple[str, ...], required: tuple[str, ...] = ()) -> Schema:
    """A table of these keys and no others. Raises KeyError for a key that is not described."""
    properties = {key: {**described[key][0], "description": described[key][1]} for key in keys}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        **({"required": list(required)} if required else {}),
    }


_MATCH = _table({"type": ["string", "number", "boolean"]}) | {"minProperties": 1}
_RELATION: dict[str, tuple[Schema, str]] = {
    "source": (_TEXT, "The source that the rows are of."),
    "match": (
        _MATCH,
        "{their column: my column}; `=text` on either side is a constant, `order.column` is the order's own.",
    ),
    "on_change": (_one_of("refresh", "ignore"), "Whether a change of the looked-up row makes the orders due again."),
    "required": (_FLAG, "Whether an order waits for the row where it has not arrived; true unless told."),
    "where": (_EXPRESSION, "Only the rows for which this holds; `row` is the child."),
    "sort": (_NAMES, "Columns or paths such as -variant.position; `-` descending, nulls last, ties by key."),
}
_SOURCE: dict[str, tuple[Schema, str]] = {
    "topic": (_TEXT, "The topic of the table's changes."),
    "required": (_FLAG, "Not ready while the topic is missing."),
    "key": (_NAMES, "The columns that name a row; without it, those by which relations do, or the message key's."),
    "types": (_table(_TEXT), "{column: type} where messages carry no schema, or not the right one."),
    "drop": (_NAMES, "Columns that are not stored."),
    "hash": (
        _table(_one_of("email", "phone")),
        "{column: email or phone}: stored as the hash that the API takes, never in plain.",
    ),
    "debezium": ({"$ref": "#/$defs/debezium"}, "How this topic's connector writes, where it differs."),
    "defaults": (_table(_EXPRESSION), "{column: value} of a column that old rows were never told of."),
    "one": (
        _table(_closed(_RELATION, ONE_KEYS, ("source", "match"))),
        "To-one relations: {name: {source, match}}; the target is named by its key, or is a row of the same order.",
    ),
    "many": (
        _table(_closed(_RELATION, MANY_KEYS, ("source", "match"))),
        "To-many relations: {name: {source, match}}; rows below an order, or below a looked-up row.",
    ),
    "let": (_table(_EXPRESSION), "Derived columns: {name: expression over row and order}."),
}
_MODE_WORDS: dict[str, tuple[Schema, str]] = {
    **{key: (_one_of(*words), f"The connector's {key.replace('_', '.')}.") for key, words in MODES.items()},
    "unavailable_value_placeholder": (_TEXT, "What stands for a value that the connector could not read."),
    "unwrapped": (_FLAG, "Rows come flattened by ExtractNewRecordState."),
    "add_fields": (_NAMES, "The transform's add.fields."),
    "add_headers": (_NAMES, "The transform's add.headers."),
    "add_fields_prefix": ({"type": "string"}, "The transform's add.fields.prefix."),
    "add_headers_prefix": ({"type": "string"}, "The transform's add.headers.prefix."),
}
_TOP: dict[str, tuple[Schema, str]] = {
    "version": ({"enum": [1, "1"]}, "The version of this grammar."),
    "debezium": ({"$ref": "#/$defs/debezium"}, "How the connector writes what messages do not say themselves."),
    "root": (_TEXT, "The source one row of which is one order."),
    "constants": (_table(_EXPRESSION), "{name: expression that reads no row}, known in every expression."),
    "sources": (_table({"$ref": "#/$defs/source"}), "The topics, and how their rows hang together."),
    "when": (_EXPRESSION, "What makes a root row an order; carts and drafts are none."),
    "void": (_EXPRESSION, "What makes an order cancelled: its last document is sent with zeros and the tag."),
    "void_tag": (_TEXT, "The tag of a voided order; `Cancelled` unless told."),
    "on_delete": (_one_of(*OnGone), "What becomes of a sent order whose row is deleted; keep unless told."),
    "on_leave": (_one_of(*OnGone), "What becomes of a sent order for which `when` no longer holds; void unless told."),
    "destinations": (
        _table(_closed({"when": (_EXPRESSION, "Which orders are for it; all without it.")}, ("when",))),
        "{destination of the settings: {when: expression}}; without this section every order is for every destination.",
    ),
    "time_of_purchase_offset_secs": (_EXPRESSION, "Seconds added to time_of_purchase: a function of the order alone."),
    "refund_without_product": (_one_of(*Unplaced), "Where money of a refund goes that names no product."),
    "merge_products": (_one_of("variant", "id"), "One line for each product and variant, or for each product."),
    "merge_refunds": (_one_of("event", "product"), "One row for each product and time, or for each product."),
    "phone_default_region": (
        _TEXT,
        "The country of numbers without one: alpha-2, or shipping_country; US unless told.",
    ),
    "hooks": (_TEXT, "A Python file beside this one with more functions, or a last step over the document."),
    "document": ({"$ref": "#/$defs/document"}, "What each attribute of the order is."),
}


def _rule(attribute: Attribute) -> Schema:
    if attribute.type is Type.OBJECT:
        return _parts(attribute.parts)
    if attribute.type is Type.LIST:
        rule = {
            "type": "object",
            "additionalProperties": False,
            "required": ["item"],
            "properties": {
                "for": _table(_EXPRESSION) | {"description": "{name: list}, nested: the outer one first."},
                "when": _EXPRESSION | {"description": "Only the items for which this holds."},
                "item": _parts(attribute.parts),
            },
        }
        return {"anyOf": [rule, {"type": "array", "items": rule}]}
    return _EXPRESSION


def _parts(attributes: tuple[Attribute, ...]) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {attribute.name: _rule(attribute) for attribute in attributes},
        "required": [attribute.name for attribute in attributes if attribute.required and not attribute.derived],
    }


def schema() -> Schema:
    """The whole schema."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "order-sync mapping",
        **_closed(_TOP, TOP_KEYS, ("version", "root", "sources", "document")),
        "$defs": {
            "expression": {
                "type": ["string", "number", "boolean"],
                "description": f"An expression. Functions: {', '.join(sorted(FUNCTIONS))}.",
            },
            "debezium": _closed(_MODE_WORDS, MODE_KEYS),
            "source": _closed(_SOURCE, SOURCE_KEYS, ("topic",)),
            "document": _parts(ORDER),
        },
    }


def schema_text() -> str:
    """The schema as the file holds it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def function_table() -> str:
    """The functions of the language as a table in Markdown."""
    rows = [f"| `{one.usage}` | {one.summary} |" for _, one in sorted(FUNCTIONS.items())]
    return "\n".join(["| function | gives |", "|---|---|", *rows]) + "\n"
