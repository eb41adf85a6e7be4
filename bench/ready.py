"""Ready: how long a process takes until it is ready, over a state with many orders of which many are due.

The memory is taken once it has sent for some seconds.
"""

from __future__ import annotations

import time

from line import POLICY
from rig import Figure, Size, looking, resident_mb
from running import running
from scale import SERVER, fill, make_due
from workload import shop_mapping

from daemon.demo.stack import Broker, PostgresServer
from daemon.sandbox.options import DEFAULT_CLIENT_ID
from daemon.settings import Postgres
from daemon.state.ingest_store import PostgresIngestStore

MOST = 1_000_000
DUE_SHARE = 10
SENDING_SECS = 10


def measure(size: Size) -> list[Figure]:
    """Seconds and MB."""
    orders = max(one for one in size.state if one <= MOST)

    def prepare(postgres: Postgres, url: str) -> None:
        with looking(postgres) as connection:
            connection.execute(
                "insert into destination (name, base_url, client_id) values ('bench', %s, %s)", [url, DEFAULT_CLIENT_ID]
            )
            store = PostgresIngestStore(postgres, POLICY)
            structure = shop_mapping().structure
            store.open(structure, ["bench"])
            for source in structure.sources:
                store.note_relations(source, structure.relations_version(source))
            store.close()
            fill(connection, orders)
            make_due(connection, orders, orders // DUE_SHARE)

    with (
        PostgresServer(durable=True, options=SERVER) as server,
        Broker() as broker,
        running(server, broker, size.window_secs, prepare) as daemon,
    ):
        time.sleep(SENDING_SECS)
        resident = resident_mb(daemon.pid)
    name = f"{orders:,} orders, {orders // DUE_SHARE:,} due"
    return [
        Figure(f"ready, {name}", "s", [daemon.ready_secs], note="once"),
        Figure(f"ready memory, {name}", "MB resident", [resident], note=f"{SENDING_SECS} s later"),
    ]
