"""`check`: whatever is missing or wrong is one line with its cure, and only what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_project import MAPPING, Project

from daemon.demo.stack import PostgresServer

Topics = Callable[..., str]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Project:
    """A project whose files are right and whose services do not exist."""
    return Project(tmp_path, monkeypatch, capsys)


@pytest.fixture
def healthy(project: Project, database: Any, broker: Any, topics: Topics, sandbox: Any) -> Project:
    """A project where everything is right."""
    project.mapping(orders=topics("orders"), lines=topics("lines"), customers=topics("customers", partitions=1))
    project.set("kafka", bootstrap_servers=broker.bootstrap)
    project.set("postgres", dsn=database.settings.dsn)
    project.destination(base_url=sandbox.url, client_id=sandbox.client_id)
    project.secret(sandbox.api_key)
    return project


def findings(project: Project, *arguments: str) -> list[str]:
    """The lines of `check` that are not ok; its exit code is compared with them."""
    ran = project("check", *arguments)
    lines = [line for line in ran.out.splitlines() if line.startswith(("ok", "warn", "FAIL"))]
    assert ran.err == ""
    assert ran.code == (1 if any(line.startswith("FAIL") for line in lines) else 0)
    return [line for line in lines if not line.startswith("ok")]


def the_finding(project: Project, *arguments: str) -> tuple[str, str, str]:
    """The only line that is not ok, as level, what and cure."""
    [line] = findings(project, *arguments)
    what, cure = line[6:].split("  — ")
    return line[:4].strip(), what, cure


def test_all_well_is_said_line_by_line(healthy: Project) -> None:
    """Every part has its line, nothing is to mend, and the exit code is 0."""
    ran = healthy("check")
    assert ran.code == 0
    assert ran.out.endswith("\nnothing to mend\n")
    for part in ("settings", "secret", "mapping", "Kafka", "topic", "Postgres", "schema", "destinations.main"):
        assert f"ok    {part}" in ran.out


def test_personal_columns_are_listed(healthy: Project, database: Any) -> None:
    """Those that are stored as they are, those of which a hash is stored; dropped ones are none."""
    with database.connect() as connection:
        connection.execute("set search_path to order_sync")
        connection.execute("insert into source (name) values ('customers')")
        seen = "insert into source_column (source, name, type) select id, unnest(%s::text[]), 'text' from source"
        connection.execute(seen, [["id", "email", "phone", "first_name", "middle_name"]])
    stored = "personal columns that are stored as they are"
    assert f"ok    {stored}: customers.email" in healthy("check", "--offline").out
    said = healthy("check").out
    assert f"ok    {stored}: customers.email, customers.first_name, customers.middle_name, customers.phone" in said
    path = healthy.folder / "mapping.yaml"
    key = "key: [id]\n    hash: {email: email}\n    drop: [first_name, middle_name, phone]"
    sources, customers, rest = path.read_text().partition("  customers:")
    path.write_text(sources + customers + rest.replace("key: [id]", key, 1))
    said = healthy("check").out
    assert f"ok    {stored}: none by their names" in said
    assert "ok    columns of which a hash alone is stored: customers.email" in said


def test_json_holds_the_same(healthy: Project) -> None:
    """For scripts: a verdict and the findings."""
    healthy.secret("wrong")
    ran = healthy("check", "--json")
    assert ran.code == 1
    assert ran.json()["ok"] is False
    [wrong] = [finding for finding in ran.json()["findings"] if finding["level"] != "ok"]
    assert wrong["level"] == "FAIL"


def test_missing_settings_file(project: Project) -> None:
    """The cure says how to name the file."""
    ran = project("check", "--config", "none.yaml", write=False)
    assert ran.code == 1
    assert ran.out.splitlines()[0] == (
        "FAIL  none.yaml: cannot be read: No such file or directory  — name the file with --config or ORDER_SYNC_CONFIG"
    )


def test_unknown_key(project: Project) -> None:
    """The nearest known key is the cure."""
    project.set("kafka", bootstrap="x")
    level, what, cure = the_finding(project, "--offline")
    assert (level, cure) == ("FAIL", "did you mean bootstrap_servers?")
    assert "kafka.bootstrap: unknown key" in what


def test_unknown_variable(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable of ours is found here too."""
    monkeypatch.setenv("ORDER_SYNC_KEY", "x")
    level, what, _ = the_finding(project, "--offline")
    assert (level, what) == ("FAIL", "environment: ORDER_SYNC_KEY: the settings do not name it")


def test_missing_secret(healthy: Project) -> None:
    """The variable and the key that names it."""
    healthy.secret(None)
    level, what, cure = the_finding(healthy)
    assert level == "FAIL"
    assert what.endswith("ORDER_SYNC_TEST_API_KEY is not set")
    assert cure == "set it, or ORDER_SYNC_TEST_API_KEY_FILE to a file that holds it"


