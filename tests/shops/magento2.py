"""A Magento shop: orders of every kind, with what happens to them. The amounts that goldens rest on stand here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from shops.book import Book, Trade

START = datetime(2026, 3, 1, 9, 0)  # noqa: DTZ001 - Magento writes UTC without a zone


@dataclass(frozen=True)
class Item:
    """A row of an order: money of the whole row. A row below another one names it as `below`, by its place."""

    sku: str
    name: str
    quantity: str
    price: str = "0"
    row: str = "0"
    tax: str = "0"
    discount: str = "0"
    compensation: str = "0"
    kind: str = "simple"
    below: int | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Returned:
    """A row of a credit memo: which row of the order, how many, and its money; None where Magento leaves it null."""

    place: int
    quantity: str
    row: str | None = None
    tax: str | None = None
    discount: str | None = None


HOODIE = {
    "info_buyRequest": {"qty": 2, "super_attribute": {"93": "52"}},
    "attributes_info": [{"label": "Size", "value": "M"}, {"label": "Color", "value": 'Röd "deep"'}],
    "simple_sku": "HOODIE-M-RED",
}


def trade(book: Book) -> None:
    """Everything that ever happened in this shop."""
    shop = _Magento(book)
    shop.opening()
    shop.configurable()
    shop.guest_with_tax_in_the_price()
    shop.order_in_yen()
    shop.waiting_for_the_bank()
    book.opens()
    shop.discounts()
    shop.bundle()
    shop.gift_card()
    shop.cancelled_orders()
    shop.edited_order()
    shop.subscription()
    shop.by_weight()
    shop.on_hold()
    shop.fully_refunded()
    shop.bank_confirms()
    shop.credit_memos()
    shop.deleted_order()


class _Magento(Trade):
    def __init__(self, book: Book) -> None:
        super().__init__(book, START)

    def opening(self) -> None:
        """Regions are all that orders look up."""
        self.book.insert("directory_country_region", region_id=49, country_id="US", code="OR", default_name="Oregon")

    def order(
        self,
        number: int,
        items: Sequence[Item],
        *,
        shipping: str = "0",
        shipping_tax: str = "0",
        shipping_discount: str = "0",
        currency: str = "USD",
        rate: str = "1",
        country: str = "US",
        customer: int | None = 7,
        email: str = "ann@example.com",
        state: str = "processing",
        virtual: bool = False,
        **other: Any,
    ) -> int:
        """An order with addresses and rows. Its totals are their sums; its discount is negative, as Magento's are."""
        at = self._tick()
        top = [item for item in items if item.below is None]
        dynamic = {item.below for item in items if Decimal(item.row)} - {None}
        taxed = [item for place, item in enumerate(items) if place not in dynamic]
        tax = sum(Decimal(item.tax) for item in taxed) + Decimal(shipping_tax)
        discount = sum(Decimal(item.discount) for item in items) + Decimal(shipping_discount)
        compensation = sum(Decimal(item.compensation) for item in items)
        subtotal = sum(Decimal(item.row) for item in top)
        total = subtotal + Decimal(shipping) + tax + compensation - discount
        values = {
            "increment_id": f"{number:09}",
            "store_id": 1,
            "state": state,
            "status": {"new": "pending"}.get(state, state),
            "created_at": at,
            "updated_at": at,
            "customer_id": customer,
            "customer_is_guest": int(customer is None),
            "customer_email": email,
            "customer_firstname": "Ann",
            "customer_middlename": None,
            "customer_lastname": "Lee",
            "remote_ip": "10.0.0.1",
            "x_forwarded_for": None,
            "order_currency_code": currency,
            "base_currency_code": "USD",
            "base_to_order_rate": Decimal(rate),
            "coupon_code": None,
            "subtotal": subtotal,
            "discount_amount": -discount,
            "tax_amount": tax,
            "shipping_amount": Decimal(shipping),
            "shipping_tax_amount": Decimal(shipping_tax),
            "shipping_discount_amount": Decimal(shipping_discount),
            "discount_tax_compensation_amount": compensation,
            "shipping_discount_tax_compensation_amount": 0,
            "grand_total": total,
            "base_grand_total": (total / Decimal(rate)).quantize(Decimal("0.0001")),
            "total_paid": total if state in ("processing", "complete", "closed") else None,
            "total_refunded": None,
            "total_qty_ordered": sum(Decimal(item.quantity) for item in top),
            "billing_address_id": number * 10 + 1,
            "shipping_address_id": None if virtual else number * 10,
            "shipping_method": None if virtual else "flatrate_flatrate",
            "is_virtual": int(virtual),
        }
        with self.book.transaction():
            self.book.insert("sales_order", entity_id=number, **{**values, **other})
            for place, item in enumerate(items):
                self._item(number, place, item)
            for offset, kind in enumerate(("shipping", "billing")):
                if kind == "billing" or not virtual:
                    self._address(number * 10 + offset, number, kind, country, email)
        return number

    def _item(self, order: int, place: int, item: Item) -> None:
        self.book.insert(
            "sales_order_item",
            item_id=order * 10 + place,
            order_id=order,
            parent_item_id=None if item.below is None else order * 10 + item.below,
            created_at=self._now,
            updated_at=self._now,
            product_id=2000 + sum(map(ord, item.sku)) % 900,
            product_type=item.kind,
            product_options=json.dumps(item.options or {"info_buyRequest": {"qty": item.quantity}}),
            sku=item.sku,
            name=item.name,
            is_virtual=int(item.kind == "virtual"),
            qty_ordered=Decimal(item.quantity),
            qty_canceled=0,
            qty_invoiced=Decimal(item.quantity),
            qty_refunded=0,
            price=Decimal(item.price),
            original_price=Decimal(item.price),
            row_total=Decimal(item.row),
            tax_amount=Decimal(item.tax),
            discount_amount=Decimal(item.discount),
            discount_tax_compensation_amount=Decimal(item.compensation),
            amount_refunded=0,
        )

    def _address(self, number: int, order: int, kind: str, country: str, email: str) -> None:
        street, city, region, region_id, postcode, telephone = {
            "US": ("1 Main St\nApt 2\nc/o Kim", "Portland", "Oregon", 49, "97201", "503-555-0100"),
            "DE": ("Torstraße 5", "Berlin", "Berlin", None, "10119", ""),
            "JP": ("1-1 Chiyoda", "Tokyo", None, None, "100-0001", None),
        }[country]
        self.book.insert(
            "sales_order_address",
            entity_id=number,
            parent_id=order,
            address_type=kind,
            firstname="Ann",
            lastname="Lee",
            street=street,
            city=city,
            region=region,
            region_id=region_id,
            postcode=postcode,
            country_id=country,
            telephone=telephone,
            email=email,
        )

    def memo(
        self,
        order: int,
        rows: Sequence[Returned] = (),
        *,
        shipping: str = "0",
        shipping_tax: str = "0",
        plus: str = "0",
        minus: str = "0",
        state: int = 2,
        currency: str = "USD",
    ) -> int:
        """A credit memo; its total is the sum of its parts. `plus` and `minus` are what staff add or keep."""
        number, at = self._next(), self._tick(hours=26)
        goods = sum(Decimal(row.row or 0) + Decimal(row.tax or 0) - Decimal(row.discount or 0) for row in rows)
        total = goods + Decimal(shipping) + Decimal(shipping_tax) + Decimal(plus) - Decimal(minus)
        with self.book.transaction():
            self.book.insert(
                "sales_creditmemo",
                entity_id=number,
                order_id=order,
                increment_id=f"CM{number}",
                state=state,
                created_at=at,
                updated_at=at,
                order_currency_code=currency,
                subtotal=sum(Decimal(row.row or 0) for row in rows),
                discount_amount=-sum(Decimal(row.discount or 0) for row in rows),
                tax_amount=sum(Decimal(row.tax or 0) for row in rows) + Decimal(shipping_tax),
                shipping_amount=Decimal(shipping),
                shipping_tax_amount=Decimal(shipping_tax),
                adjustment=Decimal(plus) - Decimal(minus),
                adjustment_positive=Decimal(plus),
                adjustment_negative=Decimal(minus),
                grand_total=total,
            )
            for row in rows:
                self.book.insert(
                    "sales_creditmemo_item",
                    entity_id=self._next(),
                    parent_id=number,
                    order_item_id=order * 10 + row.place,
                    product_id=None,
                    sku=None,
                    name=None,
                    qty=Decimal(row.quantity),
                    price=None if row.row is None else Decimal(row.row) / Decimal(row.quantity),
                    row_total=_money(row.row),
                    tax_amount=_money(row.tax),
                    discount_amount=_money(row.discount),
                    discount_tax_compensation_amount=None,
                )
            self.book.update("sales_order", {"entity_id": order}, total_refunded=total, updated_at=at)
        return number

    def _change(self, order: int, **values: Any) -> None:
        self.book.update("sales_order", {"entity_id": order}, **values, updated_at=self._tick())

    def configurable(self) -> None:
        """1: two hoodies, money on the configurable's row and none on its simple's; 8.25 % tax on top."""
        items = [
            Item("HOODIE-M-RED", "Hoodie", "2", "40.00", "80.00", "6.60", kind="configurable", options=HOODIE),
            Item("HOODIE-M-RED", "Hoodie-M-Red", "2", below=0),
            Item("SOCK", "Socks", "3", "4.00", "12.00", "0.99"),
        ]
        self.order(1, items, shipping="10.00", shipping_tax="0.83", x_forwarded_for="203.0.113.5, 10.0.0.1")

    def guest_with_tax_in_the_price(self) -> None:
        """2: euros in a shop of dollars. 2 x 23.80 with 19 % inside, 10 % off that: 4.76 off, tax 6.84 and not 7.60."""
        items = [Item("LAMP", "Lampe", "2", "20.00", "40.00", "6.84", "4.76", "0.76")]
        self.order(
            2,
            items,
            shipping="5.00",
            shipping_tax="0.95",
            currency="EUR",
            rate="0.92",
            country="DE",
            customer=None,
            email="Guest@Example.de",
            coupon_code="ZEHN",
        )

    def order_in_yen(self) -> None:
        """3: yen, 10 % on top."""
        items = [Item("TEA", "Tea", "3", "1000", "3000", "300")]
        self.order(
            3, items, shipping="500", shipping_tax="50", currency="JPY", rate="150", country="JP", state="complete"
        )

    def waiting_for_the_bank(self) -> None:
        """11 and 18 are not paid yet."""
        for order, state in ((11, "pending_payment"), (18, "new")):
            self.order(order, [Item("SOCK", "Socks", "1", "4.00", "4.00")], state=state)

    def discounts(self) -> None:
        """4: a coupon of 10 % on two rows and on the shipping."""
        items = [
            Item("A", "Product A", "2", "30.00", "60.00", discount="6.00"),
            Item("B", "Product B", "1", "10.01", "10.01", discount="1.00"),
        ]
        self.order(4, items, shipping="8.00", shipping_discount="0.80", coupon_code="TEN")

    def bundle(self) -> None:
        """5: two sets of two cups and a plate; the price is on the set's row, tax and discount on the parts'."""
        items = [
            Item("SET-CUP-PLATE", "Tea set", "2", "17.50", "35.00", "3.15", kind="bundle"),
            Item("CUP", "Cup", "4", "5.00", "20.00", "1.80", "2.00", below=0),
            Item("PLATE", "Plate", "2", "7.50", "15.00", "1.35", "1.50", below=0),
        ]
        self.order(5, items, shipping="5.00", shipping_tax="0.50", coupon_code="TEN")

    def gift_card(self) -> None:
        """6: a gift card is bought: nothing to ship, no shipping address."""
        items = [Item("GIFT-50", "Gift card", "1", "50.00", "50.00", kind="virtual")]
        self.order(6, items, virtual=True, state="complete")

    def cancelled_orders(self) -> None:
        """7 is cancelled before it is paid, 8 after the payment was authorised."""
        items = [Item("SOCK", "Socks", "2", "4.00", "8.00")]
        self.order(7, items, state="new")
        self.order(8, items)
        for order in (7, 8):
            self._change(order, state="canceled", status="canceled")

    def edited_order(self) -> None:
        """9 is edited, which in Magento cancels it and places another one, 10."""
        self.order(9, [Item("SOCK", "Socks", "2", "4.00", "8.00")])
        items = [Item("SOCK", "Socks", "5", "4.00", "20.00")]
        edit = {"original_increment_id": "000000009", "relation_parent_id": "9", "edit_increment": 1}
        with self.book.transaction():
            self.order(10, items, increment_id="000000009-1", **edit)
            self._change(9, state="canceled", status="canceled", relation_child_id="10")

    def subscription(self) -> None:
        """12 starts a subscription, 13 renews it; an extension says so in what was put into the cart."""
        for order, stage in ((12, "first"), (13, "recurring")):
            options = {"info_buyRequest": {"qty": 1, "subscription": stage}}
            self.order(order, [Item("BEANS", "Coffee beans", "1", "12.00", "12.00", options=options)])

    def by_weight(self) -> None:
        """14: 1.25 kg of cheese."""
        self.order(14, [Item("CHEESE", "Cheese", "1.25", "16.00", "20.00")])

    def on_hold(self) -> None:
        """15 was paid and is put on hold."""
        order = self.order(15, [Item("SOCK", "Socks", "1", "4.00", "4.00")])
        self._change(order, state="holded", status="holded")

    def fully_refunded(self) -> None:
        """16: everything goes back."""
        order = self.order(16, [Item("SOCK", "Socks", "2", "4.00", "8.00")], shipping="3.00")
        self.memo(order, [Returned(0, "2", "8.00", "0", "0")], shipping="3.00")
        self._change(order, state="closed", status="closed")

    def bank_confirms(self) -> None:
        """11 is paid, its only row raised to two pieces by an extension that edits in place; 18 goes on waiting."""
        with self.book.transaction():
            self.book.update("sales_order_item", {"item_id": 110}, qty_ordered=2, row_total=8, updated_at=self._tick())
            self._change(
                11, state="processing", status="processing", subtotal=8, grand_total=8, total_paid=8, base_grand_total=8
            )

    def credit_memos(self) -> None:
        """Refunds of every kind."""
        # 1: one hoodie of two, then the shipping alone.
        self.memo(1, [Returned(0, "1", "40.00", "3.30", "0"), Returned(1, "1")])
        self.memo(1, shipping="10.00", shipping_tax="0.83")
        # 5: one set of two, 2.33 kept as a fee: its money stands on the parts' rows.
        rows = [Returned(0, "1"), Returned(1, "2", "10.00", "0.90", "1.00"), Returned(2, "1", "7.50", "0.68", "0.75")]
        self.memo(5, rows, minus="2.33")
        # 4: one A, and 5.00 of goodwill.
        self.memo(4, [Returned(0, "1", "30.00", "0", "3.00")], plus="5.00")
        # 3: one packet of tea of 1100, 100 kept.
        self.memo(3, [Returned(0, "1", "1000", "100", "0")], minus="100", currency="JPY")
        # 2: a memo that is cancelled.
        self.memo(2, [Returned(0, "1", "20.00", "3.42", "2.38")], state=3, currency="EUR")

    def deleted_order(self) -> None:
        """17 is taken out of the database by hand."""
        order = self.order(17, [Item("SOCK", "Socks", "1", "4.00", "4.00")])
        with self.book.transaction():
            self.book.delete("sales_order_item", {"item_id": order * 10})
            self.book.delete("sales_order_address", {"parent_id": order})
            self.book.delete("sales_order", {"entity_id": order})


def _money(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
