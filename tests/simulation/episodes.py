"""Faults of some length: each begins here and knows how it ends. A calm ends them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from daemon.state.schedule import Lane
from simulation import person
from simulation.climate import Fault
from simulation.store import CLIENT_ID

if TYPE_CHECKING:
    from simulation.process import Process
    from simulation.world import World

Episode = Callable[["World"], None]


def begin(world: World, fault: Fault) -> None:
    """Let it happen now, unless the storm is over."""
    if not world.storming:
        return
    if fault in _OF_PROCESSES:
        process = _victim(world, fault)
        if process is None:
            world.after(1.0, lambda: begin(world, fault))
            return
        world.happens(fault, process.name)
        _OF_PROCESSES[fault](world, process)
    else:
        world.happens(fault, "episode")
        _OF_THE_WORLD[fault](world)


def mend(world: World) -> None:
    """Nothing is wrong any more."""
    for end in (_reachable, _well, _good_key, _large_bodies, _own_budget, _state_back, _gate_open, person.light):
        end(world)
    if Fault.PAUSED in world.climate.episodes:
        person.resume(world)
    if Fault.ASKED in world.climate.episodes:
        person.ask_for_all(world)


def _victim(world: World, fault: Fault) -> Process | None:
    """A process that runs; for a long pause one with a request under way, where there is one."""
    running = [one for one in world.processes if one.alive and not one.loop.held]
    if fault is Fault.LONG_PAUSE:
        running = [one for one in running if world.network.open_of(one)] or running
    return world.lots.episodes.choice(running) if running else None


def _lasts(world: World, least: float, most: float, end: Episode) -> None:
    world.after(world.lots.episodes.uniform(least, most), lambda: end(world))


def _pause(world: World, process: Process) -> None:
    process.freeze(world.lots.episodes.uniform(0.2, 12.0))


def _long_pause(world: World, process: Process) -> None:
    process.freeze(world.lots.episodes.uniform(1.0, 5.0) * world.climate.delivery.fence_secs)


def _unreachable(world: World) -> None:
    world.network.unreachable = True
    _lasts(world, 5.0, 60.0, _reachable)


def _reachable(world: World) -> None:
    world.network.unreachable = False


def _failing(world: World) -> None:
    world.network.failing = True
    _lasts(world, 5.0, 60.0, _well)


def _well(world: World) -> None:
    world.network.failing = False


def _revoked(world: World) -> None:
    world.network.vendor.set_key(world.network.key, "revoked")
    _lasts(world, 5.0, 60.0, _good_key)


def _forbidden(world: World) -> None:
    world.network.vendor.set_key(world.network.key, "forbidden")
    _lasts(world, 5.0, 60.0, _good_key)


def _good_key(world: World) -> None:
    world.network.vendor.set_key(world.network.key, "good")


def _new_key(world: World) -> None:
    network = world.network
    old, network.key = network.key, f"key-{world.now:.3f}"
    network.vendor.set_key(old, "revoked")
    network.vendor.set_key(network.key, "good", CLIENT_ID)


def _small_bodies(world: World) -> None:
    world.network.vendor.change_options({"max_body_bytes": world.lots.episodes.choice([800, 1500])})
    _lasts(world, 10.0, 60.0, _large_bodies)


def _large_bodies(world: World) -> None:
    world.network.vendor.change_options({"max_body_bytes": world.climate.sandbox.max_body_bytes})


def _other_writer(world: World) -> None:
    world.network.vendor.change_options({"budget_bytes": 1000})
    _lasts(world, 5.0, 30.0, _own_budget)


def _own_budget(world: World) -> None:
    world.network.vendor.change_options({"budget_bytes": world.climate.delivery.budget_bytes})


def _state_away(world: World) -> None:
    world.state_away = True
    _lasts(world, 2.0, 40.0, _state_back)


def _state_back(world: World) -> None:
    world.state_away = False


def _gate(world: World) -> None:
    world.state.gate(closed=True)
    _lasts(world, 2.0, 30.0, _gate_open)


def _gate_open(world: World) -> None:
    world.state.gate(closed=False)


def _mapping_switch(world: World) -> None:
    if world.version == 0:
        world.version = 1
        world.switched_at = world.now
        world.state.put_in_force(world.mappings[1].version)


def _backfill(world: World) -> None:
    lot = world.lots.episodes
    for number in range(lot.choice([30, 100, 200])):
        total = lot.randint(1, 9)
        placed_at = person.placed_at_random(world) if Fault.ASKED in world.climate.episodes else None
        world.shop.add(f"b{number}", Lane.BACKFILL, total=total, placed_at=placed_at)


def _restored(world: World) -> None:
    """The state goes back to what it is now, some time later. Ingest sees it after a moment, and reads it all again."""
    if world.going_back:
        return
    at, put_back = world.now, world.state.copied()
    world.going_back = True

    def restore(world: World) -> None:
        put_back()
        world.shop.unread = True
        world.oracle.went_back()
        world.trace(f"the state is what it was at {at:.3f}")
        _lasts(world, 0.0, 6.0, notice)

    def notice(world: World) -> None:
        world.state.begin_era()
        world.oracle.era_begins()
        _lasts(world, 0.5, 20.0, read_again)

    def read_again(world: World) -> None:
        world.shop.read_again(since=at)
        world.state.end_replay()
        world.oracle.forgotten()
        world.going_back = False
        if not world.storming:  # what an operator had mended went back too
            mend(world)

    _lasts(world, 5.0, 40.0, restore)


_OF_PROCESSES: dict[Fault, Callable[[World, Process], None]] = {
    Fault.CRASH: lambda _, process: process.kill(),
    Fault.STOP: lambda _, process: process.end(),
    Fault.PAUSE: _pause,
    Fault.LONG_PAUSE: _long_pause,
}
_OF_THE_WORLD: dict[Fault, Episode] = {
    Fault.OUTAGE: _unreachable,
    Fault.BROWNOUT: _failing,
    Fault.REVOKED: _revoked,
    Fault.FORBIDDEN: _forbidden,
    Fault.NEW_KEY: _new_key,
    Fault.SMALL_BODIES: _small_bodies,
    Fault.OTHER_WRITER: _other_writer,
    Fault.STATE_AWAY: _state_away,
    Fault.GATE: _gate,
    Fault.MAPPING_SWITCH: _mapping_switch,
    Fault.BACKFILL: _backfill,
    Fault.RESTORED: _restored,
    Fault.MASS_VOID: person.mass_void,
    Fault.PAUSED: person.pause,
    Fault.ASKED: person.ask,
    Fault.SHADOW: person.shadow,
}
