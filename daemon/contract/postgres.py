"""What the OMS's PostgreSQL needs: settings, the connector's role, signal table, replica identities, publication."""

from __future__ import annotations

from daemon.contract.part import Part
from daemon.contract.properties import role_name, slot_name
from daemon.contract.signal import snapshot_signal
from daemon.contract.tables import Capture, Database, Table, identifier, listed, literal

_PG = Database.POSTGRES


def parts(capture: Capture) -> list[Part]:
    """The parts in the order in which they are run, by a superuser or the owner of tables and database."""
    return [_server(), _role(capture), _signal(capture), _identity(capture), _publication(capture), _again(capture)]


def _server() -> Part:
    return Part(
        "server",
        "The log must carry logical changes; the second bounds what a stopped connector keeps on the database's disk "
        "(beyond it the slot is lost and a new snapshot is needed), so size it to the disk; restart the server after.",
        "sql",
        ("alter system set wal_level = 'logical';", "alter system set max_slot_wal_keep_size = '50GB';"),
    )


def _role(capture: Capture) -> Part:
    role = role_name(capture)
    schemas = dict.fromkeys(identifier(table.schema, _PG) for table in capture.tables)
    return Part(
        "role",
        "The connector reads the log and the tables and owns nothing (set its password with \\password; on RDS grant "
        "rds_replication instead of the attribute).",
        "sql",
        (
            f"create role {role} login replication;",
            f"grant usage on schema {', '.join(schemas)} to {role};",
            f"grant select on {listed(capture.tables, _PG)} to {role};",
        ),
    )


def _signal(capture: Capture) -> Part:
    table, role = capture.signal.sql(_PG), role_name(capture)
    return Part(
        "signal",
        "A row in this table asks the running connector for an incremental snapshot, and its own marks there keep such "
        "a snapshot consistent with the changes meanwhile.",
        "sql",
        (
            f"create table {table} (id varchar(42) primary key, type varchar(32) not null, data text);",
            f"grant select, insert, delete on {table} to {role};",
        ),
    )


def _identity(capture: Capture) -> Part:
    keyed = [(item.table, item.source.key) for item in capture.captured if item.source.key is not None]
    if not keyed:
        return Part("replica_identity", "No source declares `key:`, so each row has its primary key.", "sql", ())
    return Part(
        "replica_identity",
        "A delete carries only the replica identity's columns, by default the primary key's: this query gives a "
        "statement to run (psql: end it with \\gexec) for each table whose `key:` is not within it, and nothing where "
        "all is well (with FULL and stored generated columns PostgreSQL 18 wants the publication to publish those).",
        "sql",
        (_identity_query(keyed),),
    )


def _identity_query(keyed: list[tuple[Table, tuple[str, ...]]]) -> str:
    rows = ",\n".join(
        f"    ({literal(table.sql(_PG), _PG)}, array[{', '.join(literal(column, _PG) for column in key)}])"
        for table, key in keyed
    )
    # An index will do only where it also covers the primary key, of which Debezium makes the message key.
    return f"""\
select format('alter table %s replica identity %s', mapped.name,
              coalesce('using index ' || quote_ident(covering.name), 'full'))
from (values
{rows}
) as mapped (name, key)
join pg_class c on c.oid = mapped.name::regclass and c.relreplident <> 'f'
cross join lateral (
    select coalesce(array_agg(a.attname::text), '{{}}') as columns
    from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey::int2[])
    where i.indrelid = c.oid and i.indisprimary
) as pk
left join lateral (
    select x.relname as name
    from pg_index i
    join pg_class x on x.oid = i.indexrelid
    cross join lateral (
        select array_agg(a.attname::text) as columns, bool_and(a.attnotnull) as filled
        from pg_attribute a
        where a.attrelid = i.indrelid and a.attnum = any((i.indkey::int2[])[0:i.indnkeyatts - 1])
    ) as covered
    where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indimmediate
      and i.indpred is null and i.indexprs is null
      and covered.filled and covered.columns @> mapped.key and covered.columns @> pk.columns
    order by i.indnkeyatts, x.relname
    limit 1
) as covering on true
where not pk.columns @> mapped.key;"""  # noqa: S608 - its names are quoted, and it is printed, not run here


def _publication(capture: Capture) -> Part:
    tables = listed([*capture.tables, capture.signal], _PG)
    return Part(
        "publication",
        "Made by the tables' owner, so that the connector needs no right to alter it: from Debezium 3.3 on `filtered` "
        "leaves one alone that holds exactly these tables, and stops loudly where one is missing (older releases: set "
        "publication.autocreate.mode=disabled).",
        "sql",
        (f"create publication {slot_name(capture)} for table {tables};",),
    )


def _again(capture: Capture) -> Part:
    return Part(
        "send_again",
        "Has the running connector send all rows of that table again, in its stride; put in the table you need, when "
        "you need it (`order-sync show ORDER_ID` prints the statement for single rows).",
        "sql",
        (snapshot_signal(capture.tables[0], None),),
    )
