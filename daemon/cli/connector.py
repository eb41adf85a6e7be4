"""`connector`: what Debezium, the OMS's database and Kafka must be set to for this mapping. Asks nobody."""

from __future__ import annotations

import json as json_library
import re
from dataclasses import asdict
from typing import Annotated, Any

import typer

from daemon.cli.context import ConfigOption, JsonOption, mapping_from, settings_from
from daemon.cli.output import print_json, print_line
from daemon.contract import kafka, mysql, postgres
from daemon.contract.part import Part
from daemon.contract.properties import connector_name, properties, to_declare
from daemon.contract.state import state_part
from daemon.contract.tables import Capture, Database, captures, unnamed
from daemon.mapping.structure import Structure
from daemon.settings import Settings

OUR_NAME = "order-sync"
_PROVIDER = "org.apache.kafka.common.config.provider.EnvVarConfigProvider"
_COMMENT = {"sql": "-- ", "sh": "# ", "ini": "# ", "yaml": "# ", "json": "# ", "text": "# "}


def connector(
    database: Annotated[Database, typer.Argument(help="What the OMS runs on; mysql is MariaDB too.")],
    config: ConfigOption = None,
    strimzi: Annotated[
        bool, typer.Option("--strimzi", help="The connector as a Strimzi KafkaConnector instead of JSON.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """The connector's properties, SQL, topic settings, ACLs and grants that this mapping wants, ready to paste."""
    settings = settings_from(config)
    structure = mapping_from(settings).structure
    found = captures(structure)
    connectors = [_connector(capture, database, settings, strimzi=strimzi) for capture in found]
    shared = [_acls(settings, structure, found), _state(settings)]
    notes = [
        f"topic {source.topic} (sources.{source.name}) does not end in schema.table, so its table cannot be told: add "
        "it to the connector by hand, or mend the topic"
        for source in unnamed(structure)
    ]
    if json:
        print_json(
            {
                "connectors": connectors,
                "parts": [asdict(part) for part in shared],
                "notes": notes,
            }
        )
    else:
        for one in connectors:
            _print(one)
        for part in shared:
            print_part(asdict(part))
        for note in notes:
            print_line(f"# note: {note}")
    raise typer.Exit(0 if connectors else 1)


def _connector(capture: Capture, database: Database, settings: Settings, *, strimzi: bool) -> dict[str, Any]:
    """One connector: its configuration, its parts, and what the mapping does not say yet."""
    name, wanted = connector_name(capture), properties(capture, database)
    shown = _strimzi(name, wanted) if strimzi else _rest(name, wanted)
    server_parts = postgres.parts(capture) if database is Database.POSTGRES else mysql.parts(capture)
    topics = kafka.topic_part(capture, database, settings.kafka.bootstrap_servers)
    return {
        "name": name,
        "config": wanted,
        "parts": [asdict(part) for part in (shown, *server_parts, topics)],
        "notes": to_declare(capture, database),
    }


def _rest(name: str, wanted: dict[str, str]) -> Part:
    text = json_library.dumps({"name": name, "config": wanted}, indent=2)
    return Part(
        "connector",
        f"POST this to Connect's /connectors; the worker fills in ${{env:…}} from its environment where it is set to "
        f"config.providers=env and config.providers.env.class={_PROVIDER}.",
        "json",
        (text,),
    )


def _strimzi(name: str, wanted: dict[str, str]) -> Part:
    given = {key: value for key, value in wanted.items() if key not in ("connector.class", "tasks.max")}
    lines = [
        "apiVersion: kafka.strimzi.io/v1",
        "kind: KafkaConnector",
        "metadata:",
        f"  name: {name}",
        "  labels:",
        "    strimzi.io/cluster: connect",
        "spec:",
        f"  class: {wanted['connector.class']}",
        f"  tasksMax: {wanted['tasks.max']}",
        "  config:",
        *(f"    {key}: {json_library.dumps(value)}" for key, value in given.items()),
    ]
    return Part(
        "connector",
        "Apply it with the name of your KafkaConnect in the label (v1beta2 before Strimzi 0.49); that one needs the "
        f"variables, and in its config config.providers: env and config.providers.env.class: {_PROVIDER}.",
        "yaml",
        ("\n".join(lines),),
    )


def _acls(settings: Settings, structure: Structure, found: list[Capture]) -> Part:
    return kafka.acl_part(
        structure,
        [capture.prefix for capture in found],
        group=settings.kafka.group_id,
        user=kafka_user(settings),
        servers=settings.kafka.bootstrap_servers,
    )


def kafka_user(settings: Settings) -> str:
    """The name that Kafka knows us by, as far as the settings tell: a certificate's subject they do not."""
    return str(settings.kafka.properties.get("sasl.username", OUR_NAME))


def _state(settings: Settings) -> Part:
    dsn = settings.postgres.dsn
    return state_part(
        database=_told(dsn, r"\bdbname=(\w+)|^postgres\w*://[^/]*/(\w+)", "order_sync"),
        role=state_role(settings),
        schema=settings.postgres.schema_name,
    )


def state_role(settings: Settings) -> str:
    """The name that the state's Postgres knows us by, as far as the settings tell."""
    return _told(settings.postgres.dsn, r"\buser=(\w+)|^postgres\w*://(\w+)@", "order_sync")


def _told(dsn: str, pattern: str, otherwise: str) -> str:
    """A plain name within a connection string; `otherwise` where it is not there, or not plain."""
    match = re.search(pattern, dsn)
    return next(filter(None, match.groups())) if match else otherwise


def _print(one: dict[str, Any]) -> None:
    for part in one["parts"]:
        print_part(part)
    if one["notes"]:
        print_line("# mapping")
        for note in one["notes"]:
            print_line(f"# {note}")
        print_line()


def print_part(part: dict[str, Any]) -> None:
    """A part as text to paste, its reason as a comment above."""
    mark = _COMMENT[part["language"]]
    print_line(f"{mark}{part['name'].replace('_', ' ')}: {part['reason']}")
    for item in part["items"]:
        print_line(item)
    if not part["items"]:
        print_line(f"{mark}nothing to do")
    print_line()
