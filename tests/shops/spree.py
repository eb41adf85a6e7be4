"""A Spree shop: orders of every kind, with what happens to them. The amounts that goldens rest on stand here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from shops.book import Book, Trade

START = datetime(2026, 3, 1, 9, 0)  # noqa: DTZ001 - Rails writes UTC without a zone
ORDER, LINE, SHIPMENT = "Spree::Order", "Spree::LineItem", "Spree::Shipment"
PROMOTION, TAX = "Spree::PromotionAction", "Spree::TaxRate"
SHIRT_M, SHIRT_L, CAP, MUG, BOOK_ = 101, 102, 103, 104, 105


@dataclass(frozen=True)
class Item:
    """A line: its price a piece, then promotions (at most 0), tax inside, tax on top, each of the whole line."""

    variant: int
    quantity: int
    price: str
    promo: str = "0"
    included: str = "0"
    additional: str = "0"


@dataclass(frozen=True)
class Parcel:
    """A shipment: its cost, then promotions, tax inside and tax on top."""

    cost: str
    promo: str = "0"
    included: str = "0"
    additional: str = "0"


def trade(book: Book) -> None:
    """Everything that ever happened in this shop."""
    shop = _Spree(book)
    shop.opening()
    shop.plain_order()
    shop.guest_with_tax_in_the_price()
    shop.order_in_yen()
    shop.carts()
    book.opens()
    shop.promotions()
    shop.gift_card()
    shop.returned_goods()
    shop.money_back_without_goods()
    shop.cancelled_orders()
    shop.subscription()
    shop.edited_order()
    shop.order_with_a_fee()
    shop.exchange()
    shop.two_parcels_and_store_credit()
    shop.unpaid_order()
    shop.fully_refunded()
    shop.deleted_order()
    shop.second_return()
    shop.catalogue_changes()


class _Spree(Trade):
    def __init__(self, book: Book) -> None:
        super().__init__(book, START, first_id=5000, microseconds=120_000)

    def add(self, table: str, key: int | None = None, /, **values: Any) -> int:
        """A row with Rails' two timestamps."""
        key = key or self._next()
        self.book.insert(table, id=key, **values, created_at=self._now, updated_at=self._now)
        return key

    def opening(self) -> None:
        """Countries, a catalogue with options, promotions, tags, one customer."""
        put = self.book.insert
        for number, iso, iso3, name in (
            (1, "US", "USA", "United States"),
            (2, "DE", "DEU", "Germany"),
            (3, "JP", "JPN", "Japan"),
        ):
            put("spree_countries", id=number, iso=iso, iso3=iso3, iso_name=name.upper(), name=name)
        put("spree_states", id=1, name="New York", abbr="NY", country_id=1)
        for number, name, position in ((1, "size", 2), (2, "color", 1)):
            put("spree_option_types", id=number, name=name, presentation=name.title(), position=position)
        for number, kind, name in ((1, 1, "M"), (2, 1, "L"), (3, 2, "Red")):
            put(
                "spree_option_values",
                id=number,
                option_type_id=kind,
                name=name.lower(),
                presentation=name,
                position=number,
            )
        for number, name in ((1, "Shirt"), (2, "Cap"), (3, "Mug"), (4, "Book")):
            self.add("spree_products", number, name=name, slug=name.lower())
        skus = ((SHIRT_M, 1, "SHIRT-M"), (SHIRT_L, 1, "SHIRT-L"), (CAP, 2, "CAP"), (MUG, 3, "MUG"), (BOOK_, 4, ""))
        for number, product, sku in skus:
            self.add("spree_variants", number, product_id=product, sku=sku, is_master=number >= CAP, position=1)
        for number, variant, value in ((1, SHIRT_M, 1), (2, SHIRT_M, 3), (3, SHIRT_L, 2), (4, SHIRT_L, 3)):
            put("spree_option_value_variants", id=number, variant_id=variant, option_value_id=value)
        self.add("spree_promotions", 1, name="Spring", code="SPRING", multi_codes=False)
        self.add("spree_promotions", 2, name="Friends", code=None, multi_codes=True)
        for number, code in ((1, "FRIEND-1"), (2, "FRIEND-2")):
            put("spree_coupon_codes", id=number, code=code, promotion_id=2, order_id=None, state=0)
        for number, name in enumerate(("vip", "Subscription First Order", "Subscription Recurring", "sale"), 1):
            put("spree_tags", id=number, name=name)
        self.add("spree_users", 7, email="ann@example.com", first_name="Ann", last_name="Lee", phone="2125551234")

    def address(self, country: int = 1, **other: Any) -> int:
        """A new address."""
        values: dict[str, Any] = {
            1: {"address1": "1 Main St", "address2": "Apt 2", "city": "New York", "zipcode": "10001", "state_id": 1},
            2: {
                "address1": "Torstraße 5",
                "address2": "",
                "city": "Berlin",
                "zipcode": "10119",
                "state_name": "Berlin",
            },
            3: {"address1": "1-1 Chiyoda", "address2": None, "city": "Tokyo", "zipcode": "100-0001", "state_name": ""},
        }[country]
        people = {"firstname": "Ann", "lastname": "Lee", "phone": "212-555-1234"}
        return self.add("spree_addresses", **{**people, **values, "country_id": country, **other})

    def order(
        self,
        number: int,
        items: Sequence[Item],
        parcels: Sequence[Parcel] = (),
        *,
        promo: str = "0",
        fee: str = "0",
        currency: str = "USD",
        user: int | None = 7,
        email: str = "ann@example.com",
        complete: bool = True,
        address: int | None = None,
        **other: Any,
    ) -> int:
        """An order, its lines, shipments, units and adjustments. Its totals are their sums, as Spree's updater has it.

        `promo` is a promotion on the order as a whole, `fee` a manual adjustment.
        """
        at = self._tick()
        address = address or self.address()
        totals = _totals(items, parcels, promo, fee)
        values = {
            "number": f"R{number}",
            "state": "complete" if complete else "cart",
            "completed_at": at if complete else None,
            "user_id": user,
            "email": email,
            "currency": currency,
            "channel": "spree",
            "bill_address_id": address,
            "ship_address_id": address,
            "last_ip_address": "198.51.100.7",
            "payment_total": 0,
            "payment_state": "balance_due",
            "shipment_state": "pending",
            "gift_card_id": None,
        }
        with self.book.transaction():
            self.add("spree_orders", number, **{**values, **totals, **other})
            for index, parcel in enumerate(parcels):
                self._parcel(number, index, parcel)
            for index, item in enumerate(items):
                self.line(number, index, item, currency)
            if Decimal(promo):
                self._adjust(number, ORDER, number, PROMOTION, promo, "Promotion (Friends)")
            if Decimal(fee):
                self._adjust(number, ORDER, number, None, fee, "Gift wrap")
        return number

    def line(self, order: int, index: int, item: Item, currency: str) -> int:
        """A line of an order with its adjustments and its unit of inventory. Its id: order, then index."""
        number = order * 10 + index
        worth = item.quantity * Decimal(item.price) + Decimal(item.promo)
        self.add(
            "spree_line_items",
            number,
            order_id=order,
            variant_id=item.variant,
            quantity=item.quantity,
            price=Decimal(item.price),
            currency=currency,
            adjustment_total=Decimal(item.promo) + Decimal(item.additional),
            promo_total=Decimal(item.promo),
            included_tax_total=Decimal(item.included),
            additional_tax_total=Decimal(item.additional),
            pre_tax_amount=worth - Decimal(item.included),
        )
        self._adjustments(order, LINE, number, item.promo, item.included, item.additional)
        self.add(
            "spree_inventory_units",
            number,
            order_id=order,
            line_item_id=number,
            variant_id=item.variant,
            shipment_id=order * 10,
            quantity=item.quantity,
            state="on_hand",
        )
        return number

    def _parcel(self, order: int, index: int, parcel: Parcel) -> None:
        number = order * 10 + index
        self.add(
            "spree_shipments",
            number,
            order_id=order,
            number=f"H{number}",
            state="pending",
            cost=Decimal(parcel.cost),
            adjustment_total=Decimal(parcel.promo) + Decimal(parcel.additional),
            promo_total=Decimal(parcel.promo),
            included_tax_total=Decimal(parcel.included),
            additional_tax_total=Decimal(parcel.additional),
            pre_tax_amount=Decimal(parcel.cost) + Decimal(parcel.promo) - Decimal(parcel.included),
        )
        self._adjustments(order, SHIPMENT, number, parcel.promo, parcel.included, parcel.additional)

    def _adjustments(self, order: int, kind: str, number: int, promo: str, included: str, additional: str) -> None:
        if Decimal(promo):
            self._adjust(order, kind, number, PROMOTION, promo, "Promotion (Spring)")
        if Decimal(included):
            self._adjust(order, kind, number, TAX, included, "VAT", included=True)
        if Decimal(additional):
            self._adjust(order, kind, number, TAX, additional, "Sales tax")

    def _adjust(
        self, order: int, kind: str, number: int, source: str | None, amount: str, label: str, **other: bool
    ) -> None:
        self.add(
            "spree_adjustments",
            order_id=order,
            adjustable_type=kind,
            adjustable_id=number,
            source_type=source,
            source_id=None if source is None else 1,
            amount=Decimal(amount),
            label=label,
            **{"eligible": True, "included": False, **other},
        )

    def pay(self, order: int, amount: str, state: str = "completed", source: str = "Spree::CreditCard") -> int:
        """A payment; a completed one settles the order."""
        self._tick(seconds=15)
        with self.book.transaction():
            number = self.add(
                "spree_payments",
                order_id=order,
                number=f"P{order}",
                amount=Decimal(amount),
                state=state,
                source_type=source,
                source_id=1,
            )
            if state == "completed":
                self._change(order, payment_total=Decimal(amount), payment_state="paid", shipment_state="ready")
        return number

    def _change(self, order: int, **values: Any) -> None:
        self.book.update("spree_orders", order, **values, updated_at=self._now)

    def refund(self, payment: int, amount: str, reimbursement: int | None = None) -> None:
        """Money goes back the way it came."""
        self.add(
            "spree_refunds",
            payment_id=payment,
            amount=Decimal(amount),
            transaction_id=f"re_{self._ids}",
            reimbursement_id=reimbursement,
        )

    def returns(self, order: int, *items: tuple[int, str, str, str], status: str = "reimbursed", total: str) -> int:
        """A reimbursement of returned units: (unit, value before tax, tax inside, tax on top)."""
        number = self.add(
            "spree_reimbursements",
            order_id=order,
            customer_return_id=order,
            number=f"RI{self._ids}",
            reimbursement_status=status,
            total=Decimal(total),
        )
        for unit, pre_tax, included, additional in items:
            self.add(
                "spree_return_items",
                inventory_unit_id=unit,
                customer_return_id=order,
                reimbursement_id=number,
                exchange_variant_id=None,
                pre_tax_amount=Decimal(pre_tax),
                included_tax_total=Decimal(included),
                additional_tax_total=Decimal(additional),
                reception_status="received",
                acceptance_status="accepted",
            )
        return number

    def tag(self, number: int, tag: int, kind: str = ORDER, context: str = "tags") -> None:
        """A tag on an order, or on something else with that id."""
        self.book.insert(
            "spree_taggings",
            id=self._next(),
            tag_id=tag,
            taggable_type=kind,
            taggable_id=number,
            context=context,
            created_at=self._now,
        )

    def plain_order(self) -> None:
        """R1001: tax on top, a tag; the product and a list of the same id are tagged too."""
        items = [Item(SHIRT_M, 2, "20.00", additional="3.55"), Item(CAP, 1, "15.00", additional="1.33")]
        order = self.order(1001, items, [Parcel("7.00", additional="0.62")])
        self.tag(order, 1)
        self.tag(order, 4, "Spree::Product")
        self.tag(order, 4, context="labels")
        self.pay1001 = self.pay(order, "67.50")

    def guest_with_tax_in_the_price(self) -> None:
        """R1002: 3 x 19.99 and a parcel of 4.90, both with 19 % inside; no state in the list, no phone."""
        items = [Item(MUG, 3, "19.99", included="9.58")]
        order = self.order(
            1002,
            items,
            [Parcel("4.90", included="0.78")],
            currency="EUR",
            user=None,
            email="Guest@Example.de",
            address=self.address(2, phone="", firstname="Jörg", lastname=""),
        )
        self.pay(order, "64.87")

    def order_in_yen(self) -> None:
        """R1003: yen, 10 % inside."""
        items = [Item(CAP, 2, "1650", included="300"), Item(MUG, 1, "1100", included="100")]
        address = self.address(3, phone=None)
        self.pay(self.order(1003, items, [Parcel("550", included="50")], currency="JPY", address=address), "4950")

    def carts(self) -> None:
        """R1008 stays a cart, R1012 will be an order."""
        self.order(1008, [Item(CAP, 1, "15.00")], complete=False, email="")
        self.order(1012, [Item(CAP, 1, "15.00"), Item(MUG, 1, "9.00")], [Parcel("5.00")], complete=False)

    def promotions(self) -> None:
        """R1004: 10 % off the shirts, 6.01 off the order, the parcel free; a promotion that was not eligible."""
        items = [
            Item(SHIRT_M, 2, "20.00", promo="-4.00"),
            Item(SHIRT_L, 1, "20.00", promo="-2.00"),
            Item(MUG, 1, "9.00"),
        ]
        with self.book.transaction():
            order = self.order(1004, items, [Parcel("7.00", promo="-7.00")], promo="-6.01")
            self._adjust(order, LINE, 10042, PROMOTION, "-9.00", "Promotion (not eligible)", eligible=False)
            self.book.insert("spree_order_promotions", id=self._next(), order_id=order, promotion_id=1)
            self.book.insert("spree_order_promotions", id=self._next(), order_id=order, promotion_id=2)
            self.book.update("spree_coupon_codes", 1, order_id=order, state=1)
        self.pay(order, "56.99")

    def gift_card(self) -> None:
        """R1005: 30.00 by gift card, which Spree books as a payment; the total stays."""
        order = self.order(1005, [Item(MUG, 5, "9.00")], [Parcel("5.00")], gift_card_id=3)
        self.pay(order, "30.00", source="Spree::StoreCredit")
        self.pay(order, "20.00")

    def returned_goods(self) -> None:
        """R1006: a shirt and both caps come back, worth 21.775 and 30.00; 45.00 is paid back, the rest is kept."""
        items = [Item(SHIRT_M, 1, "20.00", additional="1.78"), Item(CAP, 2, "15.00")]
        order = self.order(1006, items, [Parcel("5.00")])
        payment = self.pay(order, "56.78")
        self._tick(days=9)
        with self.book.transaction():
            returned = self.returns(
                order, (10060, "20.0000", "0", "1.7750"), (10061, "30.0000", "0", "0"), status="pending", total="45.00"
            )
        self._tick(hours=2)
        with self.book.transaction():
            self.refund(payment, "45.00", returned)
            self.book.update("spree_reimbursements", returned, reimbursement_status="reimbursed", updated_at=self._now)
            for unit in (10060, 10061):
                self.book.update("spree_inventory_units", unit, state="returned", updated_at=self._now)

    def money_back_without_goods(self) -> None:
        """R1007: the shipping of 5.00 is paid back, then 3.33 of goodwill: neither names a line."""
        items = [Item(SHIRT_L, 1, "20.00"), Item(MUG, 1, "9.00"), Item(BOOK_, 1, "1.00")]
        order = self.order(1007, items, [Parcel("5.00")])
        payment = self.pay(order, "35.00")
        for amount in ("5.00", "3.33"):
            self._tick(days=1)
            self.refund(payment, amount)

    def cancelled_orders(self) -> None:
        """R1009 is cancelled before it is paid, R1010 after, its money sent back."""
        unpaid = self.order(1009, [Item(MUG, 1, "9.00")])
        self.pay(unpaid, "9.00", "checkout")
        paid = self.order(1010, [Item(MUG, 2, "9.00")])
        payment = self.pay(paid, "18.00")
        self._tick(days=1)
        for order in (unpaid, paid):
            with self.book.transaction():
                self._change(order, state="canceled", canceled_at=self._now, payment_state="void")
                if order == paid:
                    self.refund(payment, "18.00")

    def subscription(self) -> None:
        """R1011 starts a subscription, R1021 renews it; the plug-in says so by a tag."""
        for number, tag in ((1011, 2), (1021, 3)):
            with self.book.transaction():
                order = self.order(number, [Item(MUG, 1, "9.00")])
                self.tag(order, tag)
            self.pay(order, "9.00")

    def edited_order(self) -> None:
        """R1012 is completed; then staff double a line and take the other one out, and all is worked out again."""
        self._tick()
        self._change(1012, state="complete", completed_at=self._now)
        self.pay(1012, "29.00")
        with self.book.transaction():
            self._tick(hours=1)
            self.book.update("spree_line_items", 10120, quantity=2, pre_tax_amount=30, updated_at=self._now)
            self.book.update("spree_inventory_units", 10120, quantity=2, updated_at=self._now)
            self.book.delete("spree_inventory_units", 10121)
            self.book.delete("spree_line_items", 10121)
            self._change(1012, item_total=30, total=35, item_count=2)

    def order_with_a_fee(self) -> None:
        """R1013: 3.00 for gift wrap is a manual adjustment: it is in the total and in no line."""
        self.pay(self.order(1013, [Item(CAP, 1, "15.00")], [Parcel("5.00")], fee="3.00"), "23.00")

    def exchange(self) -> None:
        """R1015: a shirt M is exchanged for an L: a reimbursement without money; the new unit has another variant."""
        order = self.order(1015, [Item(SHIRT_M, 1, "20.00")], [Parcel("5.00")])
        self.pay(order, "25.00")
        self._tick(days=3)
        with self.book.transaction():
            self.returns(order, (10150, "20.0000", "0", "0"), total="0")
            self.add(
                "spree_inventory_units",
                order_id=order,
                line_item_id=10150,
                variant_id=SHIRT_L,
                shipment_id=10150,
                quantity=1,
                state="on_hand",
            )

    def two_parcels_and_store_credit(self) -> None:
        """R1016: two parcels; a mug comes back, paid in store credit."""
        order = self.order(1016, [Item(MUG, 4, "9.00")], [Parcel("5.00"), Parcel("3.00", promo="-1.00")])
        self.pay(order, "43.00")
        self._tick(days=2)
        with self.book.transaction():
            returned = self.returns(order, (10160, "36.0000", "0", "0"), total="36.00")
            self.book.insert(
                "spree_reimbursement_credits",
                id=self._next(),
                reimbursement_id=returned,
                creditable_type="Spree::StoreCredit",
                creditable_id=1,
                amount=Decimal("36.00"),
            )

    def unpaid_order(self) -> None:
        """R1017 waits for a cheque."""
        self.pay(self.order(1017, [Item(MUG, 1, "9.00")]), "9.00", "checkout")

    def fully_refunded(self) -> None:
        """R1018: all of it goes back, whereupon Spree says that a balance is due again."""
        order = self.order(1018, [Item(MUG, 1, "9.00"), Item(CAP, 1, "15.00")])
        payment = self.pay(order, "24.00")
        self._tick(days=1)
        with self.book.transaction():
            self.refund(payment, "24.00")
            self._change(order, payment_total=0, payment_state="balance_due")

    def deleted_order(self) -> None:
        """R1014 is taken out of the database by hand, R1008 by the clean-up of carts."""
        order = self.order(1014, [Item(MUG, 1, "9.00")])
        payment = self.pay(order, "9.00")
        with self.book.transaction():
            self.book.delete("spree_payments", payment)
            for number in (order, 1008):
                self.book.delete("spree_inventory_units", number * 10)
                self.book.delete("spree_line_items", number * 10)
                self.book.delete("spree_orders", number)

    def second_return(self) -> None:
        """R1006: a further return is received but not paid yet; R1001: a cap comes back with its tax."""
        self._tick(days=1)
        with self.book.transaction():
            self.returns(1006, (10061, "15.0000", "0", "0"), status="pending", total="15.00")
        with self.book.transaction():
            returned = self.returns(1001, (10011, "15.0000", "0", "1.3300"), total="16.33")
            self.refund(self.pay1001, "16.33", returned)

    def catalogue_changes(self) -> None:
        """A product gets another name."""
        self.book.update("spree_products", 3, name="Big mug", updated_at=self._tick())


def _totals(items: Sequence[Item], parcels: Sequence[Parcel], promo: str, fee: str) -> dict[str, Any]:
    parts: list[Item | Parcel] = [*items, *parcels]
    promotions = sum((Decimal(part.promo) for part in parts), Decimal(promo))
    additional = sum((Decimal(part.additional) for part in parts), Decimal(0))
    item_total = sum((item.quantity * Decimal(item.price) for item in items), Decimal(0))
    shipment_total = sum((Decimal(parcel.cost) for parcel in parcels), Decimal(0))
    adjustments = promotions + additional + Decimal(fee)
    return {
        "item_total": item_total,
        "shipment_total": shipment_total,
        "promo_total": promotions,
        "included_tax_total": sum((Decimal(part.included) for part in parts), Decimal(0)),
        "additional_tax_total": additional,
        "adjustment_total": adjustments,
        "total": item_total + shipment_total + adjustments,
        "item_count": sum(item.quantity for item in items),
    }
