"""`values.schema.json`: closed everywhere, from values.yaml, the daemon's settings and Kubernetes' own types."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

from chart.values import ALERT, Value, read_values
from daemon.operate.metrics import FRESHNESS_BUCKETS
from daemon.settings import Settings

Schema = dict[str, Any]

KUBERNETES = "1.34"  # the types in values are those of this version; later ones only add to them
_CORE = "io.k8s.api.core.v1."
_NETWORK = "io.k8s.api.networking.v1."
_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_UNREAD = ("description", "format", "title", "default", "$schema", "$id")
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def values_schema() -> Schema:
    """The whole schema as plain data."""
    defs: Schema = {"settings": _settings_schema()}
    root: Schema = {"type": "object", "additionalProperties": False, "properties": {}}
    for value in read_values():
        inside = root
        for part in value.key[:-1]:
            inside = inside["properties"][part]
        inside["properties"][value.key[-1]] = _resolved(_of(value), defs)
    # Helm hands charts that depend on this one a section `global`.
    root["properties"]["global"] = {"type": "object", "description": "Unused: for parent charts."}
    return {"$schema": _DRAFT, "title": "order-sync", **root, "$defs": dict(sorted(defs.items()))}


def _of(value: Value) -> Schema:
    if value.schema == ALERT:
        return _alert(value)
    text: Schema = {"description": value.text}
    if value.inner:
        return {**text, "type": "object", "additionalProperties": False, "properties": {}}
    given = value.schema if isinstance(value.schema, dict) else {}
    if "$ref" in given:
        return {**text, **given}
    inferred: Schema = {} if "type" in given or "enum" in given else {"type": _TYPES[type(value.default)]}
    if value.default == {} and "additionalProperties" not in given:
        inferred["additionalProperties"] = False
    return {**text, **inferred, **given}


def _alert(value: Value) -> Schema:
    knobs: Schema = {
        "enabled": {"type": "boolean"},
        "severity": {"enum": ["critical", "warning"]},
        "for": {"type": "string", "pattern": "^[0-9]+(s|m|h|d)$"},
    }
    if "threshold" in value.default:
        knobs["threshold"] = {"type": "number", "minimum": 0}
    return {"description": value.text, "type": "object", "additionalProperties": False, "properties": knobs}


def _resolved(schema: Schema, defs: Schema) -> Schema:
    """With `k8s:` and `freshness` references made real, and what they need put into `defs`."""
    resolved: Schema = {}
    for key, value in schema.items():
        if key == "$ref" and value == "freshness":
            resolved["enum"] = list(FRESHNESS_BUCKETS)
        elif key == "$ref" and value.startswith("k8s:"):
            resolved["$ref"] = f"#/$defs/{_kubernetes(value.removeprefix('k8s:'), defs)}"
        elif key == "$ref":
            resolved["$ref"] = f"#/$defs/{value}"
        elif isinstance(value, dict):
            resolved[key] = _resolved(value, defs)
        else:
            resolved[key] = value
    return resolved


def _kubernetes(name: str, defs: Schema) -> str:
    known = _kubernetes_types()
    full = next(prefix + name for prefix in (_CORE, _NETWORK) if prefix + name in known)
    waiting = [full]
    while waiting:
        one = waiting.pop()
        if one in defs:
            continue
        text = json.dumps(_bare(known[one]))
        waiting += re.findall(r"#/\$defs/([\w.]+)", text)
        defs[one] = json.loads(text.replace("/api/_definitions.json#", "#"))
    return full


def _kubernetes_types() -> Schema:
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{KUBERNETES}.0-local-strict"
    types: Schema = json.loads((folder / "_definitions.json").read_text(encoding="utf-8"))["$defs"]
    return types


def _settings_schema() -> Schema:
    """The settings file without what the chart itself says; nothing is required at the top: the templates name it."""
    schema = Settings.model_json_schema()
    defs = schema.pop("$defs")
    schema["properties"].pop("mapping")
    schema.pop("required")
    return _inlined(_bare(schema), _bare(defs))


def _inlined(schema: Any, defs: Schema) -> Any:
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(defs[schema["$ref"].removeprefix("#/$defs/")], defs)
        closed = {"additionalProperties": False} if "patternProperties" in schema else {}
        return {key: _inlined(value, defs) for key, value in schema.items()} | closed
    return [_inlined(value, defs) for value in schema] if isinstance(schema, list) else schema


def _bare(schema: Any) -> Any:
    """Without what no validator reads; a property may well be called `description`."""
    if isinstance(schema, list):
        return [_bare(value) for value in schema]
    if not isinstance(schema, dict):
        return schema
    bare = {}
    for key, value in schema.items():
        if key in ("properties", "$defs", "patternProperties"):
            bare[key] = {name: _bare(inner) for name, inner in value.items()}
        elif key not in _UNREAD and not key.startswith("x-kubernetes"):
            bare[key] = _bare(value)
    return bare
