"""E-mail addresses and phone numbers as the Orders API's hashing guide normalises them.

Both sides must hash the same text, or a purchase is not matched with its visitor. Where the guide's reference would
hash something that identifies nobody (no address, an empty local part), this gives None: send nothing.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import re
from collections.abc import Callable
from functools import partial

import phonenumbers

_JS_BLANKS = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
"""What JavaScript's trim takes off; Python's strip differs (it keeps U+FEFF and takes \\x1c-\\x1f and \\x85)."""

_CUT_AT_PLUS = frozenset({"outlook.com", "protonmail.com", "protonmail.ch", "pm.me", "icloud.com", "me.com", "mac.com"})
_CUT_AT_DASH = frozenset({"yahoo.com", "ymail.com"})

_EMAIL = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]{0,61}[A-Za-z0-9]"
)
_RAW_PHONE = re.compile(r"\+?[0-9 ()./\-\u00a0]+(?:\s?(?:ext\.?|x)\s?[0-9]{1,6})?", re.IGNORECASE)
_SHA256_HEX = re.compile(r"[0-9a-f]{64}")


def sha256_hex(text: str) -> str:
    """SHA-256 over UTF-8 in lower-case hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def trim(text: str) -> str:
    """Without blanks at both ends, as JavaScript trims."""
    return text.strip(_JS_BLANKS)


def normalise_email(text: str) -> str | None:
    """The address that is hashed; None where there is none, or where it would be everybody's."""
    address = trim(text).lower()
    parts = address.split("@")
    if len(parts) != 2:
        return None
    local, domain = parts
    if domain == "gmail.com":
        local = local.split("+", 1)[0].replace(".", "")
    elif domain in _CUT_AT_DASH:
        local = local.split("-", 1)[0].replace(".", "")
    elif domain in _CUT_AT_PLUS:
        local = local.split("+", 1)[0]
    return f"{local}@{domain}" if local and domain else None


def normalise_phone(text: str, region: str = "US") -> str | None:
    """The number in E.164 with its plus sign; None where it is not a valid number seen from `region`.

    Letters are refused: libphonenumber turns 1-800-FLOWERS into digits, the reference does not. Extensions are dropped.
    """
    if len(text) > 100 or any(char.isalpha() for char in re.sub(r"(?i)\s*(ext\.?|x)\s*[0-9]+\s*$", "", text)):
        return None
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def hashed_email(text: str) -> str | None:
    """The hash to send for a raw address, or the hash itself if that is what it is."""
    if _SHA256_HEX.fullmatch(text):
        return text
    address = normalise_email(text)
    return None if address is None else sha256_hex(address)


def hashed_phone(text: str, region: str = "US") -> str | None:
    """The hash to send for a raw number, read as from `region`, or the hash itself if that is what it is."""
    if _SHA256_HEX.fullmatch(text):
        return text
    number = normalise_phone(text, region)
    return None if number is None else sha256_hex(number)


def hasher(what: str) -> Callable[[str], str | None]:
    """What hashes a column on its way in; `what` as `Source.hashed` says it. None of what cannot be hashed is kept."""
    kind, _, region = what.partition(" ")
    return hashed_email if kind == "email" else partial(hashed_phone, region=region)


@functools.lru_cache(maxsize=1024)  # asked twice of every order
def is_email(text: str) -> bool:
    """Whether every validator takes this address: ASCII, dotted domain, at most 254 characters."""
    return len(text) <= 254 and len(text.split("@")[0]) <= 64 and _EMAIL.fullmatch(text) is not None


@functools.lru_cache(maxsize=1024)  # asked twice of every order
def is_phone(text: str) -> bool:
    """Whether this looks like a phone number: 7 to 15 digits and the usual signs between them."""
    return (
        len(text) <= 100 and _RAW_PHONE.fullmatch(text) is not None and 7 <= sum(char.isdigit() for char in text) <= 21
    )


@functools.lru_cache(maxsize=1024)  # asked twice of every order
def is_ip(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address, without a mask or zone."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def guest_id(text: str) -> str | None:
    """A stable customer id for an order without one: never the address itself, never shared by two addresses.

    The hash of an address gives the id that the address gives.
    """
    if _SHA256_HEX.fullmatch(text):
        return f"guest_{text[:32]}"
    address = normalise_email(text) or trim(text).lower()
    return f"guest_{sha256_hex(address)[:32]}" if address else None
