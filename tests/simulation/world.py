"""One run: processes that deliver, a shop that changes, a storm of faults, then calm; the oracle looks on."""

from __future__ import annotations

import gc
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from daemon.mapping.model import Mapping as OrderMapping
from daemon.settings import Destination, Settings
from daemon.state.memory_delivery import OrderRecord
from daemon.state.schedule import Lane
from simulation import episodes, person
from simulation.climate import Climate, Fault
from simulation.clockwork import RESOLUTION
from simulation.network import Network
from simulation.oracle import Oracle
from simulation.process import Process
from simulation.shop import Shop, Truth, mapping_of
from simulation.store import CLIENT_ID, EPOCH, URL, MemoryState, State

CALM_SECS = 1200.0
"""So long may it take until everything is quiet, once nothing is wrong any more."""

HEARTBEAT_SECS = 6.0
"""How often a good order changes in the calm: an order is judged only while others pass."""

BURST = 15
"""Changes in the last seconds of a storm."""

EPOCH_TEXT = datetime.fromtimestamp(EPOCH, UTC).isoformat()
HEARTBEAT, FRESH = "heartbeat", "fresh"


class Lots:
    """Chance, one stream for each user of it, so that one more draw here changes nothing there."""

    def __init__(self, seed: int) -> None:
        self.schedule = random.Random(f"{seed} schedule")
        self.network = random.Random(f"{seed} network")
        self.store = random.Random(f"{seed} store")
        self.episodes = random.Random(f"{seed} episodes")
        self.jitter = random.Random(f"{seed} jitter")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one world."""

    seed: int
    climate: Climate
    violations: tuple[str, ...]
    happened: Mapping[Fault, int]
    counts: Mapping[str, int]
    secs: float
    trace: tuple[str, ...]


class World:
    """Everything there is in one run."""

    def __init__(
        self,
        climate: Climate,
        directory: Path,
        *,
        state_of: Callable[[Callable[[], float]], State] | None = None,
        traced: bool = False,
    ) -> None:
        self.climate = climate
        self.now = 0.0
        self.lots = Lots(climate.seed)
        self.happened: Counter[Fault] = Counter()
        self._trace: list[str] | None = [] if traced else None
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._tie = itertools.count()
        self._tables: dict[tuple[Fault, ...], list[tuple[Fault, float]]] = {}
        self.storming = False
        self.state_away = False
        self.going_back = False
        """A copy of the state is kept, or was put back and is not read forward from again."""
        self.locked: dict[str, float] = {}
        """Until when orders are locked by a transaction of which nobody knows what became."""
        self.settings = Settings(
            mapping=Path("mapping.yaml"),
            delivery=climate.delivery,
            destinations={"d": Destination(base_url=URL, client_id=CLIENT_ID, live_since=_live_since(climate))},
        )
        self.mode = "on"
        self.mappings = [mapping_of(directory, climate.on_delete, climate.on_leave, version) for version in (0, 1)]
        self.version = 0
        self.switched_at = float("-inf")
        self.state = state_of(lambda: self.now) if state_of else MemoryState(climate, lambda: self.now)
        self.oracle = Oracle(self)
        self.network = Network(self)
        self.shop = Shop(climate, self.state, lambda: self.now, lambda fault: self.happens(fault, "shop"))
        self._numbers = itertools.count(1)
        self._planned: list[tuple[int, Fault]] = []
        self._dead: list[Process] = []  # kept: collecting them in the middle of a run would be no part of it
        self.processes: list[Process] = []

    def settings_in(self, mode: str) -> Settings:
        """The settings with another mode of delivery."""
        destination = self.settings.destinations["d"].model_copy(update={"delivery": mode})
        return self.settings.model_copy(update={"destinations": {"d": destination}})

    # Time

    def at(self, when: float, what: Callable[[], object]) -> None:
        """Let something happen at a time."""
        heapq.heappush(self._events, (max(when, self.now), next(self._tie), what))

    def after(self, secs: float, what: Callable[[], object]) -> None:
        """Let something happen in so many seconds."""
        self.at(self.now + secs, what)

    def run_for(self, secs: float) -> None:
        """Let time pass, and everything happen that is due in it."""
        until = self.now + secs
        while True:
            ready, wakes = [], until
            for process in self.processes:
                at = process.wakes_at()
                if at is None:
                    continue
                if at <= self.now + RESOLUTION:
                    ready.append(process)
                wakes = min(wakes, at)
            if ready:
                (ready[0] if len(ready) == 1 else self.lots.schedule.choice(ready)).step()
                continue
            if self._events and self._events[0][0] <= wakes:
                when, _, what = heapq.heappop(self._events)
                self.now = max(self.now, when)
                what()
            elif wakes < until:
                self.now = max(self.now, wakes)
            else:
                self.now = until
                return

    # Faults

    def draw(self, table: tuple[Fault, ...], lot: random.Random) -> Fault | None:
        """Which of these faults, if any, happens now."""
        if not self.storming:
            return None
        asked = self._tables.get(table)
        if asked is None:
            asked = [(fault, self.climate.rates[fault]) for fault in table if fault in self.climate.rates]
            self._tables[table] = asked
        if not asked:
            return None
        roll = lot.random()
        for fault, rate in asked:
            roll -= rate
            if roll < 0:
                return fault
        return None

    def happens(self, fault: Fault, where: str) -> None:
        """It does."""
        self.happened[fault] += 1
        self.trace(f"{where}: {fault}")

    def trace(self, text: str) -> None:
        """A line of the story, where one is wanted."""
        if self._trace is not None:
            self._trace.append(f"{self.now:9.3f}  {text}")

    # Processes

    def spawn(self) -> None:
        """One more process starts."""
        process = Process(self, next(self._numbers))
        self.processes.append(process)
        self.trace(f"{process.name} starts")

    def gone(self, process: Process) -> None:
        """A process ended, one way or another: after a while there is another one."""
        for error in process.loop.errors:
            self.oracle.breaks("run", f"{process.name}: {error}")
        self.processes.remove(process)
        self._dead.append(process)
        self.state.closed(process)
        self.trace(f"{process.name} is gone")
        self.after(self.lots.schedule.uniform(0.5, 15.0), self.spawn)

    def mapping_under(self, record: OrderRecord, truth: Truth) -> OrderMapping:
        """The mapping under which the order was last due: the newest, where it changed since that came."""
        if truth.touches and truth.touches[-1] >= self.switched_at:
            return self.mappings[self.version]
        return next(one for one in self.mappings if one.version == record.mapping_version)

    # The run

    def play(self) -> Verdict:
        """Storm, then calm, then the judgement."""
        with _told_to(self), _no_collector():
            self._begin()
            for phase in range(self.climate.phases):
                self._storm(phase)
                if not self._become_quiet():
                    break
                self.oracle.final()
            for process in self.processes:
                process.loop.kill()
        return Verdict(
            self.climate.seed,
            self.climate,
            tuple(self.oracle.violations),
            dict(self.happened),
            dict(self.oracle.counts),
            self.now,
            tuple(self._trace or ()),
        )

    def _begin(self) -> None:
        self.state.put_in_force(self.mappings[0].version)
        for _ in range(self.climate.processes):
            self.after(self.lots.schedule.uniform(0.0, 3.0), self.spawn)
        for fault, count in self.climate.episodes.items():
            for _ in range(count):
                self._planned.append((self.lots.episodes.randrange(self.climate.phases), fault))

    def _storm(self, phase: int) -> None:
        """Changes and faults; towards the end so many changes that some fall into every request."""
        self.storming = True
        self.trace(f"storm {phase + 1}")
        self._change()
        secs = self.climate.storm_secs
        for planned, fault in self._planned:
            if planned == phase:
                self.after(self.lots.episodes.uniform(0.05, 0.9) * secs, partial(episodes.begin, self, fault))
        self.run_for(secs)
        for _ in range(BURST):
            self.trace(f"shop changes order {self.shop.change()}")
            self.run_for(self.lots.schedule.uniform(0.0, 0.4) * (self.climate.latency_secs + 0.3))
        self._mend()

    def _change(self) -> None:
        if self.storming:
            self.trace(f"shop changes order {self.shop.change()}")
            self.after(self.lots.schedule.expovariate(1.0 / self.climate.change_secs), self._change)
        self._arrivals()

    def _arrivals(self) -> None:
        self.shop.arrive()
        if not self.storming and self.shop.expects:
            self.after(1.0, self._arrivals)

    def _mend(self) -> None:
        """Nothing is wrong any more, but for what has happened already."""
        self.trace("calm")
        self.storming = False
        episodes.mend(self)
        self._arrivals()

    def _become_quiet(self) -> bool:
        """Until nothing is owed but what is in quarantine; then a fresh order must flow. Whether it came to that."""
        until = self.now + CALM_SECS
        beat = self.now
        while not self._quiet():
            if self.now >= until:
                self.oracle.breaks("P2", f"not quiet after {CALM_SECS:g} s of calm: {self._unquiet()}")
                return False
            if self.now >= beat and self._owed() - {HEARTBEAT}:
                self.shop.add(HEARTBEAT, Lane.LIVE, total=round(self.now))
                beat = self.now + HEARTBEAT_SECS
            person.decide(self)
            self.run_for(1.0)
        fresh = f"{FRESH}{self.now:.0f}"
        self.shop.add(fresh, Lane.LIVE)
        self.run_for(self.climate.debounce.quiet.total_seconds() + 4 * self.climate.latency_secs + 5.0)
        self.oracle.fresh(fresh)
        while not self._quiet() and self.now < until:
            self.run_for(1.0)
        return True

    def _owed(self) -> set[str]:
        records = self.state.orders()
        return {
            key
            for key, record in records.items()
            if record.owed() and (record.quarantine_revision != record.revision or record.request is not None)
        }

    def _quiet(self) -> bool:
        busy = any(process.busy for process in self.processes)
        busy = busy or self.going_back
        return not busy and not self.network.pending and not self.shop.expects and not self._owed()

    def _unquiet(self) -> str:
        records = self.state.orders()
        owed = [f"{key} (request {records[key].request})" for key in sorted(self._owed())[:5]]
        busy = [process.name for process in self.processes if process.busy]
        return f"owed {owed}, busy {busy}, {self.network.pending} requests pending, halted {self.state.halted()}"


def _live_since(climate: Climate) -> str:
    """From when on orders need not be asked for: the begin of the world where old ones are, else always."""
    return EPOCH_TEXT if Fault.ASKED in climate.episodes else "1970-01-01"


@contextmanager
def _no_collector() -> Iterator[None]:
    """Cyclic garbage waits for the end. A killed process has last words, and would wait in them for ever for a lock of
    whoever the collector has just interrupted.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


@contextmanager
def _told_to(world: World) -> Iterator[None]:
    """What the processes log goes into the trace, and nowhere else."""

    def keep(_: Any, level: str, event: Any) -> Any:
        told = ", ".join(f"{name}={value}" for name, value in event.items() if name not in ("event", "destination"))
        world.trace(f"    log {level}: {event['event']} {told}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep])
    try:
        yield
    finally:
        structlog.configure(**before)
