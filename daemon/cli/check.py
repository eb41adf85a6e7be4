"""`check`: everything that must be right before the daemon can work, a line each, with the cure where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from daemon.cli import probes
from daemon.cli.check_kafka import kafka_findings
from daemon.cli.context import ConfigOption, JsonOption, config_path, mapping_from
from daemon.cli.finding import Finding, Level, ok, said, wrong
from daemon.cli.output import print_json, print_line
from daemon.errors import MappingError, SchemaError, SettingsError, StateUnavailable
from daemon.mapping.model import Mapping, check_columns
from daemon.mapping.personal import is_personal
from daemon.settings import Settings
from daemon.settings_file import load_settings
from daemon.state import reads
from daemon.state.database import Cursor
from daemon.state.reads import Record

OLDEST_POSTGRES = 140000


def check(
    config: ConfigOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Only files and environment; ask nobody.")] = False,
    json: JsonOption = False,
) -> None:
    """Say what is missing or wrong, each with its cure: settings, secrets, mapping, Kafka, Postgres, the API."""
    findings = list(_findings(config_path(config), offline))
    failures = sum(finding.level is Level.FAIL for finding in findings)
    if json:
        print_json({"ok": failures == 0, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            print_line(finding.line())
        print_line(f"\n{failures} to mend" if failures else "\nnothing to mend")
    raise typer.Exit(1 if failures else 0)


def _findings(path: Path, offline: bool) -> Iterator[Finding]:
    try:
        settings = load_settings(path)
    except SettingsError as error:
        yield from (said(line) for line in str(error).splitlines())
        return
    yield ok(f"settings {path}")
    yield from _secrets(settings)
    trust = list(_trust(settings))
    yield from trust
    mapping, problems = _mapping(settings)
    yield from problems
    if offline:
        if mapping is not None:
            yield from _personal(mapping, {})
        return
    of_kafka, of_postgres = list(kafka_findings(settings, mapping)), list(_postgres(settings, mapping))
    # What the newest messages lack and all messages ever read lack too is said once, as the worse of the two.
    said_there = {finding.what for finding in of_postgres}
    yield from (finding for finding in of_kafka if finding.what not in said_there)
    yield from of_postgres
    if not trust:
        yield from _api(settings)


def _secrets(settings: Settings) -> Iterator[Finding]:
    for key, secret in settings.secrets():
        try:
            secret.read()
        except SettingsError as error:
            yield said(f"{key}: {error}")
        else:
            yield ok(f"secret {secret.name} ({key})")


def _trust(settings: Settings) -> Iterator[Finding]:
    if settings.http.ca_bundle is not None:
        try:
            probes.tls(settings.http.ca_bundle)
        except probes.ProbeFailed as failure:
            yield wrong(failure.what, failure.cure)


def _mapping(settings: Settings) -> tuple[Mapping | None, list[Finding]]:
    try:
        mapping = mapping_from(settings)
    except MappingError as error:
        return None, [said(problem) for problem in error.problems]
    return mapping, [ok(f"mapping {settings.mapping}: {len(mapping.sources)} sources, version {mapping.version[:12]}")]


def _postgres(settings: Settings, mapping: Mapping | None) -> Iterator[Finding]:
    try:
        with reads.reading(settings.postgres, migrated=False) as cursor:
            server = reads.server(cursor, settings.postgres)
            yield from _server(settings, server)
            if server["schema_exists"] and not server["may_use"]:
                return
            if closed := list(_tables(settings, server, cursor)):
                yield from closed
                return
            missing, newer = reads.schema_difference(cursor, settings.postgres)
            yield from _schema(settings, missing, newer)
            if not missing:
                yield from _identities(settings, cursor)
                yield from _columns(mapping, cursor)
    except SettingsError:
        return  # the password is missing: said above
    except SchemaError as error:
        yield said(str(error))
    except StateUnavailable as error:
        yield wrong(str(error), _postgres_cure(settings, str(error)))


def _postgres_cure(settings: Settings, text: str) -> str:
    """The server's message is all there is to go by when a connection is refused; the last cure fits any."""
    variable = settings.postgres.password_env
    if "password" in text:
        return f"mend the secret {variable}, or the user in postgres.dsn" if variable else "set postgres.password_env"
    if "does not exist" in text:
        return "create it, or mend postgres.dsn"
    return "start the server, or mend host and port in postgres.dsn"


