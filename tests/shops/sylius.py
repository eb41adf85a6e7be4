"""A Sylius shop: orders of every kind, with what happens to them. The amounts that goldens rest on stand here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shops.book import Book, Trade

START = datetime(2026, 3, 1, 9, 0)  # noqa: DTZ001 - Sylius leaves the zone out
CAP, MUG_RED, MUG_BLUE = 11, 21, 22
VARIANTS = {CAP: ("CAP", "Cap", None), MUG_RED: ("MUG-RED", "Mug", "Red"), MUG_BLUE: ("MUG-BLUE", "Mug", "Blue")}


@dataclass(frozen=True)
class Item:
    """A line, in hundredths: its price a piece; for each piece what is taken off and its tax.

    `on_the_order` of what is taken off are the pieces' shares of an order's promotion, else it is their own; `off_line`
    is taken off the line as a whole.
    """

    variant: int
    price: int
    taxes: tuple[int, ...]
    off: tuple[int, ...] = ()
    on_the_order: bool = False
    off_line: int = 0


@dataclass(frozen=True)
class Parcel:
    """A shipment, in hundredths: what it costs, what a promotion takes off, its tax."""

    cost: int
    off: int = 0
    tax: int = 0


def trade(book: Book) -> None:
    """Everything that ever happened in this shop."""
    shop = _Sylius(book)
    shop.opening()
    shop.plain_order()
    shop.guest_with_tax_in_the_price()
    shop.order_in_yen()
    shop.carts()
    book.opens()
    shop.refund_with_shipping()
    shop.promotions()
    shop.discounts_of_an_extension()
    shop.cancelled_orders()
    shop.unpaid_order()
    shop.cart_is_completed()
    shop.fully_refunded()
    shop.piece_refunded_in_parts()


class _Sylius(Trade):
    def __init__(self, book: Book) -> None:
        super().__init__(book, START, first_id=5000)
        self._freights: dict[int, int] = {}

    def opening(self) -> None:
        """A catalogue, a coupon, a customer with an account and a guest."""
        put = self.book.insert
        for number, (code, _, _) in VARIANTS.items():
            put("sylius_product_variant", id=number, product_id=number // 10, code=code)
        put("sylius_promotion_coupon", id=1, promotion_id=1, code="SPRING")
        put(
            "sylius_customer",
            id=7,
            email="ann@example.com",
            first_name="Ann",
            last_name="Lee",
            phone_number="212-555-1234",
        )
        put("sylius_customer", id=8, email="guest@example.de", first_name=None, last_name=None, phone_number=None)

    def _address(self, country: str) -> int:
        places: dict[str, dict[str, Any]] = {
            "US": {"street": "1 Main St", "city": "New York", "postcode": "10001", "province_code": "US-NY"},
            "DE": {"street": "Torstraße 5", "city": "Berlin", "postcode": "10119", "province_name": "Berlin"},
            "JP": {"street": "1-1 Chiyoda", "city": "Tokyo", "postcode": "100-0001"},
        }
        names = {"first_name": "Jo", "last_name": "Doe", "phone_number": "030 90260" if country == "DE" else None}
        number = self._next()
        self.book.insert("sylius_address", id=number, country_code=country, **names, **places[country])
        return number

    def order(
        self,
        number: int,
        items: Sequence[Item],
        parcels: Sequence[Parcel] = (),
        *,
        inside: bool = False,
        off: int = 0,
        country: str = "US",
        state: str = "new",
        payment_state: str = "paid",
        **other: Any,
    ) -> None:
        """An order with all that hangs on it; its totals are the sums that Sylius keeps.

        `inside`: taxes are in the prices, which makes them neutral. `off` is taken off the order as a whole.
        """
        at = self._tick()
        cart = state == "cart"
        in_lines = sum(_worth(item, inside) for item in items)
        beside = sum(_freight(parcel, inside) for parcel in parcels) - off
        with self.book.transaction():
            values: dict[str, Any] = {
                "number": None if cart else f"{number:09}",
                "state": state,
                "payment_state": payment_state,
                "checkout_completed_at": None if cart else at,
                "customer_id": 7,
                "created_by_guest": False,
                "shipping_address_id": self._address(country),
                "billing_address_id": self._address(country),
                "promotion_coupon_id": None,
                "currency_code": "USD",
                "items_total": in_lines,
                "adjustments_total": beside,
                "total": in_lines + beside,
                "notes": "Leave it at the door",
                "token_value": f"token{number}",
                "customer_ip": "198.51.100.7",
                "created_at": at,
                "updated_at": at,
            }
            self.book.insert("sylius_order", id=number, **{**values, **other})
            for index, item in enumerate(items):
                self._line(number, number * 10 + index, item, inside=inside)
            for index, parcel in enumerate(parcels):
                self._parcel(number, number * 10 + index, parcel, inside=inside)
            self._adjust("order_promotion", -off, order_id=number)

    def _line(self, order: int, number: int, item: Item, *, inside: bool) -> None:
        _, name, variant_name = VARIANTS[item.variant]
        self.book.insert(
            "sylius_order_item",
            id=number,
            order_id=order,
            variant_id=item.variant,
            quantity=len(item.taxes),
            unit_price=item.price,
            units_total=_worth(item, inside) + item.off_line,
            adjustments_total=-item.off_line,
            total=_worth(item, inside),
            product_name=name,
            variant_name=variant_name,
        )
        self._adjust("order_item_promotion", -item.off_line, order_item_id=number)
        for index, tax in enumerate(item.taxes):
            unit, off = number * 10 + index, (item.off or (0,) * len(item.taxes))[index]
            added = (0 if inside else tax) - off
            self.book.insert("sylius_order_item_unit", id=unit, order_item_id=number, adjustments_total=added)
            kind = "order_promotion" if item.on_the_order else "order_unit_promotion"
            self._adjust(kind, -off, order_item_unit_id=unit)
            self._adjust("tax", tax, neutral=inside, order_item_unit_id=unit)

    def _parcel(self, order: int, number: int, parcel: Parcel, *, inside: bool) -> None:
        self.book.insert(
            "sylius_shipment", id=number, order_id=order, state="ready", adjustments_total=_freight(parcel, inside)
        )
        both = {"order_id": order, "shipment_id": number}
        self._freights[order] = self._adjust("shipping", parcel.cost, **both)
        self._adjust("order_shipping_promotion", -parcel.off, **both)
        self._adjust("tax", parcel.tax, neutral=inside, **both)

    def _adjust(self, kind: str, amount: int, *, neutral: bool = False, **owner: int) -> int:
        """An adjustment, but for those of nothing."""
        number = self._next()
        if amount:
            code = "SPRING" if kind.endswith("promotion") else None
            self.book.insert(
                "sylius_adjustment", id=number, type=kind, amount=amount, is_neutral=neutral, origin_code=code, **owner
            )
        return number

    def refund(self, order: int, units: dict[int, int], freight: int = 0, *, state: str = "partially_refunded") -> None:
        """Units (id to amount) and the freight of the order's shipment are paid back; a credit memo says so."""
        at = self._tick(days=2)
        for unit, amount in units.items():
            self._refund(order, "order_item_unit", unit, amount)
        if freight:
            self._refund(order, "shipment", self._freights[order], freight)
        with self.book.transaction():
            number = self._next()
            self.book.insert(
                "sylius_refund_credit_memo",
                id=f"7d0f3a52-0000-4000-8000-00000000{number}",
                order_id=order,
                number=f"2026/03/{number:09}",
                total=sum(units.values()) + freight,
                comment="",
                issued_at=at,
            )
            self.book.update("sylius_order", order, payment_state=state, updated_at=at)

    def _refund(self, order: int, kind: str, unit: int, amount: int) -> None:
        """One row in a transaction of its own, as the plug-in flushes them."""
        self.book.insert(
            "sylius_refund_refund", id=self._next(), order_id=order, amount=amount, refunded_unit_id=unit, type=kind
        )

    def plain_order(self) -> None:
        """1001: 8 % on top."""
        items = [Item(MUG_RED, 2000, (160, 160)), Item(CAP, 1500, (120,))]
        self.order(1001, items, [Parcel(500, tax=40)])

    def guest_with_tax_in_the_price(self) -> None:
        """1002: a guest, who is a customer without a name; 19 % inside."""
        self.order(
            1002,
            [Item(MUG_BLUE, 1999, (319, 319, 319))],
            [Parcel(490, tax=78)],
            inside=True,
            country="DE",
            customer_id=8,
            created_by_guest=True,
            currency_code="EUR",
        )

    def order_in_yen(self) -> None:
        """1003: 2 x 1650 yen and 550 for the parcel, in hundredths; 10 % inside. Half a cap was paid back already."""
        items = [Item(CAP, 165000, (15000, 15000))]
        self.order(1003, items, [Parcel(55000, tax=5000)], inside=True, country="JP", currency_code="JPY")
        self.refund(1003, {100300: 82500})

    def carts(self) -> None:
        """1009 is given up, 1010 will be an order."""
        for number in (1009, 1010):
            self.order(number, [Item(CAP, 1500, (0,))], [Parcel(500)], state="cart", payment_state="cart")

    def refund_with_shipping(self) -> None:
        """1001: a mug comes back and the shipping too, in one refund."""
        self.refund(1001, {100100: 2160}, 540)

    def promotions(self) -> None:
        """1004: a coupon takes 6.01 off the order, which Sylius lays on pieces; 1.00 off each cap; a free parcel."""
        items = [
            Item(MUG_RED, 2000, (0, 0), (240, 240), on_the_order=True),
            Item(MUG_BLUE, 1000, (0,), (121,), on_the_order=True),
            Item(CAP, 1500, (0, 0), (100, 100)),
        ]
        self.order(1004, items, [Parcel(500, off=500)], promotion_coupon_id=1)

    def discounts_of_an_extension(self) -> None:
        """1005: 3.00 off a line and 4.00 off the order, which stand there and on no piece; two parcels."""
        items = [Item(MUG_RED, 2000, (0, 0), off_line=300), Item(CAP, 1300, (0,))]
        self.order(1005, items, [Parcel(500), Parcel(300, off=100)], off=400)

    def cancelled_orders(self) -> None:
        """1006 is cancelled when it is paid, 1007 before."""
        self.order(1006, [Item(CAP, 1500, (0,))])
        self.order(1007, [Item(CAP, 1500, (0,))], payment_state="awaiting_payment")
        at = self._tick(days=1)
        self.book.update("sylius_order", 1006, state="cancelled", updated_at=at)
        self.book.update("sylius_order", 1007, state="cancelled", payment_state="cancelled", updated_at=at)

    def unpaid_order(self) -> None:
        """1008 waits for a bank transfer."""
        self.order(1008, [Item(CAP, 1500, (0,))], payment_state="awaiting_payment")

    def cart_is_completed(self) -> None:
        """1010: the shipping of the cart is worked out anew, it is completed and its money authorised; 1009 goes."""
        with self.book.transaction():
            at = self._tick()
            self.book.delete("sylius_adjustment", self._freights[1010])
            self._freights[1010] = self._adjust("shipping", 700, order_id=1010, shipment_id=10100)
            self.book.update("sylius_shipment", 10100, adjustments_total=700)
            self.book.update(
                "sylius_order",
                1010,
                number="000001010",
                state="new",
                payment_state="authorized",
                checkout_completed_at=at,
                adjustments_total=700,
                total=1500 + 700,
                updated_at=at,
            )
        with self.book.transaction():
            self.book.delete("sylius_adjustment", self._freights[1009])
            self.book.delete("sylius_shipment", 10090)
            self.book.delete("sylius_order_item_unit", 100900)
            self.book.delete("sylius_order_item", 10090)
            self.book.delete("sylius_order", 1009)

    def fully_refunded(self) -> None:
        """1011: all of it goes back; older releases of the plug-in say so in the order's own state."""
        self.order(1011, [Item(CAP, 1500, (0, 0))], [Parcel(500)])
        self.refund(1011, {101100: 1500, 101101: 1500}, 500, state="refunded")
        self.book.update("sylius_order", 1011, state="fully_refunded")

    def piece_refunded_in_parts(self) -> None:
        """1002: 10.00 of a mug, the rest of it three days later, which makes one mug."""
        self.refund(1002, {100200: 1000})
        self.refund(1002, {100200: 999})


def _worth(item: Item, inside: bool) -> int:
    """A line's total."""
    taxes = 0 if inside else sum(item.taxes)
    return item.price * len(item.taxes) + taxes - sum(item.off) - item.off_line


def _freight(parcel: Parcel, inside: bool) -> int:
    """A shipment's total."""
    return parcel.cost - parcel.off + (0 if inside else parcel.tax)
