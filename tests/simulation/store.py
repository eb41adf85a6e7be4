"""The state as a simulated process sees it: slow, away, in doubt; and the places where a process dies.

`MemoryState` is the memory store with the shop's hand on it; the one on Postgres is in `postgres.py`.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from daemon.errors import OrderSyncError, StateContended, StateUnavailable
from daemon.mapping.rows import StoredRow
from daemon.state.delivery_records import DeliveryState, Placed
from daemon.state.memory_delivery import MemoryDeliveryStore, OrderRecord
from daemon.state.schedule import Lane
from simulation.climate import OF_STORE_CALL, Climate, Fault

if TYPE_CHECKING:
    from simulation.process import Process

EPOCH = 1_800_000_000.0
"""The database's clock when a world begins, epoch seconds."""

CALL = tuple(fault for fault in OF_STORE_CALL if fault is not Fault.PAUSE_AT_SETTLE)
CALLS = {"settle": (*CALL, Fault.PAUSE_AT_SETTLE), "reserve": (*CALL, *[Fault.STATE_IN_DOUBT_LATE] * 2)}
"""What may happen to a call; the rates of a fault that stands here more than once are summed."""

URL, CLIENT_ID = "http://localhost", "client"


class State(Protocol):
    """A state that processes can open, and that the shop and the oracle can reach into."""

    def open(self, process: Process) -> DeliveryState:
        """The store of one process."""
        ...

    def put_row(self, row: StoredRow) -> None:
        """The row as it is now."""
        ...

    def touch(self, key: str, lane: Lane) -> None:
        """The order changed: debounced, and due then."""
        ...

    def orders(self, keys: Collection[str] | None = None) -> Mapping[str, OrderRecord]:
        """The records of these orders; of all."""
        ...

    def halted(self) -> str | None:
        """What halts the destination, as stored."""
        ...

    def gate(self, *, closed: bool) -> None:
        """Ingest folds a backlog, or has done with it."""
        ...

    def put_in_force(self, version: str) -> None:
        """Another mapping."""
        ...

    def pause(self, *, paused: bool) -> None:
        """An operator pauses delivery, or resumes it."""
        ...

    def ask(self, placed: Placed | None) -> None:
        """An operator asks for old orders, or for none any more."""
        ...

    def decide_guarded(self, keys: Collection[str], *, release: bool) -> None:
        """An operator releases or discards guarded orders."""
        ...

    def finish(self, process: Process, name: str, arguments: tuple[Any, ...]) -> None:
        """Carry out what the server goes on doing after the process gave it up. What it raises, nobody hears."""
        ...

    def copied(self) -> Callable[[], None]:
        """A copy of now; calling it puts the state back there."""
        ...

    def begin_era(self) -> None:
        """Ingest sees that the state went back. It holds delivery until it has read again."""
        ...

    def end_replay(self) -> None:
        """It has."""
        ...

    def closed(self, process: Process) -> None:
        """The process is gone."""
        ...

    def close(self) -> None:
        """The world is over."""
        ...


class MemoryState:
    """The memory store. `now` is the world's time."""

    def __init__(self, climate: Climate, now: Callable[[], float]) -> None:
        self._policy = climate.debounce
        self._now = now
        self.store = MemoryDeliveryStore(self._clock)
        _at_once(self.store.register("d", URL, CLIENT_ID))

    def _clock(self) -> float:
        return EPOCH + self._now()

    def open(self, process: Process) -> DeliveryState:  # noqa: ARG002 - all share one
        return self.store

    def put_row(self, row: StoredRow) -> None:
        self.store.put_row(row)

    def touch(self, key: str, lane: Lane) -> None:
        record = self.orders().get(key)
        now = self._clock()
        first = now if record is None or record.first_change is None else record.first_change
        quiet, max_wait = self._policy.quiet.total_seconds(), self._policy.max_wait.total_seconds()
        self.store.touch(1, key, lane=int(lane), due_in=min(quiet, first + max_wait - now))

    def orders(self, keys: Collection[str] | None = None) -> Mapping[str, OrderRecord]:  # noqa: ARG002 - all cost nothing
        return self.store.destination(1).orders

    def halted(self) -> str | None:
        return self.store.destination(1).standing.halted

    def gate(self, *, closed: bool) -> None:
        self.store.gate_closed = closed

    def put_in_force(self, version: str) -> None:
        self.store.mapping_in_force = version

    def pause(self, *, paused: bool) -> None:
        self.store.pause(1, paused=paused)

    def ask(self, placed: Placed | None) -> None:
        self.store.ask(1, placed)

    def decide_guarded(self, keys: Collection[str], *, release: bool) -> None:
        decide = self.store.release_guarded if release else self.store.discard_guarded
        decide(1, keys)

    def finish(self, process: Process, name: str, arguments: tuple[Any, ...]) -> None:
        with suppress(OrderSyncError):
            _at_once(getattr(SeenStore(self.store, process), name)(*arguments))

    def copied(self) -> Callable[[], None]:
        names = ("_destinations", "_rows", "_last_request", "eras")
        kept = copy.deepcopy({name: getattr(self.store, name) for name in names})

        def put_back() -> None:
            for name, value in copy.deepcopy(kept).items():
                setattr(self.store, name, value)

        return put_back

    def begin_era(self) -> None:
        self.store.begin_era("a copy was put back")

    def end_replay(self) -> None:
        self.store.replay()
        self.store.end_replay()

    def closed(self, process: Process) -> None:
        """It held nothing."""

    def close(self) -> None:
        """There is nothing to give back."""


