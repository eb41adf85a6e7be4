"""A process of a world: an event loop with a clock of its own, and the real delivery loop in it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from daemon.delivery.loop import DeliveryLoop
from daemon.operate.health import LoopHealth
from daemon.operate.metrics import Metrics
from simulation.clockwork import RESOLUTION, ProcessLoop
from simulation.network import SimApi
from simulation.store import EPOCH, FaultyStore

if TYPE_CHECKING:
    from simulation.world import World

_METRICS = Metrics()
"""Of all processes: nobody reads them."""


class Process:
    """One process, from its start to its end."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.oracle = world.oracle
        self.name = f"process {number}"
        started = world.lots.schedule.uniform(1.0, 1e6)
        self.loop = ProcessLoop(lambda: started + world.now)  # type: ignore[abstract] # of a loop what is used
        self._started = started
        self.alive = True
        self.paused_at = float("-inf")
        self._thaw_at = float("-inf")
        self.mapping = world.mappings[world.version]
        self.mode = world.mode
        self.stop = asyncio.Event()
        self.delivery = DeliveryLoop(
            world.settings_in(world.mode),
            "d",
            self.mapping,
            FaultyStore(world.state.open(self), self),
            SimApi(self),
            _METRICS,
            LoopHealth(self.loop.time),
            clock=self.loop.time,
            lot=world.lots.jitter.random,
            wall_clock=lambda: datetime.fromtimestamp(EPOCH + world.now, UTC),
        )
        self._task = self.loop.create_task(self.delivery.run(self.stop))

    @property
    def busy(self) -> bool:
        """Whether it is paused, or has a request to make an end of."""
        return self.loop.held or self.delivery._posts.busy

    def wakes_at(self) -> float | None:
        """World time at which there is something for it to do; None while there is not."""
        if not self.alive or self.loop.held:
            return None
        wakes = self.loop.wakes_at()
        return None if wakes is None else wakes - self._started

    def step(self) -> None:
        """Run what is ready in it."""
        self.loop.step()
        if self.alive and self._task.done():
            self.alive = False
            error = None if self._task.cancelled() else self._task.exception()
            if error is not None:
                self.oracle.breaks("run", f"{self.name} ended with {type(error).__name__}: {error}")
            self.world.gone(self)

    def freeze(self, secs: float) -> None:
        """Nothing of it runs for so long."""
        if not self.alive:
            return
        self.loop.held = True
        self._thaw_at = max(self._thaw_at, self.world.now + secs)
        self.world.trace(f"{self.name} is paused for {secs:.1f} s")
        self.world.at(self._thaw_at, self._thaw)

    def _thaw(self) -> None:
        if self.alive and self.loop.held and self.world.now >= self._thaw_at - RESOLUTION:
            self.loop.held = False
            self.paused_at = self.world.now
            self.world.trace(f"{self.name} goes on")

    def end(self) -> None:
        """Tell it to stop."""
        if self.alive:
            self.loop.call_soon(self.stop.set)

    def kill(self) -> None:
        """As by kill -9: its kernel resets its connections. One that is paused cannot be: it would never make good."""
        if not self.alive or self.loop.held:
            return
        self.world.trace(f"{self.name} is killed")
        self.alive = False
        self.loop.kill()
        for line in self.world.network.open_of(self):
            self.world.network.close(line)
        self.world.gone(self)
