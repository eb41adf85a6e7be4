"""What every shop needs in the same way, done to the values that the mapping gives: the engine's own work.

Values of an attribute's type, money in minor units, no empty optionals, lists always sent and always in one order,
an address only where it can be used, times in UTC. Lines and refunds are in `lines.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any, TypeAlias

from daemon.document.lines import merge_products, net, settle_refunds
from daemon.document.order import LARGEST, Breach, breach
from daemon.document.outcome import Oddity
from daemon.mapping import identity
from daemon.mapping.attributes import ORDER, Type
from daemon.mapping.countries import ALPHA2_BY_ALPHA3, ALPHA3
from daemon.mapping.currencies import exact_sum, minor_digits, quantum, round_to
from daemon.mapping.faults import Fault
from daemon.mapping.model import SHIPPING_COUNTRY, Policies
from daemon.mapping.operators import as_text, is_missing, is_number, name_of
from daemon.mapping.times import format_time, parse_time, utc_text

UNIT_DIGITS = 6
"""Decimals of price and quantity. Price is per unit: 10.00 for 3 pieces is 3.333333, which multiplies back to within
a hundredth of a cent for any quantity below a hundred; rounded to cents it would lose one."""

Values = dict[str, Any]


class Normaliser:
    """Turns the values of one order into an order of the API; notes oddities and what cannot be turned."""

    def __init__(self, offset_secs: int = 0, policies: Policies | None = None) -> None:
        self._policies = policies or Policies()
        self._offset_secs = offset_secs
        self.oddities: list[Oddity] = []
        self.breaches: list[Breach] = []
        self._digits = 2
        self._turns = _turns(2)

    def order(self, values: Values) -> Values:
        """The order. Attributes that cannot be turned are left out and stand in `breaches`."""
        currency = values.get("currency")
        self._digits = minor_digits(currency) if isinstance(currency, str) else 2
        self._turns = _turns(self._digits)
        order = self._object(values, "")
        if "time_of_purchase" in order and self._offset_secs:
            self._shift(order)
        if order.get("discount_amount", 0) < 0:
            order["discount_amount"] = -order["discount_amount"]
            self.oddities.append(Oddity.DISCOUNT_SIGN)
        for name in ("discount_codes", "order_tags"):
            order.setdefault(name, [])
        address = values.get("customer_shipping_address") or {}
        self._contact(order, self._region(address))
        self._address(order, address)
        products = self._items(values, "products")
        order["products"] = merge_products(products, self._policies, self.oddities)
        refunds = self._items(values, "refunds")
        order["refunds"] = settle_refunds(refunds, order["products"], self._digits, self._policies, self.oddities)
        if values.get("alternate_order_ids"):
            aliases = self._items(values, "alternate_order_ids")
            order["alternate_order_ids"] = [item for index, item in enumerate(aliases) if item not in aliases[:index]]
        self._odd_sums(order)
        return order

    def _shift(self, order: Values) -> None:
        try:
            order["time_of_purchase"] = format_time(
                parse_time(order["time_of_purchase"]) + timedelta(seconds=self._offset_secs)
            )
        except OverflowError:
            what = "is outside the calendar once the offset is added"
            self.breaches.append(breach("", None, "time_of_purchase", what))

    def _items(self, values: Values, name: str) -> list[Values]:
        return [self._object(item, name, index) for index, item in enumerate(values.get(name, ()))]

    def _object(self, values: Values, name: str, index: int | None = None) -> Values:
        made: Values = {}
        for inner, required, turn in self._turns[name]:
            if inner in values:
                try:
                    turned = turn(values[inner])
                except Fault as fault:
                    self.breaches.append(breach(name, index, inner, fault.what))
                    continue
                if turned is not None and (required or turned != ""):
                    made[inner] = turned
        return made

    def _region(self, address: Values) -> str:
        """The country in which a number without a country code is read."""
        region = self._policies.phone_default_region
        if region != SHIPPING_COUNTRY:
            return region
        return ALPHA2_BY_ALPHA3.get(address.get("country_code") or "", Policies().phone_default_region)

    def _contact(self, order: Values, region: str) -> None:
        self._keep(order, "customer_email", identity.is_email, Oddity.EMAIL_DROPPED)
        self._keep(order, "customer_phone_number", identity.is_phone, Oddity.PHONE_DROPPED)
        self._keep(order, "customer_ip_address", identity.is_ip, Oddity.IP_DROPPED)
        self._hash(order, "hashed_customer_email", identity.hashed_email, Oddity.EMAIL_DROPPED)
        hashed_phone = partial(identity.hashed_phone, region=region)
        self._hash(order, "hashed_customer_phone_number", hashed_phone, Oddity.PHONE_DROPPED)
        if "@" in order.get("customer_id", ""):
            self.oddities.append(Oddity.CUSTOMER_ID_IS_EMAIL)

    def _keep(self, order: Values, name: str, valid: Callable[[str], bool], oddity: Oddity) -> None:
        if name in order:
            order[name] = identity.trim(order[name])
            if not valid(order[name]):
                del order[name]
                self.oddities.append(oddity)

    def _hash(self, order: Values, name: str, hashed: Callable[[str], str | None], oddity: Oddity) -> None:
        if name in order:
            value = hashed(order.pop(name))
            if value is None:
                self.oddities.append(oddity)
            else:
                order[name] = value

    def _address(self, order: Values, values: Values) -> None:
        address = self._object(values, "customer_shipping_address")
        if not any(address.values()):
            return
        if not address.get("zip") or address.get("country_code") not in ALPHA3:
            self.oddities.append(Oddity.ADDRESS_DROPPED)
            return
        if any(name not in address for name in ("address1", "city", "state")):
            self.oddities.append(Oddity.ADDRESS_PARTIAL)
        order["customer_shipping_address"] = address

    def _odd_sums(self, order: Values) -> None:
        products = order["products"]
        total, tax, shipping = (order.get(name) for name in ("purchase_total", "tax", "shipping_cost"))
        if total is None or tax is None or shipping is None:
            return
        try:
            lines = exact_sum([net(product) for product in products])
        except KeyError:
            return
        if abs(lines + tax + shipping - total) > quantum(self._digits) * len(products):
            self.oddities.append(Oddity.SUM_MISMATCH)
        if exact_sum(row.get("refund_amount", Decimal(0)) for row in order["refunds"]) > total:
            self.oddities.append(Oddity.REFUND_EXCEEDS_TOTAL)


def _rounding(digits: int) -> Callable[[Any], Decimal | None]:
    def rounded(value: Any) -> Decimal | None:
        if is_number(value):
            if abs(value) > LARGEST:
                raise Fault("is more than 10^14")
            return round_to(value, digits)
        if is_missing(value):
            return None
        cure = "; declare `types: {column: numeric}` under its source or write dec(x)" if isinstance(value, str) else ""
        raise Fault(f"must be a number, not {name_of(value)}{cure}")

    return rounded


def _text(value: Any) -> str | None:
    if type(value) is str:
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise Fault("is not valid Unicode")
        return "" if value.isspace() else value
    if isinstance(value, bool):
        raise Fault("must be a text, not true or false")
    return as_text(value)


def _flag(value: Any) -> bool | None:
    if isinstance(value, bool) or value is None:
        return value
    if type(value) is int and value in (0, 1):
        return value == 1
    if is_missing(value):
        return None
    raise Fault(f"must be true or false, not {name_of(value)}")


def _time(value: Any) -> str | None:
    if is_missing(value):
        return None
    if not isinstance(value, str):
        raise Fault(f"must be an ISO-8601 time, not {name_of(value)}")
    try:
        return utc_text(value)
    except (ValueError, OverflowError) as error:
        raise Fault(f"must be an ISO-8601 time with an offset: {error}") from error


def _texts(value: Any) -> list[str] | None:
    if is_missing(value):
        return None
    items = value if isinstance(value, list | tuple) else [value]
    return sorted({text for text in (identity.trim(_text(item) or "") for item in items) if text})


_Turn: TypeAlias = Callable[[Any], Any]
"""Gives the value as the API takes it, None for what is missing. Raises Fault where it cannot be turned."""


@functools.cache
def _turns(digits: int) -> dict[str, tuple[tuple[str, bool, _Turn], ...]]:
    """Name, whether required, and how it is turned, of the attributes of an order ("") and of each object within it.

    `digits` are the decimals of the order's money.
    """
    units = _rounding(UNIT_DIGITS)
    turns: dict[Type, _Turn] = {
        Type.TEXT: _text,
        Type.ID: _text,
        Type.MONEY: _rounding(digits),
        Type.PRICE: units,
        Type.QUANTITY: units,
        Type.FLAG: _flag,
        Type.TIME: _time,
        Type.TEXTS: _texts,
    }
    objects = {"": ORDER, **{one.name: one.parts for one in ORDER if one.parts}}
    return {
        name: tuple((one.name, one.required, turns[one.type]) for one in attributes if not one.parts)
        for name, attributes in objects.items()
    }
