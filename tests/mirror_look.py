"""A mirror on Postgres as an onlooker sees it, beside what a recording's database held."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg
from corpora_loader import Corpus, Table, pg_text

from daemon.mapping.keys import row_key


@dataclass
class Mirror:
    """The rows of a recording's tables, read over a connection in our schema."""

    corpus: Corpus
    connection: psycopg.Connection

    def rows(self, table: Table) -> dict[str, dict[str, str | None]]:
        """The live rows in PostgreSQL's words; a column that was never reported has its default."""
        found = self.connection.execute(
            "select r.key, r.columns::text, r.unknown from source_row r join source s on s.id = r.source"
            " where s.name = %s and not r.deleted",
            [table.name],
        ).fetchall()
        rows = {}
        for key, text, unknown in found:
            assert unknown is None, (table.name, key, unknown)
            columns: dict[str, Any] = json.loads(text, parse_float=Decimal)
            rows[key] = {name: pg_text(columns.get(name, table.defaults[name]), t) for name, t in table.types.items()}
        return rows

    def orders_of(self, source: str) -> dict[str, str | None]:
        """The order of every live row of a source."""
        return dict(
            self.connection.execute(
                "select r.key, r.root from source_row r join source s on s.id = r.source"
                " where s.name = %s and not r.deleted",
                [source],
            ).fetchall()
        )


def truth(table: Table) -> dict[str, dict[str, str | None]]:
    """The table's rows by canonical key."""
    return {row_key([row[name] for name in table.pk]): dict(row) for row in table.rows}


def check_roots(mirror: Mirror) -> None:
    """Every row of an order knows its order, however many steps away."""
    refunds = {key: row["order_id"] for key, row in truth(mirror.corpus.tables["refunds"]).items()}
    for source in ("order_lines", "refunds"):
        want = {key: row["order_id"] for key, row in truth(mirror.corpus.tables[source]).items()}
        got = mirror.orders_of(source)
        assert {key: got[key] for key in want} == want, source
    want = {key: refunds[row["refund_id"]] for key, row in truth(mirror.corpus.tables["refund_lines"]).items()}
    got = mirror.orders_of("refund_lines")
    assert {key: got[key] for key in want} == want
