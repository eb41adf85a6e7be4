"""Made-up values of the recorded shops: the same in every run, with the texts and numbers that go wrong easily."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import TypeVar

T = TypeVar("T")

NAMES = ("Ada Nowak", "Zoë Ångström", "李雷", "O'Brien, Pat", "Ömer Şahin", 'Bo "Bob" Li', "Ivan Иванов", "Tab\tMan")
WORDS = (
    "mug",
    "poster",
    "étui",
    "kettle\n2 l",
    "rug",
    "バッグ",
    "back\\slash",
    "100 %",
    "🎁 box",
    "",
    "null",
    "O''Neil",
)
FLOATS = (0.1, -2.5, 1e-7, 123456789.123, 3.0, 1e21, 0.0)
REALS = (0.1, -2.5, 1e-7, 12345.5, 3.0, 0.0)
LARGE = 11_000  # characters or bytes: more than a page of any of the databases
START = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)


class Values:
    """Draws values from a seed; `moment` only ever moves on."""

    def __init__(self, seed: int) -> None:
        self.lots = Random(seed)
        self._now = START

    def maybe(self, value: T) -> T | None:
        """The value, or None one time in five."""
        return None if self.lots.random() < 0.2 else value

    def name(self) -> str:
        """A person's name."""
        return self.lots.choice(NAMES)

    def word(self) -> str:
        """A short text, perhaps an empty one."""
        return self.lots.choice(WORDS)

    def words(self) -> list[str | None]:
        """A list of texts, perhaps an empty one or with a null in it."""
        return [self.maybe(self.word()) for _ in range(self.lots.randrange(4))]

    def money(self, most: int = 999) -> Decimal:
        """An amount with two decimals."""
        return Decimal(self.lots.randrange(100 * most)) / 100

    def decimal(self, scale: int, digits: int = 9) -> Decimal:
        """A number of any sign with `scale` decimals."""
        return Decimal(self.lots.randrange(-(10**digits), 10**digits)).scaleb(-scale)

    def number(self) -> Decimal:
        """A decimal that fits no double, or one with a scale of its own."""
        return self.lots.choice(
            (
                self.decimal(self.lots.randrange(6)),
                Decimal("12345678901234567890.123456789"),
                Decimal(7000),
                Decimal("1.50"),
            )
        )

    def moment(self) -> datetime:
        """A moment after the last one, with microseconds, in UTC."""
        self._now += timedelta(seconds=self.lots.randrange(400), microseconds=self.lots.randrange(10**6))
        return self._now

    def day(self) -> date:
        """A date of the last hundred years."""
        return date(1930, 1, 1) + timedelta(days=self.lots.randrange(36_000))

    def clock(self) -> time:
        """A time of day with microseconds."""
        return (START.replace(hour=0) + timedelta(microseconds=self.lots.randrange(86_400 * 10**6))).time()

    def token(self) -> uuid.UUID:
        """A UUID."""
        return uuid.UUID(int=self.lots.getrandbits(128), version=4)

    def raw(self) -> bytes:
        """A few bytes, a zero byte among them now and then."""
        return bytes(self.lots.choice((0, 255, 65, 128)) for _ in range(self.lots.randrange(12)))

    def json(self) -> str:
        """A JSON document as text."""
        inner = {"ua": self.name(), "n": self.lots.randrange(99), "risk": self.lots.choice(FLOATS[:5]), "of": None}
        return json.dumps(self.lots.choice((inner, [self.word(), inner], {}, None, 12.50)), ensure_ascii=False)


def large(what: str) -> str:
    """A text of `LARGE` characters that is dull but its own."""
    return f"{what}. ".ljust(20, "~") * (LARGE // 20)
