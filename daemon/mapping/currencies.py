"""The currencies the Orders API accepts, their minor units, and rounding to those."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation

_CODES = """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYR BZD CAD CDF CHF CLP
    CNY COP CRC CUC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GGP GHS GIP GMD GNF GTQ GYD HKD HNL HRK
    HTG HUF IDR ILS IMP INR IQD IRR ISK JEP JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD
    MDL MGA MKD MMK MNT MOP MRO MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON
    RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLL SOS SPL SRD STD SVC SYP SZL THB TJS TMT TND TOP TRY TTD TVD TWD TZS UAH
    UGX USD UYU UZS VEF VND VUV WST XAF XCD XDR XOF XPF YER ZAR ZMW ZWD
"""
CURRENCIES = frozenset(_CODES.split())
"""The published pattern's alternatives. The pattern itself is not anchored, so `USDT` passes it: compare with this set.
It lacks currencies in use (BYN, MRU, STN, VES, SLE, SSP, ...): such an order cannot be sent."""

_NO_MINOR_UNIT = frozenset(
    (
        "BIF",
        "BYR",
        "CLP",
        "DJF",
        "GNF",
        "ISK",
        "JPY",
        "KMF",
        "KRW",
        "PYG",
        "RWF",
        "UGX",
        "VND",
        "VUV",
        "XAF",
        "XOF",
        "XPF",
    )
)
_THREE_DIGITS = frozenset(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"))

_ROUNDING = Context(prec=60, rounding=ROUND_HALF_UP, traps=[InvalidOperation])


def minor_digits(currency: str) -> int:
    """Decimals of the currency's minor unit (ISO 4217); 2 for a code that is not known."""
    if currency in _NO_MINOR_UNIT:
        return 0
    return 3 if currency in _THREE_DIGITS else 2


@functools.cache
def quantum(digits: int) -> Decimal:
    """The smallest step at that many decimals."""
    return Decimal((0, (1,), -digits))


def round_to(value: Decimal | int, digits: int) -> Decimal:
    """Rounded half-up (away from zero) to so many decimals."""
    return _ROUNDING.quantize(value, quantum(digits))


def round_money(value: Decimal | int, currency: str) -> Decimal:
    """Rounded half-up to the currency's minor unit."""
    return round_to(value, minor_digits(currency))


def exact_sum(values: Iterable[Decimal]) -> Decimal:
    """The sum, not cut to the 28 digits of Python's own context."""
    result = Decimal(0)
    for value in values:
        result = _ROUNDING.add(result, value)
    return result


def shares(amount: Decimal | int, weights: list[Decimal], digits: int) -> list[Decimal]:
    """The amount, rounded to `digits`, cut into one share per weight; the shares add up to it exactly.

    Share i is the difference of the rounded running totals before and after it, so each is within one minor unit of
    its exact part and none has the wrong sign. Weights that are all zero count as equal. Raises ValueError for a
    negative weight.
    """
    if any(weight < 0 for weight in weights):
        raise ValueError("a weight is negative")
    whole = round_to(amount, digits)
    sum_of_weights = exact_sum(weights)
    if not sum_of_weights:
        weights = [Decimal(1)] * len(weights)
        sum_of_weights = Decimal(len(weights))
    running = Decimal(0)
    given = round_to(0, digits)
    parts = []
    for weight in weights:
        running = _ROUNDING.add(running, weight)
        reached = round_to(_ROUNDING.divide(_ROUNDING.multiply(whole, running), sum_of_weights), digits)
        parts.append(_ROUNDING.subtract(reached, given))
        given = reached
    return parts
