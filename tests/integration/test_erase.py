"""A customer is erased: here, in what comes again, and at the API; the orders stay right."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cli_project import Project
from delivery_rig import Rig, Shop
from erase_rig import KEY_VARIABLE, SHOPS, Kafka, at_rest, mapping_of, rebuild, settings_for
from fixtures.postgres import Database
from fixtures.sandbox import RunningSandbox

from daemon.mapping.attributes import PERSONAL
from daemon.mapping.loader import load_mapping
from daemon.settings import Settings
from daemon.state import erase_customer
from daemon.state.erase import StateEraser

pytestmark = pytest.mark.postgres

ADA = "6f1c0b52-8c0e-4d53-9a39-1f6f2f0f7a11"
BOB = "0b9d7c1e-52f7-4f0b-8f55-7b6f0f6f5c22"
TELLING = (
    ADA,
    "ada@example.com",
    "+4915112345678",
    "Ada Lovelace",
    "Analytical Way",
    "ring twice",
    "198.51.100.7",
    "spare@example.com",
)
"""What says who Ada is, or came with it. None of it is to be found anywhere afterwards."""


class World:
    """The demo's shop: Ada with two orders, Bob with one, a product; the API; the command."""

    def __init__(
        self,
        database: Database,
        look: psycopg.Connection,
        sandbox: RunningSandbox,
        project: Project,
    ) -> None:
        self.database, self.look, self.sandbox, self.project = database, look, sandbox, project
        self.mapping = mapping_of("demo")
        look.execute("set search_path to order_sync")
        self.settings: Settings = settings_for(database.settings, self.mapping, sandbox.url)
        self.rig = Rig(
            database.settings,
            Shop.__new__(Shop),
            self.mapping,
            sandbox.url,
            sandbox.client_id,
            sandbox.api_key,
        )
        self.rig.shop.connection, self.rig.shop.destinations = look, ["d"]
        self.kafka = Kafka(self.settings, self.mapping)
        project.set("postgres", dsn=database.settings.dsn)
        project.set("ingest", erase_key_env=KEY_VARIABLE)
        project.sections["mapping"] = self.mapping.path
        project.sections["destinations"] = {
            "d": {"base_url": sandbox.url, "client_id": sandbox.client_id, "live_since": "1970-01-01"}
        }

    def first(self) -> None:
        """All that the shop has."""
        send = self.kafka.send
        send(
            "oms.public.customers",
            {"id": ADA, "email": "ada@example.com", "name": "Ada Lovelace", "phone": "+4915112345678"},
        )
        send("oms.public.customers", {"id": BOB, "email": "bob@example.com", "name": "Bob", "phone": None})
        send("oms.public.addresses", _address(1, "Ada Lovelace", "1 Analytical Way", ADA))
        send("oms.public.addresses", _address(2, "Bob", "2 High St", BOB))
        send("oms.public.products", {"id": 1, "title": "Shirt", "attributes": "{}"})
        send("oms.public.variants", {"sku": "S", "product_id": 1, "name": "M", "price_usd": "10.00"})
        for key, customer, address in (("a1", ADA, 1), ("a2", ADA, 1), ("b1", BOB, 2)):
            self.order(key, customer, address)

    def order(self, key: str, customer: str | None, address: int | None, **values: Any) -> None:
        """An order with one line of 10.00 apiece."""
        row = {
            "id": key,
            "number": f"N-{key}",
            "status": "paid",
            "channel": "web",
            "customer_id": customer,
            "guest_email": None,
            "guest_phone": None,
            "shipping_address_id": address,
            "currency": "EUR",
            "discount": "0.00",
            "shipping": "0.00",
            "tax": "0.00",
            "total": "20.00",
            "is_renewal": False,
            "ip": "198.51.100.7" if customer == ADA else None,
            "details": json.dumps({"tags": ["gift"], "note": "n", "contact_email": "spare@example.com"})
            if customer == ADA
            else None,
            "billing_note": "ring twice" if customer == ADA else None,
            "placed_at": "2026-03-01T08:00:00Z",
            "paid_at": "2026-03-01T08:01:00Z",
            **values,
        }
        line = {"id": f"l-{key}", "order_id": key, "position": 1, "sku": "S", "quantity": 2}
        self.kafka.send("oms.public.orders", row)
        self.kafka.send("oms.public.order_lines", {**line, "unit_price": "10.00", "discount": "0.00"})

    def fold(self, start: int = 0) -> None:
        """Fold the messages from this number on, due at once."""
        self.kafka.fold(self.kafka.messages[start:])
        self.look.execute("update order_sync set due_at = now() where revision > settled_revision")

    def erase(self, *options: str, customer: str = ADA) -> Any:
        """What the command says."""
        ran = self.project("erase", "--customer", customer, "--json", *options)
        assert ran.code == 0, ran.err
        return ran.json()

    def owed(self) -> int:
        return self.rig.shop.owed()

    def document(self, key: str) -> dict[str, Any]:
        """The order as the API has it."""
        return self.sandbox.admin.orders()[f"N-{key}"]

    def nothing_of_ada(self) -> list[str]:
        rests = at_rest(self.database)
        return [text for text in TELLING if text in rests]