def test_missing_mapping_file(project: Project) -> None:
    """The path that was looked at is named."""
    (project.folder / "mapping.yaml").unlink()
    level, what, cure = the_finding(project, "--offline")
    assert level == "FAIL"
    assert str(project.folder / "mapping.yaml") in what
    assert cure


def test_mapping_syntax_error(project: Project) -> None:
    """File, line and expression."""
    text = (project.folder / "mapping.yaml").read_text().replace("row.status != 'draft'", "row.status !== 'draft'")
    (project.folder / "mapping.yaml").write_text(text)
    level, what, cure = the_finding(project, "--offline")
    assert level == "FAIL"
    assert "mapping.yaml:3" in what
    assert cure


def test_mapping_of_a_column_that_no_message_has(healthy: Project, database: Any) -> None:
    """Columns are compared with those that the topics have shown."""
    with database.connect() as connection:
        connection.execute("set search_path to order_sync")
        connection.execute("insert into source (name) values ('customers')")
        connection.execute("insert into source_column (source, name, type) select id, 'id', 'int' from source")
        connection.execute("insert into source_column (source, name, type) select id, 'e_mail', 'text' from source")
    level, what, cure = the_finding(healthy)
    assert level == "FAIL"
    assert "customers.email" in what
    assert cure == "did you mean e_mail?"


def test_kafka_unreachable(healthy: Project) -> None:
    """The address and why, and that there was no answer is not also said of each topic."""
    healthy.set("kafka", bootstrap_servers="127.0.0.1:1")
    level, what, cure = the_finding(healthy)
    assert level == "FAIL"
    assert what.startswith("Kafka 127.0.0.1:1: ")
    assert "Connection refused" in what
    assert "kafka.bootstrap_servers" in cure


@pytest.mark.parametrize(
    "properties",
    [
        {"security.protocol": "sassl_ssl"},
        {"security.protocol": "ssl", "ssl.ca.location": "/nowhere.pem"},
        {"nonsense": 1},
    ],
)
def test_kafka_properties_refused(healthy: Project, properties: dict[str, str]) -> None:
    """librdkafka knows its own properties: its word is passed on."""
    healthy.set("kafka", properties=properties)
    level, what, cure = the_finding(healthy)
    assert (level, cure) == ("FAIL", "mend kafka.properties")
    assert list(properties)[-1].partition(".ca.")[0] in what


def test_topic_missing(healthy: Project, topics: Topics) -> None:
    """A topic may still come: a warning, and the exit code stays 0."""
    healthy.mapping(orders=topics("orders"), lines=topics("lines"), customers="nowhere.customers")
    level, what, cure = the_finding(healthy)
    assert level == "warn"
    assert what.startswith("topic nowhere.customers (customers) does not exist")
    assert "sources.customers.topic" in cure


def test_postgres_unreachable(healthy: Project) -> None:
    """The server's address is in libpq's own words."""
    healthy.set("postgres", dsn="host=127.0.0.1 port=1 dbname=x")
    level, what, cure = the_finding(healthy)
    assert level == "FAIL"
    assert "port 1 failed: Connection refused" in what
    assert cure == "start the server, or mend host and port in postgres.dsn"


