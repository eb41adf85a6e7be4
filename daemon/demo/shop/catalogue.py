"""What the demo shop sells, where, and to whom. Everything is drawn from a seeded generator."""

from __future__ import annotations

import random
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from uuid import UUID

GIVEN = ("Ada", "Ben", "Chiara", "Dmitri", "Élise", "Femi", "Grace", "Haruka", "Ines", "Jörg", "Kenji", "Lucía")
FAMILY = (
    "Abe",
    "Brandt",
    "Costa",
    "Diallo",
    "Evans",
    "Fischer",
    "Garcia",
    "Hughes",
    "Ito",
    "Jensen",
    "O'Neill",
    "Zhang",
)
THINGS = (
    "Linen shirt",
    "Wool socks",
    "Trail backpack",
    "Espresso cup",
    "Desk lamp",
    "Rain jacket",
    "Notebook",
    "Scarf",
)
STYLES = ("Classic", "Nord", "Studio", "Atlas", "Mono")
SIZES = ("S", "M", "L", None)
CODES = ("WELCOME10", "SPRING", "VIP-5", "ÉTÉ24")
CHANNELS = ("web", "web", "web", "app", "phone")


@dataclass(frozen=True, slots=True)
class Market:
    """A country with its currency: `rate` from US dollars, `unit` the smallest amount, `shipping` the usual fees."""

    country: str
    currency: str
    rate: Decimal
    unit: Decimal
    shipping: tuple[Decimal, ...]
    phone: str
    places: tuple[tuple[str, str | None, str], ...]


CENT, YEN = Decimal("0.01"), Decimal(1)
MARKETS = (
    Market(
        "US", "USD", Decimal(1), CENT, (Decimal(0), Decimal("4.99"), Decimal("12.50")), "+1212555",
        (("New York", "NY", "10001"), ("Albany", "NY", "12207"), ("Boston", "MA", "02108")),
    ),
    Market(
        "DE", "EUR", Decimal("0.92"), CENT, (Decimal("3.90"), Decimal("5.90")), "+49301234",
        (("Berlin", None, "10115"), ("Köln", None, "50667")),
    ),
    Market(
        "JP", "JPY", Decimal("151.3"), YEN, (Decimal(0), Decimal(550), Decimal(880)), "+8133123",
        (("東京都", "千代田区", "100-0001"), ("大阪市", "大阪府", "530-0001")),
    ),
)  # fmt: skip
MARKET_WEIGHTS = (70, 15, 15)


@dataclass(frozen=True, slots=True)
class Variant:
    """One sellable thing."""

    sku: str
    product: int  # place in the list of products, from 1
    name: str | None
    price_usd: Decimal


@dataclass(frozen=True, slots=True)
class Customer:
    """An account and its first address."""

    id: UUID
    market: Market
    email: str
    name: str
    phone: str | None


def products(rng: random.Random, count: int) -> tuple[list[str], list[Variant]]:
    """Titles of `count` products, and their variants."""
    titles, variants = [], []
    for number in range(1, count + 1):
        titles.append(title(rng, number))
        for size in rng.sample(SIZES, rng.randint(1, len(SIZES))):
            price = (Decimal(rng.randint(500, 15000)) / 100).quantize(CENT)
            variants.append(Variant(f"P{number:03d}" + (f"-{size}" if size else ""), number, size, price))
    return titles, variants


def customer(rng: random.Random, number: int) -> Customer:
    """The account with this number."""
    market = rng.choices(MARKETS, MARKET_WEIGHTS)[0]
    name = person(rng)
    email = f"customer.{number}@example.com"
    return Customer(UUID(int=rng.getrandbits(128), version=4), market, email, name, phone(rng, market))


def person(rng: random.Random) -> str:
    """A name."""
    return f"{rng.choice(GIVEN)} {rng.choice(FAMILY)}"


def title(rng: random.Random, number: int) -> str:
    """What a product is called."""
    return f"{rng.choice(STYLES)} {rng.choice(THINGS)} {number}"


def phone(rng: random.Random, market: Market) -> str | None:
    """A number in international form, or none, as some customers give none."""
    return None if rng.random() < 0.2 else f"{market.phone}{rng.randint(1000, 9999)}"


def in_currency(usd: Decimal, market: Market) -> Decimal:
    """A dollar amount in the market's money."""
    return (usd * market.rate).quantize(market.unit, ROUND_HALF_UP)


def rounded(amount: Decimal, market: Market) -> Decimal:
    """An amount to the market's smallest unit."""
    return amount.quantize(market.unit, ROUND_HALF_UP)
