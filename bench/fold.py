"""Fold: messages a second from broker to committed state, in one process, all bookkeeping on.

(a) a snapshot of orders with their lines, (b) live traffic with hot orders, (c) a replay, of which all is stale. The
serial loop writes the same columns under the same indexes and does nothing else; both are durable. It runs in turn with
ours on the same topics and server, each in a fresh database.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import mean

from line import Folding, SerialLoop, Topics, backlog, live, settings_of
from rig import Figure, Size, Spent, at_least, in_turn, looking, resident_mb, spent, state

from daemon.app import calm_collector
from daemon.demo.stack import Broker, PostgresServer
from daemon.settings import Postgres

STAGES = ("snapshot", "live", "replay")
SHARE = 0.8


@dataclass
class Times:
    """What each stage took in each round."""

    stages: dict[str, list[Spent]] = field(default_factory=lambda: {stage: [] for stage in STAGES})

    def rates(self, stage: str, count: int) -> list[float]:
        """Messages a second in each round."""
        return [count / spent.wall for spent in self.stages[stage]]


def measure(size: Size) -> list[Figure]:
    """A figure for each stage, the process's memory behind them."""
    calm_collector()
    ours, serial = Times(), Times()
    with PostgresServer(durable=True) as server, Broker() as broker:
        past, present = Topics(broker), Topics(broker, first_lsn=10_000_000_000)
        past.produce(backlog(size.orders), op="r")
        present.produce(live(size.orders, past.messages // 4), op="u")
        stages = {"snapshot": past, "live": present, "replay": past}

        def fold() -> None:
            with state(server) as postgres:
                for stage, topics in stages.items():
                    if stage == "replay":
                        _rewind(postgres)
                    folding = Folding(settings_of(topics, postgres), topics.structure)
                    with spent(server) as meter:
                        folding.run()
                    folding.close()
                    ours.stages[stage].append(meter)

        def loop() -> None:
            with state(server) as postgres, looking(postgres) as connection:
                for stage, topics in stages.items():
                    plain = SerialLoop(topics, connection)
                    with spent(server) as meter:
                        plain.run()
                    serial.stages[stage].append(meter)

        in_turn(size.rounds, [fold, loop])
    figures = [_figure(stage, ours, serial, stages[stage].messages) for stage in STAGES]
    at_least(figures[0], SHARE)
    return [*figures, Figure("fold memory", "MB resident", [resident_mb()], note="bench and daemon in one process")]


def _figure(stage: str, ours: Times, serial: Times, count: int) -> Figure:
    figure = Figure(f"fold {stage}", "messages/s", ours.rates(stage, count), "the serial loop")
    figure.to_values = serial.rates(stage, count)
    figure.note = (
        f"{count} messages; CPU us a message: {_cpu(ours, stage, count)}, serial loop {_cpu(serial, stage, count)}"
    )
    return figure


def _cpu(times: Times, stage: str, count: int) -> str:
    every = times.stages[stage]
    here, postgres = (mean(part) / count * 1e6 for part in ([s.here for s in every], [s.postgres for s in every]))
    return f"{here:.0f} Python + {postgres:.0f} Postgres"


def _rewind(postgres: Postgres) -> None:
    with looking(postgres) as connection:
        connection.execute("update kafka_position set next_offset = -1")
