"""Column types as a mapping declares them (`types:`), in the spelling of PostgreSQL, MySQL or SQL Server."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from enum import StrEnum


class Family(StrEnum):
    """What the values of a type have in common, as far as reading them from a message goes."""

    INTEGER = "integer"
    FLAG = "flag"  # MySQL's tinyint(1): 0/1 or false/true, depending on the connector's converters
    BOOLEAN = "boolean"
    UNSIGNED_BIGINT = "unsigned bigint"
    DECIMAL = "decimal"
    MONEY = "money"  # a decimal whose scale is the database's
    FLOAT = "float"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    ZONED_TIME = "zoned time"
    ZONED_TIMESTAMP = "zoned timestamp"
    INTERVAL = "interval"
    BYTES = "bytes"
    BITS = "bits"  # bytes too, but always in base64, whatever binary.handling.mode says
    PLAIN = "plain"  # text, json, uuid, enum, inet, geometry …: kept as the message gives it
    ARRAY = "array"


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A parsed type. `precision` is a decimal's digits or a time's fractional digits, `element` is set for arrays.

    A `time` that names no digits has None: databases differ in what that means.
    """

    family: Family
    precision: int | None = None
    scale: int | None = None
    element: ColumnType | None = None


_NAMES: dict[Family, str] = {
    Family.INTEGER: "smallint int2 integer int int4 bigint int8 tinyint mediumint smallserial serial serial2 serial4 "
    "bigserial serial8 oid year",
    Family.BOOLEAN: "boolean bool",
    Family.DECIMAL: "numeric decimal dec fixed smallmoney",
    Family.MONEY: "money",
    Family.FLOAT: "real float float4 float8 double",
    Family.DATE: "date",
    Family.TIME: "time",
    Family.TIMESTAMP: "timestamp datetime datetime2 smalldatetime",
    Family.ZONED_TIME: "timetz",
    Family.ZONED_TIMESTAMP: "timestamptz datetimeoffset",
    Family.INTERVAL: "interval",
    Family.BYTES: "bytea binary varbinary blob tinyblob mediumblob longblob image rowversion",
    Family.BITS: "bit varbit",
    Family.PLAIN: "text tinytext mediumtext longtext ntext varchar varchar2 nvarchar char nchar character bpchar name "
    "citext string uuid uniqueidentifier json jsonb jsonpath xml enum set inet inet4 inet6 cidr macaddr "
    "macaddr8 pg_lsn point line lseg box path polygon circle geometry geography linestring multipoint "
    "multilinestring multipolygon geometrycollection geomcollection hierarchyid hstore ltree tsvector "
    "tsquery vector halfvec sparsevec int4range int8range numrange tsrange tstzrange daterange "
    "int4multirange int8multirange nummultirange tsmultirange tstzmultirange datemultirange",
}
_FAMILIES = {name: family for family, names in _NAMES.items() for name in names.split()}
_SPELLED_OUT = {
    "double precision": "double",
    "character varying": "varchar",
    "bit varying": "varbit",
    "national character varying": "nvarchar",
    "national character": "nchar",
}
_TYPE = re.compile(
    r"(?P<name>[a-z][a-z0-9_]*(?: (?:precision|varying|character))*)"
    r"\s*(?:\((?P<arguments>[^()]*)\))?"
    r"\s*(?P<zone>with(?:out)?(?: local)? time zone)?"
    r"(?P<sign>(?: ?(?:un)?signed)?(?: ?zerofill)?)"
    r"\s*(?P<dimensions>(?:\[\d*\])*)"
)
_INTERVAL = re.compile(r"interval\b[a-z ]*(?:\(\d+\))?")
MAX_SCALE = 1000  # of a declared numeric, in PostgreSQL; the other databases allow less
_DEFAULT_FRACTION = {"timestamp": 6, "datetime2": 7, "datetime": 0, "smalldatetime": 0}
_SMALLMONEY_SCALE = 4


def check_type(text: str) -> None:
    """Raise ValueError, with the near miss, for a type text that `types:` does not know."""
    parse_type(text)


def parse_type(text: str) -> ColumnType:
    """The meaning of a type text. Raises ValueError, naming the near miss, for one that is not known."""
    spelled = " ".join(text.lower().split())
    if _INTERVAL.fullmatch(spelled):
        return ColumnType(Family.INTERVAL)
    match = _TYPE.fullmatch(spelled)
    if match is None:
        raise _unknown(text, spelled)
    name = _SPELLED_OUT.get(match["name"], match["name"])
    family = _FAMILIES.get(name)
    if family is None:
        raise _unknown(text, name)
    parsed = _scalar(name, family, _integers(match["arguments"]), match["zone"])
    if name == "bigint" and "unsigned" in match["sign"]:
        parsed = ColumnType(Family.UNSIGNED_BIGINT)
    for _ in range(match["dimensions"].count("[")):
        parsed = ColumnType(Family.ARRAY, element=parsed)
    return parsed


def _scalar(name: str, family: Family, arguments: list[int], zone: str | None) -> ColumnType:
    first = arguments[0] if arguments else None
    if family is Family.DECIMAL:
        if name == "smallmoney":
            return ColumnType(family, scale=_SMALLMONEY_SCALE)
        scale = arguments[1] if len(arguments) > 1 else (0 if arguments else None)
        if abs(scale or 0) > MAX_SCALE:
            raise ValueError(f"the scale of {name} lies within {MAX_SCALE} digits on either side of the point")
        return ColumnType(family, first, scale)
    if family in (Family.TIME, Family.TIMESTAMP):
        if zone is not None and zone.startswith("with "):
            family = Family.ZONED_TIME if family is Family.TIME else Family.ZONED_TIMESTAMP
        return ColumnType(family, _DEFAULT_FRACTION.get(name) if first is None else first)
    if name == "tinyint" and first == 1:
        return ColumnType(Family.FLAG)
    if name == "bit" and first in (None, 1):
        return ColumnType(Family.BOOLEAN)
    return ColumnType(family)


def _integers(arguments: str | None) -> list[int]:
    parts = [part.strip() for part in (arguments or "").split(",")]
    return [int(part) for part in parts if part.lstrip("-").isdecimal()]


def _unknown(text: str, name: str) -> ValueError:
    near = difflib.get_close_matches(name.split("(")[0], [*_FAMILIES, *_SPELLED_OUT], n=1)
    hint = f"did you mean {near[0]}?" if near else "an enum or a type of your own is declared as text"
    return ValueError(f"{text!r} is not a column type: {hint}")
