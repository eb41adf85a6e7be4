"""What the OMS's MySQL or MariaDB needs: binary log, the connector's user, signal table."""

from __future__ import annotations

from daemon.contract.part import Part
from daemon.contract.properties import role_name
from daemon.contract.signal import snapshot_signal
from daemon.contract.tables import Capture, Database, identifier, literal

_MY = Database.MYSQL
_BINLOG_KEEP_SECS = 14 * 86_400
_CASCADES = """\
select constraint_schema, table_name, referenced_table_name, delete_rule, update_rule
from information_schema.referential_constraints
where constraint_schema in ({schemas})
  and (delete_rule in ('CASCADE', 'SET NULL') or update_rule in ('CASCADE', 'SET NULL'));"""


def parts(capture: Capture) -> list[Part]:
    """The parts in the order in which they are run, by an administrator of the server."""
    return [_mariadb(), _server(), _cascades(capture), _user(capture), _signal(capture), _again(capture)]


def _mariadb() -> Part:
    return Part(
        "mariadb",
        "For MariaDB only the class differs; everything else below holds.",
        "text",
        ("connector.class=io.debezium.connector.mariadb.MariaDbConnector",),
    )


def _server() -> Part:
    return Part(
        "server",
        "The binary log must hold whole rows before and after each change, and long enough for the connector's longest "
        "outage (binlog_row_value_options is MySQL's alone; server-id differs from the connector's "
        "database.server.id).",
        "ini",
        (
            "[mysqld]",
            "server-id = 1",
            "log_bin = mysql-bin",
            "binlog_format = ROW",
            "binlog_row_image = FULL",
            "binlog_row_value_options = ''",
            f"binlog_expire_logs_seconds = {_BINLOG_KEEP_SECS}",
        ),
    )


def _cascades(capture: Capture) -> Part:
    schemas = ", ".join(dict.fromkeys(literal(table.schema, _MY) for table in capture.tables))
    return Part(
        "cascades",
        "InnoDB carries cascades out below the binary log: rows that they delete or change never reach Kafka. Where "
        "this finds a mapped table, have the application change its rows by statements of their own.",
        "sql",
        (_CASCADES.format(schemas=schemas),),
    )


def _user(capture: Capture) -> Part:
    user = f"{literal(role_name(capture), _MY)}@'%'"
    schemas = dict.fromkeys(identifier(table.schema, _MY, quoted=True) for table in capture.tables)
    return Part(
        "role",
        "The connector follows the log and reads the mapped databases (choose the password; the lock is for servers "
        "that let nobody take a global read lock, such as RDS).",
        "sql",
        (
            f"create user {user} identified by '<password>';",
            f"grant reload, show databases, replication slave, replication client on *.* to {user};",
            *(f"grant select, lock tables on {schema}.* to {user};" for schema in schemas),
        ),
    )


def _signal(capture: Capture) -> Part:
    table = capture.signal.sql(_MY)
    return Part(
        "signal",
        "A row in this table asks the running connector for an incremental snapshot, and its own marks there keep such "
        "a snapshot consistent with the changes meanwhile.",
        "sql",
        (
            f"create table {table} (id varchar(42) primary key, type varchar(32) not null, data text);",
            f"grant insert, delete on {table} to {literal(role_name(capture), _MY)}@'%';",
        ),
    )


def _again(capture: Capture) -> Part:
    return Part(
        "send_again",
        "Has the running connector send all rows of that table again, in its stride; put in the table you need, when "
        "you need it (`order-sync show ORDER_ID` prints the statement for single rows).",
        "sql",
        (snapshot_signal(capture.tables[0], None, database=_MY),),
    )
