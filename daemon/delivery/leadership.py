"""The lease as its holder sees it: when to renew it, and whether enough of it is left to start a request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from daemon.settings import Delivery
from daemon.state.delivery_records import DeliveryState, Lease


@dataclass(slots=True)
class Leadership:
    """A lease that is held. Times are monotonic and taken before the statement that wrote them was sent."""

    lease: Lease
    renewed: float
    settings: Delivery

    @property
    def epoch(self) -> int:
        """The term of this leadership."""
        return self.lease.epoch

    def covers_request(self, now: float) -> bool:
        """Whether a request that starts now must end before the lease does."""
        needed = self.settings.start_grace_secs + self.settings.request_timeout_secs
        return self.renewed + self.settings.lease_secs - now > needed

    async def keep(self, store: DeliveryState, clock: Callable[[], float], *, soon: bool = False) -> None:
        """Renew the lease where it is time to, or where a request needs more of it. Raises LeaseLost."""
        now = clock()
        if now - self.renewed >= self.settings.lease_renew_secs or (soon and not self.covers_request(now)):
            self.lease = await store.renew_lease(self.lease, self.settings.lease_secs)
            self.renewed = now


async def lead(
    store: DeliveryState, destination: int, settings: Delivery, clock: Callable[[], float]
) -> Leadership | None:
    """Take the lease under a holder name of its own, if it is free."""
    now = clock()
    lease = await store.take_lease(destination, uuid4(), settings.lease_secs)
    return Leadership(lease, now, settings) if lease else None
