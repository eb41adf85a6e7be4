"""What the sandbox remembers, in memory: versions of orders, the request log, who is in flight. No I/O, no clock.

Not locked: the HTTP side touches it from one event loop only, a simulation from one scheduler.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from daemon.sandbox.contract import Order, moment
from daemon.sandbox.exact import patched, read

OrderKey = tuple[str, str]
"""(Data-Client-ID, order_id)"""


@dataclass(frozen=True, slots=True)
class Version:
    """One accepted document, the `number`-th of its order, applied at `at`, brought by `request`."""

    number: int
    at: float
    request: int
    raw: bytes
    purchased: date
    flipped: str | None = None


class OrderBook:
    """Every accepted version of every order; the one applied last is what the provider holds."""

    def __init__(self) -> None:
        self._versions: dict[OrderKey, deque[Version]] = {}
        self.accepted = 0

    def __len__(self) -> int:
        return len(self._versions)

    def accept(self, client_id: str, orders: Iterable[Order], *, at: float, request: int, keep: int | None) -> None:
        for order in orders:
            versions = self._versions.setdefault((client_id, order.order_id), deque())
            number = versions[-1].number + 1 if versions else 1
            versions.append(Version(number, at, request, order.raw, order.purchased.date()))
            while keep is not None and len(versions) > keep:
                versions.popleft()
            self.accepted += 1

    def merge(self, client_id: str, orders: Iterable[Order], *, at: float, request: int, keep: int | None) -> None:
        """Accept orders as changes of what is there: what they do not name stays, what they name with null goes."""
        for one in orders:
            versions = self._versions.get((client_id, one.order_id))
            raw = patched(versions[-1].raw, one.raw) if versions else one.raw
            purchased = moment(str(read(raw)["time_of_purchase"])) or one.purchased
            order = Order(one.index, one.order_id, raw, purchased)
            self.accept(client_id, [order], at=at, request=request, keep=keep)

    def has(self, key: OrderKey, raw: bytes) -> bool:
        """Whether an order is here and of the customer whom `raw` names. Whether the provider compares is not known."""
        versions = self._versions.get(key)
        return versions is not None and read(versions[-1].raw)["customer_id"] == read(raw)["customer_id"]

    def latest(self, client_id: str | None = None) -> Iterator[tuple[OrderKey, Version]]:
        """The newest version of each order, in the order of first arrival."""
        return ((key, versions[-1]) for key, versions in self._versions.items() if client_id in (None, key[0]))

    def versions(self, order_id: str, client_id: str | None = None) -> Iterator[tuple[OrderKey, Version]]:
        """The versions kept of one id, oldest first, under every client id unless one is given."""
        keys = self._versions if client_id is None else [(client_id, order_id)]
        for key in keys:
            if key[1] == order_id:
                yield from ((key, version) for version in self._versions.get(key, ()))

    def forget(self, order_id: str, client_id: str | None = None) -> int:
        """Drop every version of one id, under every client id unless one is given; of how many orders."""
        found = [key for key in self._versions if key[1] == order_id and client_id in (None, key[0])]
        for key in found:
            del self._versions[key]
        return len(found)

    def replace_latest(self, key: OrderKey, version: Version) -> None:
        self._versions[key][-1] = version


@dataclass(slots=True)
class Entry:
    """One request as logged. `status` is 0 while it is open and None where it ended without an answer."""

    number: int
    at: float
    method: str
    client_id: str
    size: int
    order_ids: tuple[str, ...] = ()
    problems: int = 0
    fault: str | None = None
    status: int | None = 0
    ended_at: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class InFlight:
    """Which orders are named by open requests, and how often two open requests named one order."""

    def __init__(self) -> None:
        self._open: dict[int, frozenset[OrderKey]] = {}
        self._named: Counter[OrderKey] = Counter()
        self.most_requests = 0
        self.most_of_one_order = 0
        self.shared = 0

    def __len__(self) -> int:
        return len(self._open)

    def start(self, request: int, keys: frozenset[OrderKey]) -> None:
        self._open[request] = keys
        self._named.update(keys)
        self.most_requests = max(self.most_requests, len(self._open))
        counts = [self._named[key] for key in keys]
        self.most_of_one_order = max([self.most_of_one_order, *counts])
        self.shared += sum(1 for count in counts if count > 1)

    def end(self, request: int) -> bool:
        """Whether it was still open."""
        keys = self._open.pop(request, None)
        if keys is None:
            return False
        for key in keys:
            self._named[key] -= 1
            if not self._named[key]:
                del self._named[key]
        return True
