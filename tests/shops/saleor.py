"""A Saleor shop: orders of every kind, with what happens to them. The amounts that goldens rest on stand here."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from shops.book import Book, Trade

START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Item:
    """A line as ordered: totals of the whole line; `was` is its gross before any discount, where it had one."""

    sku: str | None
    name: str
    quantity: int
    net: str
    gross: str
    variant: str = ""
    was: str | None = None
    code: str | None = None
    variant_id: int | None = None
    gift_card: bool = False


MUG = ("MUG-BLUE", "Mug")
PEN = ("PEN-01", "Pen")


def trade(book: Book) -> None:
    """Everything that ever happened in this shop."""
    shop = _Saleor(book)
    shop.opening()
    shop.plain_order()
    shop.guest_with_tax_in_the_price()
    shop.order_in_yen()
    shop.refund_beyond_its_lines()
    shop.drafts()
    book.opens()
    shop.partial_refund()
    shop.discounts()
    shop.gift_cards()
    shop.cancelled_orders()
    shop.edited_order()
    shop.subscription()
    shop.old_payments()
    shop.variant_goes()
    shop.money_sent_back_without_a_grant()
    shop.replacement()
    shop.fully_refunded()
    shop.orders_go()
    shop.unpaid_order()
    shop.later_refunds()
    shop.customer_changes()


class _Saleor(Trade):
    def __init__(self, book: Book) -> None:
        super().__init__(book, START)

    def _uuid(self, kind: int, number: int) -> str:
        return f"5a1e0000-000{kind}-4000-8000-{number:012}"

    def opening(self) -> None:
        """Customers, addresses and a catalogue."""
        for number, first, last in ((1, "Ann", "Lee"), (2, "Bob", "Kärcher"), (3, "Mia", "")):
            self.book.insert(
                "account_user",
                id=number,
                uuid=self._uuid(9, number),
                email=f"{first.lower()}@example.com",
                first_name=first,
                last_name=last,
                is_active=True,
                date_joined=START,
            )
        for number, name in ((1, "Mug"), (2, "Pen"), (3, "Lamp")):
            self.book.insert("product_product", id=number, name=name, slug=name.lower())
        for number, product, sku in ((11, 1, "MUG-BLUE"), (12, 1, "MUG-RED"), (21, 2, "PEN-01"), (31, 3, None)):
            self.book.insert("product_productvariant", id=number, product_id=product, sku=sku, name=sku or "")

    def address(self, country: str = "US", **other: str) -> int:
        """A new address; Saleor copies one for each order."""
        number = self._next()
        at = {
            "US": ("1 Main St", "Apt 2", "Portland", "97201", "OR"),
            "DE": ("Torstraße 5", "", "Berlin", "10119", ""),
            "JP": ("1-1 Chiyoda", "", "Tokyo", "100-0001", "東京都"),
            "GB": ("10 High St", "", "Leeds", "LS1 4AP", ""),
        }[country]
        values = {
            "first_name": "Ann",
            "last_name": "Lee",
            "company_name": "",
            "street_address_1": at[0],
            "street_address_2": at[1],
            "city": at[2],
            "city_area": "",
            "postal_code": at[3],
            "country": country,
            "country_area": at[4],
            "phone": "+15035550100",
        }
        self.book.insert("account_address", id=number, **{**values, **other})
        return number

    def order(
        self,
        number: int,
        items: Sequence[Item],
        *,
        currency: str = "USD",
        shipping: tuple[str, str] = ("0", "0"),
        user: int | None = 1,
        email: str | None = None,
        status: str = "unfulfilled",
        charge: str = "full",
        address: int | None = None,
        gift: str = "0",
        gift_net: str = "0",
        **other: Any,
    ) -> str:
        """An order with its lines. Its totals are their sums; what a gift card paid is taken off, as Saleor does."""
        at, key = self._tick(), self._uuid(0, number)
        net = sum(Decimal(item.net) for item in items)
        gross = sum(Decimal(item.gross) for item in items)
        was = sum(Decimal(item.was or item.gross) for item in items)
        ship_net, ship_gross = map(Decimal, shipping)
        total = gross + ship_gross - Decimal(gift)
        values = {
            "number": number,
            "created_at": at,
            "updated_at": at,
            "status": status,
            "authorize_status": "full" if charge == "full" else "none",
            "charge_status": charge,
            "origin": "checkout",
            "user_id": user,
            "user_email": email
            if email is not None
            else {1: "ann@example.com", 2: "bob@example.com"}.get(user or 0, ""),
            "billing_address_id": address,
            "shipping_address_id": address,
            "channel_id": 1,
            "currency": currency,
            "shipping_method_name": "Parcel",
            "shipping_price_net_amount": ship_net,
            "shipping_price_gross_amount": ship_gross,
            "total_net_amount": net + ship_net - Decimal(gift_net),
            "total_gross_amount": total,
            "undiscounted_total_net_amount": was + ship_net,
            "undiscounted_total_gross_amount": was + ship_gross,
            "subtotal_net_amount": net,
            "subtotal_gross_amount": gross,
            "total_charged_amount": total if charge == "full" else Decimal(0),
            "total_authorized_amount": Decimal(0),
            "voucher_code": None,
            "display_gross_prices": True,
            "customer_note": "",
            "metadata": "{}",
        }
        with self.book.transaction():
            self.book.insert("order_order", id=key, **{**values, **other})
            for index, item in enumerate(items):
                self.line(number, index, item, currency)
        return key

    def line(self, order: int, index: int, item: Item, currency: str) -> str:
        """A line of an order."""
        key = self._uuid(1, order * 10 + index)
        net, gross, was = Decimal(item.net), Decimal(item.gross), Decimal(item.was or item.gross)
        self.book.insert(
            "order_orderline",
            id=key,
            created_at=self._now + timedelta(milliseconds=index),
            order_id=self._uuid(0, order),
            variant_id=item.variant_id,
            product_name=item.name,
            variant_name=item.variant,
            product_sku=item.sku,
            product_variant_id=_global_id("ProductVariant", item.variant_id or 700 + index),
            quantity=item.quantity,
            quantity_fulfilled=0,
            is_gift=False,
            is_gift_card=item.gift_card,
            currency=currency,
            unit_price_net_amount=(net / item.quantity).quantize(Decimal("0.001")),
            unit_price_gross_amount=(gross / item.quantity).quantize(Decimal("0.001")),
            total_price_net_amount=net,
            total_price_gross_amount=gross,
            undiscounted_unit_price_gross_amount=(was / item.quantity).quantize(Decimal("0.001")),
            undiscounted_total_price_gross_amount=was,
            unit_discount_amount=((was - gross) / item.quantity).quantize(Decimal("0.001")),
            tax_rate=Decimal("0.1"),
            voucher_code=item.code,
        )
        return key

    def paid(self, order: str, amount: str, currency: str = "USD") -> int:
        """A payment by the transactions API."""
        number, at = self._next(), self._tick(seconds=20)
        self.book.insert(
            "payment_transactionitem",
            id=number,
            token=self._uuid(5, number),
            order_id=order,
            created_at=at,
            modified_at=at,
            currency=currency,
            psp_reference=f"ch-{number}",
            charged_value=Decimal(amount),
            authorized_value=Decimal(0),
            refunded_value=Decimal(0),
            refund_pending_value=Decimal(0),
            canceled_value=Decimal(0),
        )
        self.event(number, "charge_success", amount, currency)
        return number

    def event(self, payment: int, kind: str, amount: str, currency: str = "USD", **other: Any) -> None:
        """What the payment provider reported."""
        number = self._next()
        values = {"psp_reference": f"ev-{number}", "include_in_calculations": True, "related_granted_refund_id": None}
        self.book.insert(
            "payment_transactionevent",
            id=number,
            transaction_id=payment,
            created_at=self._tick(seconds=30),
            type=kind,
            amount_value=Decimal(amount),
            currency=currency,
            **{**values, **other},
        )

    def grant(
        self,
        order: int,
        amount: str,
        lines: Sequence[tuple[int, int]] = (),
        *,
        currency: str = "USD",
        shipping: bool = False,
        status: str = "pending",
        payment: int | None = None,
    ) -> int:
        """A granted refund: an amount that staff typed, with lines (index, quantity) or without."""
        number, at = self._next(), self._tick(hours=20)
        with self.book.transaction():
            self.book.insert(
                "order_ordergrantedrefund",
                id=number,
                order_id=self._uuid(0, order),
                created_at=at,
                updated_at=at,
                amount_value=Decimal(amount),
                currency=currency,
                shipping_costs_included=shipping,
                status=status,
                reason="",
                transaction_item_id=payment,
            )
            for index, quantity in lines:
                self.book.insert(
                    "order_ordergrantedrefundline",
                    id=self._next(),
                    granted_refund_id=number,
                    order_line_id=self._uuid(1, order * 10 + index),
                    quantity=quantity,
                    reason=None,
                )
        return number

    def succeeds(self, grant: int, payment: int, amount: str, currency: str = "USD") -> None:
        """The provider has sent a granted refund's money."""
        self.event(payment, "refund_request", amount, currency, related_granted_refund_id=grant)
        with self.book.transaction():
            self.event(payment, "refund_success", amount, currency, related_granted_refund_id=grant)
            later = self._now + timedelta(seconds=5)
            self.book.update("order_ordergrantedrefund", grant, status="success", updated_at=later)
            self.book.update("payment_transactionitem", payment, refunded_value=Decimal(amount), modified_at=self._now)

    def plain_order(self) -> None:
        """1001, before the connector: prices without tax, 8 % on top, a voucher's empty code."""
        items = [
            Item(*MUG, 2, "20.00", "21.60", "Blue", variant_id=11),
            Item(*PEN, 1, "5.00", "5.40", variant_id=21),
        ]
        order = self.order(1001, items, shipping=("6.00", "6.48"), address=self.address(), voucher_code="")
        self.pay1001 = self.paid(order, "33.48")

    def guest_with_tax_in_the_price(self) -> None:
        """1002: 3 x 9.99 with 19 % inside; the address lacks everything that it may lack."""
        items = [Item("LAMP-W", "Lamp", 3, "25.18", "29.97", "White")]
        address = self.address("DE", first_name="", last_name="", phone="")
        order = self.order(
            1002,
            items,
            currency="EUR",
            shipping=("4.12", "4.90"),
            user=None,
            email="Guest+shop@gmail.com",
            address=address,
        )
        payment = self.paid(order, "34.87", "EUR")
        self.succeeds(self.grant(1002, "4.90", shipping=True, currency="EUR", payment=payment), payment, "4.90", "EUR")

    def order_in_yen(self) -> None:
        """1003: a currency without a minor unit, 10 % inside."""
        items = [
            Item("TEA-1", "Tea", 3, "3000", "3300", variant_id=None),
            Item("CUP-1", "Cup", 1, "2000", "2200", variant_id=None),
        ]
        order = self.order(
            1003, items, currency="JPY", shipping=("500", "550"), user=2, address=self.address("JP", phone="")
        )
        payment = self.paid(order, "6050", "JPY")
        self.succeeds(self.grant(1003, "1001", currency="JPY", payment=payment), payment, "1001", "JPY")

    def refund_beyond_its_lines(self) -> None:
        """1007: 70.00 goes back for lines worth 80.00 and the shipping of 10.00; more follows in later_refunds."""
        items = [
            Item("A", "Product A", 2, "36.36", "40.00"),
            Item("B", "Product B", 1, "54.55", "60.00"),
        ]
        order = self.order(1007, items, shipping=("9.09", "10.00"), address=self.address())
        self.pay1007 = self.paid(order, "110.00")
        grant = self.grant(1007, "70.00", [(0, 1), (1, 1)], shipping=True, payment=self.pay1007)
        self.succeeds(grant, self.pay1007, "70.00")

    def drafts(self) -> None:
        """1010 stays a draft; 1011 is not confirmed yet."""
        self.order(1010, [Item(*MUG, 1, "10.00", "10.80")], status="draft", charge="none", origin="draft")
        items = [
            Item(*MUG, 1, "10.00", "10.80", "Blue", variant_id=11),
            Item("MUG-RED", "Mug", 1, "10.00", "10.80", "Red", variant_id=12),
        ]
        self.order(1011, items, status="unconfirmed", charge="none", user=3, email="", address=self.address())

    def partial_refund(self) -> None:
        """1001: is shipped; one of two mugs comes back."""
        self.fulfilment(1001, "fulfilled", [(0, 2), (1, 1)])
        grant = self.grant(1001, "10.80", [(0, 1)], payment=self.pay1001)
        self.book.update("order_order", self._uuid(0, 1001), status="fulfilled", updated_at=self._tick())
        self.succeeds(grant, self.pay1001, "10.80")

    def discounts(self) -> None:
        """1004: 10 % off one line by a voucher of its own, then 10.00 off the order, which Saleor lays on the lines."""
        items = [
            Item("COAT", "Coat", 2, "81.00", "81.00", "M", was="100.00", code="LINE10"),
            Item("SOCK", "Socks", 1, "9.00", "9.00", was="10.00"),
        ]
        address = self.address()
        with self.book.transaction():
            order = self.order(1004, items, shipping=("5.00", "5.00"), voucher_code="WELCOME", address=address)
            self._discount(order, "10.00", "WELCOME")
            self._line_discount(self._uuid(1, 10040), "10.00", "LINE10")
            self.paid(order, "95.00")

    def _discount(self, order: str, amount: str, code: str | None) -> None:
        self.book.insert(
            "discount_orderdiscount",
            id=self._uuid(6, self._next()),
            order_id=order,
            created_at=self._now,
            type="voucher",
            value_type="fixed",
            value=Decimal(amount),
            amount_value=Decimal(amount),
            currency="USD",
            name=None,
            voucher_code=code,
        )

    def _line_discount(self, line: str, amount: str, code: str | None) -> None:
        self.book.insert(
            "discount_orderlinediscount",
            id=self._uuid(7, self._next()),
            line_id=line,
            created_at=self._now,
            type="voucher",
            value_type="percentage",
            value=Decimal(10),
            amount_value=Decimal(amount),
            currency="USD",
            name="",
            voucher_code=code,
        )

    def gift_cards(self) -> None:
        """1005 is paid in part with a gift card, which Saleor takes off its total; 1006 buys one."""
        items = [Item("TOTE", "Tote bag", 1, "50.00", "60.00")]
        with self.book.transaction():
            order = self.order(
                1005, items, currency="GBP", gift="25.00", gift_net="20.83", user=2, address=self.address("GB")
            )
            self.book.insert(
                "giftcard_giftcardevent",
                id=self._next(),
                date=self._now,
                type="used_in_order",
                parameters=json.dumps(
                    {"balance": {"currency": "GBP", "current_balance": "5.00", "old_current_balance": "30.00"}}
                ),
                gift_card_id=1,
                order_id=order,
            )
            self.paid(order, "35.00", "GBP")
        items = [Item(None, "Gift card", 1, "50.00", "50.00", gift_card=True, variant_id=31)]
        self.paid(self.order(1006, items, status="fulfilled"), "50.00")

    def cancelled_orders(self) -> None:
        """1008 is cancelled before it is paid, 1009 after, its money sent back."""
        items = [Item(*PEN, 4, "20.00", "21.60", variant_id=21)]
        unpaid = self.order(1008, items, charge="none", address=self.address())
        paid = self.order(1009, items, address=self.address())
        payment = self.paid(paid, "21.60")
        self.book.update("order_order", unpaid, status="canceled", updated_at=self._tick())
        with self.book.transaction():
            self.book.update(
                "order_order",
                paid,
                status="canceled",
                charge_status="none",
                total_charged_amount=0,
                updated_at=self._tick(),
            )
            self.event(payment, "refund_success", "21.60")
            self.book.update("payment_transactionitem", payment, charged_value=0, refunded_value=Decimal("21.60"))

    def edited_order(self) -> None:
        """1011 before it is confirmed: more of one line, another goes, a new one comes."""
        order = self._uuid(0, 1011)
        with self.book.transaction():
            self.book.update(
                "order_orderline",
                self._uuid(1, 10110),
                quantity=3,
                total_price_net_amount=Decimal("30.00"),
                total_price_gross_amount=Decimal("32.40"),
            )
            self.book.delete("order_orderline", self._uuid(1, 10111))
            self._tick()
            self.line(1011, 2, Item(*PEN, 2, "10.00", "10.80", variant_id=21), "USD")
            self._totals(order, "40.00", "43.20")
        with self.book.transaction():
            at = self._tick()
            self.book.update("order_order", order, status="unfulfilled", charge_status="full", updated_at=at)
            self.paid(order, "43.20")

    def _totals(self, order: str, net: str, gross: str) -> None:
        self.book.update(
            "order_order",
            order,
            subtotal_net_amount=Decimal(net),
            subtotal_gross_amount=Decimal(gross),
            total_net_amount=Decimal(net),
            total_gross_amount=Decimal(gross),
            undiscounted_total_net_amount=Decimal(net),
            undiscounted_total_gross_amount=Decimal(gross),
            total_charged_amount=Decimal(gross),
            updated_at=self._tick(),
        )

    def subscription(self) -> None:
        """1012 starts a subscription, 1013 renews it: an app says so in the metadata."""
        items = [Item("BEANS", "Coffee beans", 1, "12.00", "12.00")]
        for number, stage in ((1012, "first"), (1013, "recurring")):
            metadata = json.dumps({"subscription_stage": stage, "subscription_id": "S-9"})
            self.paid(self.order(number, items, metadata=metadata, address=self.address()), "12.00")

    def old_payments(self) -> None:
        """1014: paid and refunded by the old payments API: a vase, the bowl and the shipping, then 2.00 of goodwill."""
        items = [
            Item("VASE", "Vase", 2, "30.00", "30.00"),
            Item("BOWL", "Bowl", 1, "21.00", "21.00"),
        ]
        order = self.order(1014, items, shipping=("4.00", "4.00"), address=self.address())
        number = self._next()
        self.book.insert(
            "payment_payment",
            id=number,
            order_id=order,
            gateway="dummy",
            is_active=True,
            created_at=self._now,
            modified_at=self._now,
            charge_status="fully-charged",
            total=Decimal("55.00"),
            captured_amount=Decimal("55.00"),
            currency="USD",
            billing_email="ann@example.com",
            customer_ip_address="203.0.113.9",
        )
        self._tick(hours=30)
        with self.book.transaction():
            self.fulfilment(1014, "refunded", [(0, 1), (1, 1)], refund="40.00", shipping="4.00")
            self.book.update("payment_payment", number, charge_status="partially-refunded", captured_amount=15)
        self._tick(hours=1)
        with self.book.transaction():
            self.fulfilment(1014, "refunded", [], refund="2.00")
            self.book.update("payment_payment", number, captured_amount=13)

    def fulfilment(
        self,
        order: int,
        status: str,
        lines: Sequence[tuple[int, int]],
        *,
        refund: str | None = None,
        shipping: str | None = None,
    ) -> None:
        """A parcel, or what the old payments API made of a refund, with lines (index, quantity)."""
        number = self._next()
        with self.book.transaction():
            self.book.insert(
                "order_fulfillment",
                id=number,
                order_id=self._uuid(0, order),
                fulfillment_order=1,
                created_at=self._now,
                status=status,
                tracking_number="",
                shipping_refund_amount=None if shipping is None else Decimal(shipping),
                total_refund_amount=None if refund is None else Decimal(refund),
            )
            for index, quantity in lines:
                self.book.insert(
                    "order_fulfillmentline",
                    id=self._next(),
                    fulfillment_id=number,
                    order_line_id=self._uuid(1, order * 10 + index),
                    quantity=quantity,
                )

    def variant_goes(self) -> None:
        """1015: a variant without a SKU is deleted after it was sold; the line keeps its global id alone."""
        items = [Item(None, "Lamp", 1, "40.00", "40.00", "Brass", variant_id=31)]
        self.paid(self.order(1015, items, address=self.address()), "40.00")
        self.book.delete("product_productvariant", 31)

    def money_sent_back_without_a_grant(self) -> None:
        """1016: staff refund twice at the provider, by no granted refund; one of them is reversed."""
        items = [
            Item("RUG", "Rug", 1, "75.00", "75.00"),
            Item("MAT", "Mat", 1, "25.00", "25.00"),
        ]
        order = self.order(1016, items, address=self.address())
        payment = self.paid(order, "100.00")
        self._tick(days=1)
        self.event(payment, "refund_success", "10.01", psp_reference="re-1")
        self.event(payment, "refund_request", "10.01", psp_reference="re-1", include_in_calculations=False)
        self.event(payment, "refund_success", "30.00", psp_reference="re-2")
        self.event(payment, "refund_reverse", "30.00", psp_reference="re-2")

    def replacement(self) -> None:
        """1017 replaces a part of 1007 for a small price."""
        items = [Item("B", "Product B", 1, "3.00", "3.30")]
        other = {"origin": "reissue", "original_id": self._uuid(0, 1007)}
        self.paid(self.order(1017, items, address=self.address(), **other), "3.30")

    def fully_refunded(self) -> None:
        """1021: all of it is sent back, whereupon Saleor calls it uncharged."""
        items = [Item(*PEN, 2, "10.00", "10.80", variant_id=21)]
        order = self.order(1021, items, address=self.address())
        payment = self.paid(order, "10.80")
        self._tick(days=1)
        with self.book.transaction():
            self.event(payment, "refund_success", "10.80")
            self.book.update("payment_transactionitem", payment, charged_value=0, refunded_value=Decimal("10.80"))
            self.book.update(
                "order_order",
                order,
                charge_status="none",
                authorize_status="none",
                total_charged_amount=0,
                status="returned",
            )

    def orders_go(self) -> None:
        """1018 expires unpaid and is deleted; 1019 was paid and is deleted by hand."""
        items = [Item(*MUG, 1, "10.00", "10.80", variant_id=11)]
        expired = self.order(1018, items, status="unconfirmed", charge="none")
        gone = self.order(1019, items)
        self.book.update("order_order", expired, status="expired", expired_at=self._tick(), updated_at=self._now)
        for number, order in ((1018, expired), (1019, gone)):
            with self.book.transaction():
                self.book.delete("order_orderline", self._uuid(1, number * 10))
                self.book.delete("order_order", order)

    def unpaid_order(self) -> None:
        """1020 waits for its money, 1022 for its confirmation."""
        items = [Item(*MUG, 1, "10.00", "10.80", variant_id=11)]
        self.order(1020, items, charge="none", address=self.address())
        self.paid(self.order(1022, items, status="unconfirmed", address=self.address()), "10.80")

    def later_refunds(self) -> None:
        """1007 again: goodwill without lines, one that fails, one that is on its way."""
        goodwill = self.grant(1007, "5.55", payment=self.pay1007)
        self.succeeds(goodwill, self.pay1007, "5.55")
        failed = self.grant(1007, "34.45", [(0, 1)], payment=self.pay1007)
        self.book.update("order_ordergrantedrefund", failed, status="failure", updated_at=self._tick())
        self.grant(1007, "34.45", [(0, 1)], payment=self.pay1007)

    def customer_changes(self) -> None:
        """A customer without a last name gets an address of mail of her own, which her order shows."""
        self.book.update("account_user", 3, email="mia@new.example.com")


def _global_id(kind: str, number: int) -> str:
    return base64.b64encode(f"{kind}:{number}".encode()).decode()
