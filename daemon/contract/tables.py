"""Which tables the topics of a mapping are written from: Debezium names a topic `prefix.schema.table`.

MySQL's databases stand where PostgreSQL's schemas do. Debezium writes `_` for what a topic's name cannot hold, so a
table with such a name is not told exactly.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from daemon.mapping.structure import Source, Structure

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
SIGNAL_TABLE = "debezium_signal"


class Database(StrEnum):
    """The kinds of OMS databases that the contract is written for; MariaDB is MySQL here."""

    POSTGRES = "postgres"
    MYSQL = "mysql"


@dataclass(frozen=True, slots=True, order=True)
class Table:
    """A table of the OMS. `schema` is PostgreSQL's schema or MySQL's database."""

    schema: str
    name: str

    @property
    def text(self) -> str:
        """As Debezium names it: `schema.table`."""
        return f"{self.schema}.{self.name}"

    def sql(self, database: Database) -> str:
        """As SQL names it."""
        return f"{identifier(self.schema, database)}.{identifier(self.name, database)}"

    def pattern(self) -> str:
        """The regular expression, as the connector's lists want it, that matches this table alone."""
        return f"{pattern(self.schema)}.{pattern(self.name)}"


@dataclass(frozen=True, slots=True)
class Captured:
    """A source of the mapping and the table that its topic is written from."""

    source: Source
    table: Table


@dataclass(frozen=True, slots=True)
class Capture:
    """What one connector has to capture: the tables behind the topics of one prefix."""

    prefix: str
    captured: tuple[Captured, ...]

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables in the mapping's order."""
        return tuple(item.table for item in self.captured)

    @property
    def signal(self) -> Table:
        """Where signals to this connector are written."""
        return signal_table(self.captured[0].table)

    @property
    def slug(self) -> str:
        """The prefix as part of a name in SQL."""
        return re.sub(r"\W", "_", self.prefix).lower()


def signal_table(beside: Table) -> Table:
    """The signal table in the schema of another table."""
    return Table(beside.schema, SIGNAL_TABLE)


def table_of(topic: str) -> tuple[str, Table] | None:
    """The connector's topic.prefix and the table behind a topic; None where the name does not end in schema.table."""
    parts = topic.rsplit(".", 2)
    if len(parts) < 3 or not all(parts):
        return None
    return parts[0], Table(parts[1], parts[2])


def captures(structure: Structure) -> list[Capture]:
    """The connectors that write the mapped topics, one for each prefix."""
    found: dict[str, list[Captured]] = {}
    for source in structure.sources.values():
        told = table_of(source.topic)
        if told is not None:
            found.setdefault(told[0], []).append(Captured(source, told[1]))
    return [Capture(prefix, tuple(captured)) for prefix, captured in found.items()]


def unnamed(structure: Structure) -> list[Source]:
    """The sources whose topic does not tell its table."""
    return [source for source in structure.sources.values() if table_of(source.topic) is None]


def identifier(name: str, database: Database, *, quoted: bool = False) -> str:
    """A name in SQL; plain ones stand as they are unless `quoted`, since a keyword is allowed after a dot alone."""
    if not quoted and _PLAIN.fullmatch(name):
        return name
    quote = '"' if database is Database.POSTGRES else "`"
    return quote + name.replace(quote, quote * 2) + quote


def literal(text: str, database: Database) -> str:
    """A text in SQL."""
    if database is Database.MYSQL:
        text = text.replace("\\", "\\\\")
    return "'" + text.replace("'", "''") + "'"


def pattern(name: str) -> str:
    """A name as part of a regular expression of the connector's lists."""
    return re.sub(r"[^\w-]", lambda match: "\\" + match[0], name)


def listed(tables: Iterable[Table], database: Database) -> str:
    """Tables as SQL lists them."""
    return ", ".join(table.sql(database) for table in tables)