def played(test: Callable[[World], Coroutine[Any, Any, None]]) -> Callable[[World], None]:
    """A test whose body is a coroutine."""

    @functools.wraps(test)
    def plays(world: World) -> None:
        asyncio.run(test(world))

    return plays


def _address(number: int, recipient: str, street: str, customer: str) -> dict[str, Any]:
    return {
        "id": number,
        "customer_id": customer,
        "recipient": recipient,
        "address1": street,
        "address2": None,
        "city": "Berlin",
        "region": None,
        "zip": "10115",
        "country": "DE",
    }


@pytest.fixture
def world(
    database: Database,
    connection: psycopg.Connection,
    sandbox: RunningSandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> World:
    """The shop, empty."""
    monkeypatch.setenv("ORDER_SYNC_API_KEY", sandbox.api_key)
    monkeypatch.setenv(KEY_VARIABLE, "a long random text")
    monkeypatch.setenv("LOGNAME", "alice")
    made = World(database, connection, sandbox, Project(tmp_path, monkeypatch, capsys))
    ran = made.project("migrate")
    assert ran.code == 0, ran.err
    connection.execute(
        "insert into destination (name, base_url, client_id) values ('d', %s, %s)", [sandbox.url, sandbox.client_id]
    )
    connection.execute("insert into lease (destination) select id from destination")
    made.first()
    return made


@played
async def test_an_erased_customer_is_nowhere(world: World) -> None:
    """Neither here nor at the API, nor after a replay or a rebuild; money, lines and other customers stay."""
    world.sandbox.admin.options(post_merges=True)  # only a PATCH takes away then
    world.fold()
    async with world.rig.delivery(mapping=world.mapping) as delivery:
        await delivery.until(lambda: world.owed() == 0)
        before = {key: world.document(key) for key in ("a1", "a2", "b1")}
        assert {name for name in PERSONAL if name in before["a1"]} == {
            "customer_email",
            "customer_phone_number",
            "customer_name",
            "customer_ip_address",
            "customer_shipping_address",
        }
        assert world.nothing_of_ada() == list(TELLING)

        report = world.erase()
        assert (report["orders"], report["documents"], report["rejects"]) == (2, 4, 0)
        assert world.nothing_of_ada() == []
        await delivery.until(lambda: world.owed() == 0)

    after = {key: world.document(key) for key in ("a1", "a2", "b1")}
    assert after["b1"] == before["b1"]
    for key in ("a1", "a2"):
        assert not PERSONAL & after[key].keys()
        assert after[key]["customer_id"].startswith("erased_")
        kept = before[key].keys() - PERSONAL - {"customer_id"}
        assert {name: after[key][name] for name in kept} == {name: before[key][name] for name in kept}
    assert after["a1"]["customer_id"] == after["a2"]["customer_id"]  # still one customer
    assert world.nothing_of_ada() == []
    assert world.sandbox.admin.stats()["shared_in_flight"] == 0

    count = world.sandbox.admin.stats()["requests"]
    for again in ("replay", "rebuild"):
        if again == "rebuild":
            rebuild(world.look)
        else:
            world.look.execute("update kafka_position set next_offset = 0")
        world.fold()
        assert world.nothing_of_ada() == [], again
        async with world.rig.delivery(mapping=world.mapping) as delivery:
            await delivery.until(lambda: world.owed() == 0)
        assert world.sandbox.admin.stats()["requests"] == count, again
    assert world.nothing_of_ada() == []


@played
async def test_what_comes_later_of_an_erased_customer(world: World) -> None:
    """A new order, a new address, a changed customer's row: they come in without what says whose they are."""
    world.fold()
    world.erase()
    start = len(world.kafka.messages)
    world.kafka.send("oms.public.addresses", _address(3, "Ada Lovelace", "3 Analytical Way", ADA))
    world.order("a3", ADA, 3)
    world.order("a1", ADA, 3, total="20.00")
    world.kafka.send(
        "oms.public.customers", {"id": ADA, "email": "spare@example.com", "name": "Ada Lovelace", "phone": None}
    )
    world.fold(start)
    assert world.nothing_of_ada() == []
    async with world.rig.delivery(mapping=world.mapping) as delivery:
        await delivery.until(lambda: world.owed() == 0)
    ids = {world.document(key)["customer_id"] for key in ("a1", "a2", "a3")}
    assert len(ids) == 1
    assert not any(PERSONAL & world.document(key).keys() for key in ("a1", "a2", "a3"))
    assert world.document("a3")["products"] == world.document("b1")["products"]
    assert world.nothing_of_ada() == []


def test_erased_before_anything_was_read(world: World) -> None:
    """The customer is known by the id alone: whatever comes first, and in whatever order, nothing is stored of it."""
    assert world.erase()["orders"] == 0
    world.kafka.messages.reverse()
    for message in world.kafka.messages:
        world.kafka.fold([message])
    assert world.nothing_of_ada() == []
    rows = world.look.execute("select columns from source_row where root = 'a1'").fetchall()
    assert len(rows) == 2


def test_a_guest_is_known_by_the_id_of_the_address(world: World) -> None:
    """Guests have no row of their own; their id is made of their address."""
    world.order("g1", None, 1, guest_email="guest@example.com", guest_phone="+4915112345678")
    world.fold()
    [(guest,)] = world.look.execute(
        "select 'guest_' || left(encode(sha256('guest@example.com'), 'hex'), 32)"
    ).fetchall()
    report = world.erase(customer=guest)
    assert report["orders"] == 1
    assert report["shared_rows_kept"] == 1  # Ada has that address, too
    rests = at_rest(world.database)
    assert "guest@example.com" not in rests
    assert guest not in rests
    assert "ada@example.com" in rests
    rebuild(world.look)
    world.fold()
    assert "guest@example.com" not in at_rest(world.database)


def test_dry_run_and_again(world: World) -> None:
    """A dry run counts and changes nothing; a second run finds nothing more to do; the action tells no id."""
    world.fold()
    rests = at_rest(world.database)
    counted = world.erase("--dry-run")
    assert at_rest(world.database) == rests
    assert world.erase() | {"dry_run": True} == counted
    again = world.erase()
    assert (again["orders"], again["rows"], again["documents"]) == (0, 0, 0)
    [(who, arguments, affected)] = world.look.execute(
        "select who, arguments, affected from operator_action where command = 'erase' order by id limit 1"
    ).fetchall()
    assert (who, list(arguments), affected) == ("alice", ["customer"], 2)


def test_an_interrupted_erasure_is_taken_up_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of orders is a transaction: what was erased stays erased, the rest is found again."""
    from daemon.state import erase_customer as module

    world.fold()
    monkeypatch.setattr(module, "ORDERS", 1)
    whole = module.StateEraser.orders
    calls: list[int] = []

    def cut(*arguments: Any, **named: Any) -> None:
        calls.append(1)
        if len(calls) == 4:  # of two orders, each foreseen before
            raise KeyboardInterrupt
        whole(*arguments, **named)

    monkeypatch.setattr(module.StateEraser, "orders", cut)
    assert world.project("erase", "--customer", ADA).code == 130
    assert world.nothing_of_ada()
    monkeypatch.setattr(module.StateEraser, "orders", whole)
    assert world.erase()["orders"] == 1
    assert world.nothing_of_ada() == []


def test_rejects_and_errors_of_the_customer(world: World) -> None:
    """A reject that names the customer keeps a digest alone; what the vendor said loses it; others stay."""
    for text in (b'{"mail": "ada@example.com"', b'{"mail": "bob@example.com"'):
        world.kafka.send("oms.public.orders", {"id": "x"}, raw=text)
    world.fold()
    world.look.execute("select room_for_requests(1)")
    world.look.execute(
        "insert into delivery_request (id, destination, epoch, lane, orders, bytes, order_keys, revisions, settled_at,"
        " outcome, error) overriding system value select 1, id, 1, 0, 1, 1, '{a1}', '{1}', now(), 'rejected',"
        " 'ada@example.com is no address' from destination"
    )
    report = world.erase()
    assert (report["rejects"], report["request_errors"]) == (1, 1)
    assert world.nothing_of_ada() == []
    kept = world.look.execute("select value is null, digest is null from rejected_message order by id").fetchall()
    assert kept == [(True, False), (False, True)]
    later = len(world.kafka.messages)
    world.kafka.send("oms.public.customers", {"id": ADA}, raw=b'{"mail": "ada@example.com"')
    world.fold(later)
    assert world.nothing_of_ada() == []


def test_it_needs_the_key_of_before(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key there is nothing to know an erased customer by; with another one, nobody would be known again."""
    world.fold()
    world.project.sections["ingest"].pop("erase_key_env")
    ran = world.project("erase", "--customer", ADA)
    assert (ran.code, "ingest.erase_key_env is not set" in ran.err) == (2, True)
    world.project.set("ingest", erase_key_env=KEY_VARIABLE)
    world.erase()
    monkeypatch.setenv(KEY_VARIABLE, "another text")
    ran = world.project("erase", "--customer", BOB)
    assert (ran.code, "another key" in ran.err) == (2, True)
    for changed, says in ((None, "a key alone"), ("another text", "another key")):
        world.settings = settings_for(
            world.database.settings, world.mapping, **({"erase_key_env": None} if changed is None else {})
        )
        world.kafka.settings = world.settings
        with pytest.raises(Exception, match=says):
            world.fold()


def test_nothing_is_asked_where_nobody_was_erased(world: World) -> None:
    """A fold costs what it cost: no statement more, no hash, as long as there is no erasure."""
    from daemon.state import erase

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("asked for nothing")

    before = erase.StateEraser.incoming
    erase.StateEraser.incoming = never  # type: ignore[method-assign,assignment]
    try:
        world.fold()
    finally:
        erase.StateEraser.incoming = before  # type: ignore[method-assign]


@played
async def test_a_request_in_flight_and_an_erasure_do_not_overlap(world: World) -> None:
    """The POST that is held when the customer is erased ends first; then the order goes without her, then the PATCH."""
    world.fold()
    admin = world.sandbox.admin
    admin.fault("delay", order_id="N-a1", seconds=None)
    async with world.rig.delivery(mapping=world.mapping, request_timeout_secs=20.0, lease_secs=30.0) as delivery:
        await delivery.until(lambda: admin.stats()["in_flight"] == 1)
        report = world.erase()
        assert report["destinations"][0]["in_flight"] == 2
        for _ in range(20):
            await delivery.loop.run_once()
        assert admin.stats()["requests"] == 1
        admin.release()
        await delivery.until(lambda: world.owed() == 0)
    assert admin.stats()["shared_in_flight"] == 0
    methods = [(one["method"], sorted(one["order_ids"])) for one in admin.requests()]
    assert methods[0] == ("POST", ["N-a1", "N-a2", "N-b1"])
    assert ("PATCH", ["N-a1", "N-a2"]) in methods
    assert not PERSONAL & world.document("a1").keys()
    assert world.nothing_of_ada() == []


@played
async def test_deleted_and_cancelled_orders_lose_her_too(world: World) -> None:
    """What is gone in the OMS still stands at the API: it is sent once more without her, cancelled as it was."""
    world.fold()
    async with world.rig.delivery(mapping=world.mapping) as delivery:
        await delivery.until(lambda: world.owed() == 0)
        start = len(world.kafka.messages)
        world.order("a1", ADA, 1, status="cancelled")
        world.fold(start)
        await delivery.until(lambda: world.owed() == 0)
        assert world.document("a1")["purchase_total"] == 0
        world.look.execute("update source_row set deleted = true, columns = '{}' where key = 'a2'")
        assert world.erase()["orders"] == 2
        await delivery.until(lambda: world.owed() == 0)
    for key in ("a1", "a2"):
        assert not PERSONAL & world.document(key).keys()
    assert world.document("a1")["purchase_total"] == 0
    assert world.document("a1")["order_tags"] == ["Cancelled", "gift", "web"]
    assert world.nothing_of_ada() == []


def test_an_empty_customer_is_refused(world: World) -> None:
    """Nobody is erased by accident of an empty variable."""
    ran = world.project("erase", "--customer", " ")
    assert (ran.code, "--customer is empty" in ran.err) == (2, True)


def other_mapping(world: World, path: Path, *changes: tuple[str, str]) -> None:
    """The demo's mapping with changes, in force; the shop anew."""
    text = (SHOPS / "demo.yaml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    world.mapping = load_mapping(path)
    world.settings = settings_for(world.database.settings, world.mapping, world.sandbox.url)
    world.kafka = Kafka(world.settings, world.mapping)
    world.project.sections["mapping"] = str(path)
    assert world.project("migrate").code == 0
    world.first()


def test_a_row_folded_while_its_customer_is_erased(
    world: World, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> None:
    """It is stored before the erasure looks for it, or named before the fold asks."""
    world.fold()
    start = len(world.kafka.messages)
    world.kafka.send("oms.public.customers", {"id": ADA, "email": "spare@example.com", "name": "Ada Lovelace"})
    late = world.kafka.messages[start:]
    main, asked, go_on, ended = threading.current_thread(), threading.Event(), threading.Event(), list[bool]()
    known, find = StateEraser.known, erase_customer._Command._find

    def known_there(*arguments: Any) -> Any:
        found = known(*arguments)
        if threading.current_thread() is not main and not asked.is_set():
            asked.set()
            assert go_on.wait(60)
        return found

    def fold() -> None:
        world.kafka.fold(late)
        ended.append(True)

    def find_then(command: Any) -> Any:
        found = find(command)
        thread.start()
        assert asked.wait(60)
        # Whoever of the two has the mirror's lock, the other one waits for it: let the fold go on when that is seen.
        watcher.start()
        return found

    def watch() -> None:
        with world.database.connect() as look:
            waits = (
                "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
            )
            done = "select count(*) from order_sync.erasure where what = 'key'"
            eventually(lambda: any(look.execute(query).fetchone() != (0,) for query in (waits, done)), timeout=60)
        go_on.set()

    thread, watcher = threading.Thread(target=fold), threading.Thread(target=watch)
    monkeypatch.setattr(StateEraser, "known", known_there)
    monkeypatch.setattr(erase_customer._Command, "_find", find_then)
    world.erase()
    thread.join(60)
    watcher.join(60)
    assert ended == [True]
    assert world.nothing_of_ada() == []


def test_an_order_that_got_another_key(world: World) -> None:
    """The row of the old key has kept its values for the new one: it loses them as well."""
    world.fold()
    message = world.kafka.send("oms.public.orders", {"id": "a1"})
    event = json.loads(message.value or b"")
    event |= {"op": "d", "before": event["after"], "after": None}
    headers = [("__debezium.newkey", b'{"id": "a9"}')]
    gone = replace(message, value=json.dumps(event).encode(), headers=headers)
    world.kafka.messages[-1] = gone
    world.kafka.fold([gone])
    kept = world.look.execute("select deleted, columns <> '{}' from source_row where key = 'a1'").fetchall()
    assert kept == [(True, True)]
    world.erase()
    assert world.nothing_of_ada() == []


def test_an_error_that_stands_at_the_orders_of_others(world: World) -> None:
    """What the vendor said of a request is kept for each order of it."""
    world.fold()
    world.look.execute("update order_sync set last_error = 'a@b.c, ada@example.com: no address'")
    world.erase()
    assert world.nothing_of_ada() == []
    errors = world.look.execute("select last_error from order_sync where order_key = 'b1'").fetchall()
    assert errors == [("a@b.c, ***: no address",)]


def test_a_person_found_by_two_columns(world: World, tmp_path: Path) -> None:
    """A look-up over two columns leads to what is the customer's, too."""
    other_mapping(
        world,
        tmp_path / "mapping.yaml",
        ("    let:\n      email: coalesce(", "    let:\n      email: coalesce(row.profile.email, "),
        ("      ship_to:", "      profile: {source: profiles, match: {store: channel, id: number}}\n      ship_to:"),
        ("  addresses:\n", "  profiles:\n    topic: oms.public.profiles\n    key: [store, id]\n  addresses:\n"),
    )
    world.kafka.send("oms.public.profiles", {"store": "web", "id": "N-a1", "email": "spare@example.com"})
    world.fold()
    world.erase()
    assert world.nothing_of_ada() == []


@pytest.mark.parametrize("late", [False, True])
def test_a_person_several_rows_away(world: World, tmp_path: Path, *, late: bool) -> None:
    """However many look-ups lead there, and if its rows come one by one after the erasure."""
    other_mapping(
        world,
        tmp_path / "mapping.yaml",
        ("    let:\n      email: coalesce(", "    let:\n      email: coalesce(row.ship_to.person.contact.email, "),
        (
            "    topic: oms.public.addresses\n    key: [id]\n",
            (
                "    topic: oms.public.addresses\n    key: [id]\n"
                "    one:\n      person: {source: people, match: {id: person_id}}\n"
                "  people:\n    topic: oms.public.people\n    key: [id]\n"
                "    one:\n      contact: {source: contacts, match: {id: contact_id}}\n"
                "  contacts:\n    topic: oms.public.contacts\n    key: [id]\n"
            ),
        ),
    )
    steps = (
        ("addresses", {**_address(1, "Ada Lovelace", "1 Analytical Way", ADA), "person_id": 7}),
        ("people", {"id": 7, "contact_id": 8, "nick": "spare@example.com"}),
        ("contacts", {"id": 8, "email": "ada@example.com"}),
    )
    world.fold()
    if late:
        world.erase()
    for table, row in steps:
        start = len(world.kafka.messages)
        world.kafka.send(f"oms.public.{table}", row)
        world.fold(start)
    if not late:
        world.erase()
    assert world.nothing_of_ada() == []


def test_what_two_customers_share_stays(world: World, tmp_path: Path) -> None:
    """A household that another customer's row looks up is not hers alone."""
    other_mapping(
        world,
        tmp_path / "mapping.yaml",
        ("coalesce(order.customer.phone,", "coalesce(order.customer.home.phone, order.customer.phone,"),
        (
            "    topic: oms.public.customers\n    key: [id]\n",
            (
                "    topic: oms.public.customers\n    key: [id]\n"
                "    one:\n      home: {source: homes, match: {id: home_id}}\n"
                "  homes:\n    topic: oms.public.homes\n    key: [id]\n"
            ),
        ),
    )
    for customer in (ADA, BOB):
        world.kafka.send("oms.public.customers", {"id": customer, "email": None, "name": "B", "home_id": 5})
    home = {"id": 5, "phone": "+4930123456"}
    world.kafka.send("oms.public.homes", home)
    world.fold()
    stored = "select columns from source_row where source = (select id from source where name = 'homes')"
    assert world.erase()["shared_rows_kept"] == 1
    assert world.look.execute(stored).fetchall() == [(home,)]
    world.erase(customer=BOB)
    assert world.look.execute(stored).fetchall() != [(home,)]


def test_a_number_is_no_part_of_another(world: World) -> None:
    """A reject loses its bytes where it holds the customer's number, not where another number holds it."""
    for raw in (b'{"id": 9912345, "x"', b'{"id": 12345, "x"'):
        world.kafka.send("oms.public.orders", {"id": "x"}, raw=raw)
    world.order("n1", "12345", 2)
    world.fold()
    world.erase(customer="12345")
    kept = world.look.execute("select value is not null from rejected_message order by id").fetchall()
    assert kept == [(True,), (False,)]


def test_no_row_is_looked_for_among_all_of_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks a row up is found by an index, also where the planner thinks that every row may be the first."""
    world.fold()
    many = 20_000
    world.look.execute(
        'insert into source_row (source, origin, "offset", key, root, refs, deleted, columns)'
        " select source, origin, 0, 'm' || i, 'm' || i, array[i % 100], false, '{}'"
        f" from source_row, generate_series(1, {many}) i where key = 'b1'"
    )
    world.look.execute("analyze source_row")
    whole, read = StateEraser.orders, list[int]()

    def orders(eraser: StateEraser, cursor: Any, *arguments: Any, **named: Any) -> None:
        whole(eraser, cursor, *arguments, **named)
        cursor.execute("select seq_tup_read from pg_stat_xact_user_tables where relname = 'source_row'")
        read.extend(count for (count,) in cursor.fetchall())

    monkeypatch.setattr(StateEraser, "orders", orders)
    world.erase()
    assert read == [0, 0]
