"""What every shop needs in the same way, done to the values that the mapping gives: the engine's own work.

Values of an attribute's type, money in minor units, no empty optionals, lists always sent and always in one order,
an address only where it can be used, times in UTC. Lines and refunds are in `lines.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any, TypeAlias

from daemon.document.lines import merge_products, net, settle_refunds
from daemon.document.order import LARGEST, Breach
from daemon.document.outcome import Oddity
from daemon.mapping import identity
from daemon.mapping.attributes import ADDRESS, ALIAS, ORDER, PRODUCT, REFUND, Attribute, Type
from daemon.mapping.countries import ALPHA2_BY_ALPHA3, ALPHA3
from daemon.mapping.currencies import exact_sum, minor_digits, quantum, round_to
from daemon.mapping.faults import Fault
from daemon.mapping.graph import Empty
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

    def order(self, values: Values) -> Values:
        """The order. Attributes that cannot be turned are left out and stand in `breaches`."""
        currency = values.get("currency")
        self._digits = minor_digits(currency) if isinstance(currency, str) else 2
        order = self._object(values, _ORDER, "")
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
        products = self._items(values, _PRODUCT, "products")
        order["products"] = merge_products(products, self._policies, self.oddities)
        refunds = self._items(values, _REFUND, "refunds")
        order["refunds"] = settle_refunds(refunds, order["products"], self._digits, self._policies, self.oddities)
        if values.get("alternate_order_ids"):
            aliases = self._items(values, _ALIAS, "alternate_order_ids")
            order["alternate_order_ids"] = [item for index, item in enumerate(aliases) if item not in aliases[:index]]
        self._odd_sums(order)
        return order

    def _shift(self, order: Values) -> None:
        try:
            order["time_of_purchase"] = format_time(
                parse_time(order["time_of_purchase"]) + timedelta(seconds=self._offset_secs)
            )
        except OverflowError:
            self._breach("", None, "time_of_purchase", "is outside the calendar once the offset is added")

    def _items(self, values: Values, turns: _Turns, name: str) -> list[Values]:
        return [self._object(item, turns, name, index) for index, item in enumerate(values.get(name, ()))]

    def _object(self, values: Values, turns: _Turns, name: str, index: int | None = None) -> Values:
        made: Values = {}
        for inner, required, turn in turns:
            value = values.get(inner)
            if value is None or type(value) is Empty:
                continue
            try:
                turned = _rounded(value, self._digits) if turn is None else turn(value)
            except Fault as fault:
                self._breach(name, index, inner, fault.what)
                continue
            if required or turned != "":
                made[inner] = turned
        return made

    def _breach(self, name: str, index: int | None, attribute: str, what: str) -> None:
        place = f"{name}.{attribute}" if name else attribute
        self.breaches.append(Breach(place, place if index is None else f"{name}[{index}].{attribute}", what))

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
        address = self._object(values, _ADDRESS, "customer_shipping_address")
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
        if any("price" not in product or "quantity" not in product for product in products):
            return
        lines = exact_sum(net(product) for product in products)
        if abs(lines + tax + shipping - total) > quantum(self._digits) * len(products):
            self.oddities.append(Oddity.SUM_MISMATCH)
        if exact_sum(row.get("refund_amount", Decimal(0)) for row in order["refunds"]) > total:
            self.oddities.append(Oddity.REFUND_EXCEEDS_TOTAL)


def _rounded(value: Any, digits: int) -> Decimal:
    if is_number(value):
        if abs(value) > LARGEST:
            raise Fault("is more than 10^14")
        return round_to(value, digits)
    cure = "; declare `types: {column: numeric}` under its source or write dec(x)" if isinstance(value, str) else ""
    raise Fault(f"must be a number, not {name_of(value)}{cure}")


def _units(value: Any) -> Decimal:
    return _rounded(value, UNIT_DIGITS)


def _text(value: Any) -> str:
    if type(value) is str:
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise Fault("is not valid Unicode")
        return "" if value.isspace() else value
    if isinstance(value, bool):
        raise Fault("must be a text, not true or false")
    return as_text(value) or ""


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if type(value) is int and value in (0, 1):
        return value == 1
    raise Fault(f"must be true or false, not {name_of(value)}")


def _time(value: Any) -> str:
    if not isinstance(value, str):
        raise Fault(f"must be an ISO-8601 time, not {name_of(value)}")
    try:
        return utc_text(value)
    except (ValueError, OverflowError) as error:
        raise Fault(f"must be an ISO-8601 time with an offset: {error}") from error


def _texts(value: Any) -> list[str]:
    items = value if isinstance(value, list | tuple) else [value]
    return sorted({text for text in (identity.trim(_text(item)) for item in items if not is_missing(item)) if text})


_TURN: dict[Type, Callable[[Any], Any]] = {
    Type.TEXT: _text,
    Type.ID: _text,
    Type.PRICE: _units,
    Type.QUANTITY: _units,
    Type.FLAG: _flag,
    Type.TIME: _time,
    Type.TEXTS: _texts,
}


_Turns: TypeAlias = "tuple[tuple[str, bool, Callable[[Any], Any] | None], ...]"
"""Of each attribute: name, whether required, and how its value is turned (None: money of the order). Worked out once,
since members of an enumeration are slow to reach."""


def _turns(attributes: tuple[Attribute, ...]) -> _Turns:
    return tuple((one.name, one.required, _TURN.get(one.type)) for one in attributes if not one.parts)


_ORDER, _ADDRESS, _PRODUCT, _REFUND, _ALIAS = map(_turns, (ORDER, ADDRESS, PRODUCT, REFUND, ALIAS))