def _where(server: Record) -> str:
    return f"Postgres {server['database']} as {server['role']}"


def _server(settings: Settings, server: Record) -> Iterator[Finding]:
    number, where = server["server_version"], _where(server)
    yield ok(f"{where}: version {number // 10000}.{number % 10000}")
    if number < OLDEST_POSTGRES:
        yield wrong(f"{where}: version {number // 10000} is too old", "use PostgreSQL 14 or newer")
    if server["read_only"]:
        yield wrong(
            f"{where}: this server is a standby", "name the primary in postgres.dsn (target_session_attrs=read-write)"
        )
    schema, role = settings.postgres.schema_name, server["role"]
    if not server["schema_exists"] and not server["may_create"]:
        yield wrong(
            f"{where}: may not create schema {schema}",
            f"grant create on database {server['database']} to {role}, or migrate as another role",
        )
    if server["schema_exists"] and not server["may_use"]:
        yield wrong(f"{where}: may not use schema {schema}", f"grant usage on schema {schema} to {role}")


def _tables(settings: Settings, server: Record, cursor: Cursor) -> Iterator[Finding]:
    schema = settings.postgres.schema_name
    if tables := [record["name"] for record in reads.records(cursor, "table_privileges", schema=schema)]:
        others = f" and {len(tables) - 1} others" if tables[1:] else ""
        yield wrong(
            f"{_where(server)}: may not read and write {schema}.{tables[0]}{others}",
            f"grant select, insert, update, delete on all tables in schema {schema} to {server['role']}",
        )


def _schema(settings: Settings, missing: list[int], newer: list[int]) -> Iterator[Finding]:
    schema = f"schema {settings.postgres.schema_name}"
    if missing:
        yield wrong(f"{schema} lacks migration {missing[0]}", "run `order-sync migrate`")
    elif newer:
        yield Finding(
            Level.WARN, f"{schema} has migration {newer[-1]}, which this program does not know", "run the newer image"
        )
    else:
        yield ok(f"{schema}: up to date")


def _identities(settings: Settings, cursor: Cursor) -> Iterator[Finding]:
    stored = {record["name"]: record for record in reads.records(cursor, "destinations")}
    for name, destination in settings.destinations.items():
        record = stored.get(name)
        was = (record["base_url"], record["client_id"]) if record else None
        if was and was != (destination.base_url, destination.client_id):
            yield wrong(
                f"destinations.{name} was {was[0]}, client id {was[1]}, when its orders were sent",
                "give the new host or client id a new name, or go back to the old one",
            )
        if record and record["halted_reason"]:
            yield Finding(
                Level.WARN, f"destinations.{name} is halted: {record['halted_reason']}", "mend that; see status"
            )


def _columns(mapping: Mapping | None, cursor: Cursor) -> Iterator[Finding]:
    seen = reads.columns_seen(cursor)
    if mapping is None:
        return
    yield from _personal(mapping, seen)
    if not seen:
        return
    problems = check_columns(mapping, seen)
    yield from (said(problem) for problem in problems)
    if not problems:
        yield ok(f"columns: all that the mapping names were seen, in {len(seen)} of {len(mapping.sources)} sources")


def _personal(mapping: Mapping, seen: dict[str, set[str]]) -> Iterator[Finding]:
    """The columns that are stored and whose names say that they are personal, and those of which a hash is stored."""
    plain, hashed = [], []
    for name, source in sorted(mapping.structure.sources.items()):
        columns = (seen.get(name, set()) | mapping.columns_used().get(name, {}).keys()) - source.drop
        plain += [f"{name}.{column}" for column in sorted(columns - source.hashed.keys()) if is_personal(column)]
        hashed += [f"{name}.{column}" for column in sorted(source.hashed)]
    yield ok(f"personal columns that are stored as they are: {', '.join(plain) or 'none by their names'}")
    if hashed:
        yield ok(f"columns of which a hash alone is stored: {', '.join(hashed)}")


def _api(settings: Settings) -> Iterator[Finding]:
    for name, destination in settings.destinations.items():
        secrets = dict(settings.secrets())
        try:
            key = secrets[f"destinations.{name}.api_key_env"].read()
            yield ok(f"destinations.{name}: {probes.ask_api(destination, settings.http, key)}")
        except SettingsError:
            continue  # the key is missing: said above
        except probes.ProbeFailed as failure:
            yield wrong(f"destinations.{name}: {failure.what}", failure.cure)
