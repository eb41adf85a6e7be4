"""Customers of the captured shops are erased: what told who they were is nowhere, and every order comes to the same."""

from __future__ import annotations

import json
import zlib
from typing import Any

import psycopg
import pytest
from erase_rig import KEY_VARIABLE, Kafka, at_rest, rebuild, settings_for
from fixtures.postgres import Database
from shop_replay import NAMES, outcomes, shop

from daemon.document.outcome import Ready
from daemon.mapping.attributes import PERSONAL
from daemon.mapping.rows import StoredRow
from daemon.state import reads
from daemon.state.erase_customer import erase_customer

pytestmark = pytest.mark.postgres

Documents = dict[str, dict[str, Any]]


def stored(database: Database) -> list[StoredRow]:
    """All rows of the mirror."""
    with reads.reading(database.settings) as cursor:
        cursor.execute(
            "select s.name as source, r.key, r.root, r.columns::text, r.unknown, r.deleted, r.first_seen, r.parent"
            " from source_row r join source s on s.id = r.source"
        )
        names = [column.name for column in cursor.description or ()]
        return [reads._stored(dict(zip(names, row, strict=True))) for row in cursor.fetchall()]


def documents(database: Database, name: str) -> Documents:
    """Every order that can be sent, by its key."""
    found = outcomes(shop(name).mapping, stored(database))
    return {key: json.loads(one.document.body, parse_float=str) for key, one in found.items() if isinstance(one, Ready)}


def texts(document: dict[str, Any]) -> set[str]:
    """What a document says of who its customer is."""
    address = document.get("customer_shipping_address") or {}
    values = [document.get(name) for name in PERSONAL] + [address.get("address1"), document["customer_id"]]
    return {value for value in values if isinstance(value, str) and len(value) >= 4}


def without_customer(document: dict[str, Any]) -> dict[str, Any]:
    """The rest of it."""
    return {name: value for name, value in document.items() if name not in PERSONAL | {"customer_id"}}


@pytest.mark.parametrize("name", NAMES)
def test_customers_of_a_real_shop(
    name: str, database: Database, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but one customer, or three, one after the other, then everything read anew: nothing of them comes back."""
    monkeypatch.setenv(KEY_VARIABLE, "a long random text")
    mapping = shop(name).mapping
    settings = settings_for(database.settings, mapping)
    connection.execute("set search_path to order_sync")
    connection.execute("insert into destination (name, base_url, client_id) values ('d', 'http://x', 'c')")
    kafka = Kafka(settings, mapping)
    kafka.fold(shop(name).corpus.messages)
    before = documents(database, name)
    for key, document in before.items():  # as if all had been accepted
        body = zlib.compress(json.dumps(document).encode())
        connection.execute(
            "update order_sync set ever_attempted = true, vendor_order_id = %s, last_attempted = %s,"
            " last_accepted = %s, settled_revision = revision where order_key = %s",
            [document["order_id"], body, body, key],
        )
    customers = sorted({document["customer_id"] for document in before.values()})
    chosen = customers[: max(min(len(customers) - 1, 3), 1)]  # one is left
    theirs = {key for key, document in before.items() if document["customer_id"] in chosen}
    others = set[str]().union(*(texts(document) for key, document in before.items() if key not in theirs))
    telling = set[str]().union(*(texts(before[key]) for key in theirs)) - others
    assert len(telling) >= 3
    assert all(text in at_rest(database) for text in telling)

    for customer in chosen:
        report = erase_customer(settings, mapping, customer, "me")
        # With drafts and cancelled ones, of which there is no document.
        assert report.orders >= sum(document["customer_id"] == customer for document in before.values())

    def check(when: str) -> None:
        rests = at_rest(database)
        assert [text for text in telling if text in rests] == [], when
        after = documents(database, name)
        assert after.keys() == before.keys(), when
        for key, document in before.items():
            if key not in theirs:
                assert after[key] == document, when
                continue
            assert not PERSONAL & after[key].keys(), when
            assert without_customer(after[key]) == without_customer(document), when
        assert len({after[key]["customer_id"] for key in theirs}) == len(chosen), when

    check("erased")
    owed = connection.execute("select order_key from order_sync where clear is not null").fetchall()
    assert {key for (key,) in owed} == theirs
    connection.execute("update order_sync set settled_revision = revision, clear = null")
    rebuild(connection)
    kafka.fold(shop(name).corpus.messages)
    check("rebuilt")
    for order, said in documents(database, name).items():
        if order in theirs:
            assert said["customer_id"].startswith("erased_")
