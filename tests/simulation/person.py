"""The operator of a world: pauses and resumes, asks for old orders, decides about guarded ones, changes the mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.state.delivery_records import Hold, Placed
from daemon.state.schedule import Lane
from simulation.climate import Fault
from simulation.store import EPOCH

if TYPE_CHECKING:
    from simulation.world import World

YEAR = 365 * 86400.0
SHARE_GONE = (0.5, 1.0)
"""Of all orders, how many are gone in a mass."""


def placed_at_random(world: World) -> float:
    """When an old order was placed: within the year before the world began; some at the same moment."""
    return EPOCH - YEAR + round(world.lots.episodes.random(), 2) * YEAR


def pause(world: World) -> None:
    """Nothing is to be sent for a while."""
    world.state.pause(paused=True)
    world.oracle.told_to_pause(paused=True)
    world.after(world.lots.episodes.uniform(5.0, 40.0), lambda: resume(world))


def resume(world: World) -> None:
    """It goes on."""
    world.state.pause(paused=False)
    world.oracle.told_to_pause(paused=False)


def ask(world: World) -> None:
    """Some range of old orders is asked for; now and then none any more."""
    lot = world.lots.episodes
    if lot.random() < 0.2:
        _ask(world, None)
        return
    since, until = sorted((placed_at_random(world), placed_at_random(world)))
    _ask(world, Placed(since, lot.choice([until + 1.0, float("inf")])))


def ask_for_all(world: World) -> None:
    """Every old order."""
    _ask(world, Placed())


def _ask(world: World, placed: Placed | None) -> None:
    world.state.ask(placed)
    world.oracle.asked_for(placed)
    world.trace(f"operator asks for {placed}")


def mass_void(world: World) -> None:
    """Many orders are gone at once; a while later somebody looks at what is guarded."""
    lot = world.lots.episodes
    share = lot.uniform(*SHARE_GONE)
    keys = [key for key in sorted(world.shop.orders) if lot.random() < share]
    kinds = [kind for kind in (Fault.CANCELLED, Fault.DELETED, Fault.INELIGIBLE) if kind in world.climate.rates]
    for key in keys:
        world.shop.lose(key, lot.choice(kinds), Lane.LIVE)
    world.trace(f"gone at once: {', '.join(keys)}")
    world.after(lot.uniform(10.0, 60.0), lambda: decide(world))


def decide(world: World) -> None:
    """Each guarded order is released or discarded."""
    records = world.state.orders()
    guarded = [key for key, record in sorted(records.items()) if record.parked() and record.hold is Hold.GUARDED]
    released = [key for key in guarded if world.lots.episodes.random() < 0.5]
    discarded = [key for key in guarded if key not in released]
    for keys, release in ((released, True), (discarded, False)):
        if keys:
            world.trace(f"operator {'releases' if release else 'discards'} {', '.join(keys)}")
            world.oracle.decides(keys, release=release)
            world.state.decide_guarded(keys, release=release)


def shadow(world: World) -> None:
    """The settings say shadow for a while: processes end, and their successors send nothing."""
    _mode(world, "shadow")
    world.after(world.lots.episodes.uniform(10.0, 60.0), lambda: light(world))


def light(world: World) -> None:
    """The settings say on again."""
    if world.mode != "on":
        _mode(world, "on")


def _mode(world: World, mode: str) -> None:
    world.mode = mode
    for process in world.processes:
        process.end()
