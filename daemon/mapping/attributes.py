"""What an order document can say: the Orders API's attributes, which are required, and of which type."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, auto


class Type(IntEnum):
    """How a value is written and checked."""

    TEXT = auto()  # any text
    ID = auto()  # text of at least one character
    MONEY = auto()  # number, rounded to the currency's minor unit
    PRICE = auto()  # number, price per unit
    QUANTITY = auto()
    FLAG = auto()
    TIME = auto()  # ISO-8601 with offset
    TEXTS = auto()  # list of different texts
    OBJECT = auto()
    LIST = auto()


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute; `derived` ones are required by the API and filled by the engine where the mapping does not."""

    name: str
    type: Type
    required: bool = False
    derived: bool = False
    parts: tuple[Attribute, ...] = ()


PRODUCT = (
    Attribute("id", Type.ID, required=True),
    Attribute("name", Type.ID, required=True),
    Attribute("quantity", Type.QUANTITY, required=True),
    Attribute("price", Type.PRICE, required=True),
    Attribute("variant_id", Type.ID),
    Attribute("variant_name", Type.ID),  # the schema lets it be empty, the prose does not
)
REFUND = (
    Attribute("product_id", Type.ID, required=True),
    Attribute("variant_id", Type.ID),
    Attribute("quantity", Type.QUANTITY, required=True),
    Attribute("refund_amount", Type.MONEY, required=True),
    Attribute("refund_cost", Type.MONEY, required=True, derived=True),
    Attribute("refund_made_at", Type.TIME, required=True),
)
ADDRESS = (
    Attribute("address1", Type.ID),
    Attribute("address2", Type.TEXT),
    Attribute("city", Type.ID),
    Attribute("state", Type.TEXT),
    Attribute("zip", Type.TEXT, required=True),
    Attribute("country_code", Type.ID, required=True),
)
ALIAS = (
    Attribute("type", Type.ID, required=True),
    Attribute("id", Type.ID, required=True),
)
ORDER = (
    Attribute("order_id", Type.ID, required=True),
    Attribute("customer_id", Type.ID, required=True),
    Attribute("time_of_purchase", Type.TIME, required=True),
    Attribute("currency", Type.ID, required=True),
    Attribute("purchase_total", Type.MONEY, required=True),
    Attribute("tax", Type.MONEY, required=True),
    Attribute("shipping_cost", Type.MONEY, required=True),
    Attribute("discount_amount", Type.MONEY),
    Attribute("discount_codes", Type.TEXTS),
    Attribute("order_tags", Type.TEXTS),
    Attribute("is_recurring_order", Type.FLAG),
    Attribute("customer_email", Type.TEXT),
    Attribute("hashed_customer_email", Type.TEXT),
    Attribute("customer_phone_number", Type.TEXT),
    Attribute("hashed_customer_phone_number", Type.TEXT),
    Attribute("customer_name", Type.TEXT),
    Attribute("customer_ip_address", Type.TEXT),
    Attribute("customer_shipping_address", Type.OBJECT, parts=ADDRESS),
    Attribute("products", Type.LIST, required=True, parts=PRODUCT),
    Attribute("refunds", Type.LIST, parts=REFUND),
    Attribute("alternate_order_ids", Type.LIST, parts=ALIAS),
)
"""In the order in which they are written. There is no status, cancelled, test, store or note: the API refuses those."""

EXCLUSIVE = (
    ("customer_email", "hashed_customer_email"),
    ("customer_phone_number", "hashed_customer_phone_number"),
)
"""Raw and hashed may not both be sent; only the prose says so."""

PERSONAL = frozenset(
    {
        "customer_email",
        "hashed_customer_email",
        "customer_phone_number",
        "hashed_customer_phone_number",
        "customer_name",
        "customer_ip_address",
        "customer_shipping_address",
    }
)
"""Who the customer is. None of them is required, and a PATCH clears each by null. `customer_id`, which is required, is
replaced where a customer is erased."""