def test_database_missing(healthy: Project, database: Any) -> None:
    """The server is there, the database is not."""
    healthy.set("postgres", dsn=database.server.dsn("no_such_database"))
    level, what, cure = the_finding(healthy)
    assert level == "FAIL"
    assert "no_such_database" in what
    assert cure == "create it, or mend postgres.dsn"


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[PostgresServer]:
    """A server that asks the role `guarded` for its password."""
    with PostgresServer() as server:
        with server.connect() as connection:
            connection.execute("create role guarded login password 'right'")
        rules = server.data / "pg_hba.conf"
        rules.write_text(f"host all guarded 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        with server.connect() as connection:
            connection.execute("select pg_reload_conf()")
        yield server


def test_wrong_postgres_password(
    healthy: Project, guarded_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The secret's variable is the cure, and its value is nowhere."""
    monkeypatch.setenv("ORDER_SYNC_TEST_PG", "wrong-one")
    dsn = f"host=127.0.0.1 port={guarded_server.port} user=guarded dbname=postgres"
    healthy.set("postgres", dsn=dsn, password_env="ORDER_SYNC_TEST_PG")
    level, what, cure = the_finding(healthy)
    assert level == "FAIL"
    assert 'password authentication failed for user "guarded"' in what
    assert cure == "mend the secret ORDER_SYNC_TEST_PG, or the user in postgres.dsn"
    assert "wrong-one" not in what


def test_schema_not_migrated(healthy: Project, empty_database: Any) -> None:
    """The command that makes the schema is the cure, and it works."""
    healthy.set("postgres", dsn=empty_database.settings.dsn)
    assert the_finding(healthy) == ("FAIL", "schema order_sync lacks migration 1", "run `order-sync migrate`")
    assert healthy("migrate").code == 0
    assert findings(healthy) == []


def test_role_may_not_create_the_schema(healthy: Project, empty_database: Any) -> None:
    """Before the first migration the role needs the right to create a schema."""
    with empty_database.connect() as connection:
        connection.execute(f"create role {empty_database.name} login")
    dsn = f"{empty_database.settings.dsn} user={empty_database.name}"
    healthy.set("postgres", dsn=dsn)
    try:
        first, second = findings(healthy)
    finally:
        with empty_database.connect() as connection:
            connection.execute(f"drop role {empty_database.name}")
    assert "may not create schema order_sync  — grant create on database" in first
    assert "lacks migration 1" in second


def test_role_may_not_use_the_schema(healthy: Project, database: Any) -> None:
    """Migrated by another role: usage and the tables' privileges are missing."""
    with database.connect() as connection:
        connection.execute(f"create role {database.name} login")
    healthy.set("postgres", dsn=f"{database.settings.dsn} user={database.name}")
    try:
        level, what, cure = the_finding(healthy)
        with database.connect() as connection:
            connection.execute(f"grant usage on schema order_sync to {database.name}")
        [more] = findings(healthy)
        status = healthy("status")
    finally:
        with database.connect() as connection:
            connection.execute(f"drop owned by {database.name}")
            connection.execute(f"drop role {database.name}")
    assert level == "FAIL"
    assert what.endswith("may not use schema order_sync")
    assert cure.startswith("grant usage on schema order_sync to ")
    assert "may not read and write order_sync." in more
    assert "grant select, insert, update, delete on all tables" in more
    assert (status.code, status.out) == (2, "")
    assert status.err.startswith("error: Postgres: permission denied")


def test_schema_newer(healthy: Project, database: Any) -> None:
    """A newer schema still works, so it is a warning."""
    with database.connect() as connection:
        connection.execute("insert into order_sync.schema_migration (number) values (9999)")
    level, what, cure = the_finding(healthy)
    assert level == "warn"
    assert "migration 9999" in what
    assert cure == "run the newer image"


def test_destination_with_another_identity(healthy: Project, database: Any) -> None:
    """A name that stood for another host is not taken over in silence."""
    with database.connect() as connection:
        connection.execute(
            "insert into order_sync.destination (name, base_url, client_id) values ('main', 'https://old.example', 'c')"
        )
    level, what, cure = the_finding(healthy)
    assert level == "FAIL"
    assert "destinations.main was https://old.example, client id c" in what
    assert "new name" in cure


def test_api_unreachable(healthy: Project) -> None:
    """The host and why."""
    healthy.destination(base_url="http://127.0.0.1:1")
    level, what, cure = the_finding(healthy)
    assert level == "FAIL"
    assert what.startswith("destinations.main: http://127.0.0.1:1: does not answer")
    assert "base_url" in cure


def test_wrong_api_key(healthy: Project) -> None:
    """401: the variable that must hold the key, and not what it holds."""
    healthy.secret("not-the-key")
    level, what, cure = the_finding(healthy)
    assert level == "FAIL"
    assert what.endswith("answers 401: it refuses the key")
    assert cure.startswith("ORDER_SYNC_TEST_API_KEY must hold the key of client id sandbox-client")
    assert "not-the-key" not in what + cure


def test_api_that_cannot_serve_now(healthy: Project, sandbox: Any) -> None:
    """A vendor that is down is said, with what the daemon will do."""
    sandbox.admin.fault("status", status=503, count=None, method="GET")
    level, what, cure = the_finding(healthy)
    assert level == "FAIL"
    assert "answers 503" in what
    assert cure.startswith("wait")


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot be read: No such file"), ("no certificate", "holds no PEM certificates")]
)
def test_ca_bundle_that_cannot_be_used(healthy: Project, content: str | None, said: str) -> None:
    """Said once, not again for each destination."""
    if content is not None:
        (healthy.folder / "ca.pem").write_text(content)
    healthy.set("http", ca_bundle="ca.pem")
    level, what, cure = the_finding(healthy)
    assert level == "FAIL"
    assert what.startswith("http.ca_bundle: ")
    assert said in what
    assert cure


def test_everything_wrong_at_once(project: Project) -> None:
    """Each part has its own line, and none hides another."""
    project.secret(None)
    project.mapping("nonsense: 1\n")
    project.set("postgres", dsn="host=127.0.0.1 port=1 dbname=x")
    said = "\n".join(findings(project))
    for part in ("api_key_env", "mapping.yaml:", "Kafka", "Postgres"):
        assert part in said


def test_destinations_of_mapping_and_settings_are_compared(project: Project) -> None:
    """A destination that only one of the two knows is a finding, either way."""
    project.mapping(MAPPING + "destinations:\n  mainn: {{}}\n")
    lines = findings(project, "--offline")
    assert lines == [
        "FAIL  mapping.yaml:31:3: destinations.mainn: the settings have no such destination  — did you mean `main`?",
        "FAIL  mapping.yaml: destinations: main of the settings is not in here  — write `main: {}` to send it all",
    ]
