"""What the shop remembers of its own orders: enough to go on working on them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

from daemon.demo.shop import catalogue
from daemon.demo.shop.catalogue import Market

TAX_RATE = Decimal("0.08")


@dataclass(slots=True)
class Line:
    """A line as the shop remembers it."""

    id: int
    sku: str
    quantity: int
    unit_price: Decimal
    discount: Decimal
    refunded: int = 0

    @property
    def net(self) -> Decimal:
        """What the customer pays for the line, without tax."""
        return self.unit_price * self.quantity - self.discount


@dataclass(slots=True)
class Order:
    """An order as the shop remembers it. `touched` is when it last changed, on the monotonic clock."""

    id: UUID
    number: str
    market: Market
    shipping: Decimal
    discount: Decimal
    lines: list[Line] = field(default_factory=list)
    status: str = "pending"
    edited: bool = False
    refunds: int = 0
    shipping_refunded: bool = False
    touched: float = field(default_factory=time.monotonic)

    @property
    def tax(self) -> Decimal:
        """The order's tax."""
        return catalogue.rounded(sum((line.net for line in self.lines), Decimal(0)) * TAX_RATE, self.market)

    @property
    def total(self) -> Decimal:
        """What the customer pays."""
        return sum((line.net for line in self.lines), Decimal(0)) + self.tax + self.shipping

    @property
    def has_unreturned(self) -> bool:
        """Something that was sold has not come back."""
        return any(line.refunded < line.quantity for line in self.lines)

    @property
    def refundable(self) -> bool:
        """Money was taken and not too often given back."""
        return self.status in ("paid", "shipped") and self.refunds < 3

    @property
    def plain(self) -> bool:
        """Money was taken, and the lines are those it was placed with."""
        return self.status in ("paid", "shipped") and not self.edited