def _at_once(call: Coroutine[Any, Any, Any]) -> None:
    """Run what waits for nothing."""
    with suppress(StopIteration):
        call.send(None)
        raise AssertionError("the memory store waits")


class SeenStore:
    """Tells the oracle what the state was told, at the moment it takes effect."""

    def __init__(self, store: DeliveryState, process: Process) -> None:
        self._store = store
        self._process = process

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def reserve(self, lease: Any, request: int, lane: int, orders: Any, mapping_version: str) -> list[str]:
        going = await self._store.reserve(lease, request, lane, orders, mapping_version)
        self._process.oracle.reserved(self._process, request, lane, orders, frozenset(going))
        return going

    async def settle(self, lease: Any, settlement: Any) -> Any:
        accepted = await self._store.settle(lease, settlement)
        self._process.oracle.settled(self._process, settlement, accepted)
        return accepted

    async def judge(self, lease: Any, judgements: Any, mapping_version: str) -> list[str]:
        given = list(judgements)
        held = await self._store.judge(lease, given, mapping_version)
        self._process.oracle.judged(self._process, given, frozenset(held))
        return held

    async def release_parked(self, lease: Any, hold: Any, placed: Any, limit: int) -> list[str]:
        keys = await self._store.release_parked(lease, hold, placed, limit)
        self._process.oracle.released(self._process, hold, placed, keys)
        return keys

    async def reopen(self, destination: int, keys: Any, hold_secs: float) -> None:
        await self._store.reopen(destination, keys, hold_secs)
        self._process.oracle.reopened(keys)


class FaultyStore:
    """What one process calls. Every method of the store is met by the faults that the climate asks for."""

    def __init__(self, store: DeliveryState, process: Process) -> None:
        self._store = SeenStore(store, process)
        self._process = process

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self._store, name)

        async def call(*arguments: Any, **keywords: Any) -> Any:
            return await self._call(name, partial(method, **keywords), arguments)

        return call

    async def _call(self, name: str, method: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        process = self._process
        world = process.world
        if world.state_away:
            await asyncio.sleep(world.lots.store.uniform(0.01, 0.5))
            raise StateUnavailable("away")
        fault = world.draw(CALLS.get(name, CALL), world.lots.store)
        if fault is not None:
            world.happens(fault, f"{process.name} {name}")
        match fault:
            case Fault.CRASH_AT_STORE:
                await self._die()
            case Fault.STATE_FAILS:
                raise StateUnavailable("no effect")
            case Fault.STATE_CONTENDED:
                raise StateContended("gave way")
            case Fault.STATE_SLOW:
                await asyncio.sleep(world.lots.store.uniform(1.0, 8.0))
            case Fault.PAUSE_AT_STORE | Fault.PAUSE_AT_SETTLE:
                process.freeze(world.lots.store.uniform(0.5, 5.0) * world.climate.delivery.fence_secs)
                await asyncio.sleep(0)
            case Fault.STATE_IN_DOUBT_LATE:
                self._leave_open(name, arguments)
                raise StateUnavailable("its effect comes later")
        if world.lots.store.random() < 0.2:
            await asyncio.sleep(world.lots.store.uniform(0.0, 0.03))
        if name == "reserve":
            free = max((world.locked.get(key, 0.0) for key in _named(arguments)), default=0.0)
            await asyncio.sleep(max(free - world.now, 0.0))
        result = await method(*arguments)
        match fault:
            case Fault.CRASH_AFTER_STORE:
                await self._die()
            case Fault.STATE_IN_DOUBT:
                raise StateUnavailable("with its effect")
            case Fault.STATE_SLOW:
                await asyncio.sleep(world.lots.store.uniform(0.0, 4.0))
        return result

    def _leave_open(self, name: str, arguments: tuple[Any, ...]) -> None:
        """The server goes on with it, and keeps what it locked; of locks, those on orders are what others wait for."""
        process, world = self._process, self._process.world
        until = world.now + world.lots.store.uniform(0.1, 5.0)
        if name == "reserve":
            world.locked.update(dict.fromkeys(_named(arguments), until))
        world.at(until, lambda: world.state.finish(process, name, arguments))

    async def _die(self) -> NoReturn:
        self._process.kill()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("a dead process goes on")


def _named(arguments: tuple[Any, ...]) -> frozenset[str]:
    """The orders of a `reserve`."""
    return frozenset(order.key for order in arguments[3])
