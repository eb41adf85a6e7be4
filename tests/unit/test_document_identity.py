"""Hashing of e-mail addresses and phone numbers: the provider's vectors, and the traps around them."""

from __future__ import annotations

import pytest

from daemon.mapping.identity import (
    guest_id,
    hashed_email,
    hashed_phone,
    is_email,
    is_ip,
    is_phone,
    normalise_email,
    normalise_phone,
)

EMAILS = [
    (
        "John.Doe+newsletters@gmail.com",
        "johndoe@gmail.com",
        "06a240d11cc201676da976f7b49341181fd180da37cbe40a77432c0a366c80c3",
    ),
    ("Jane-Doe+promo@ymail.com", "jane@ymail.com", "4a5206b6c57519e9ad41b5358b80f7e6e33dff21a263914f343454ab0fbbb4cb"),
    (
        "User.Name@outlook.com",
        "user.name@outlook.com",
        "121a30e5c931fc09bbfcdbd9586976e764c76ac3687ba9afcde1fb7b92c077ce",
    ),
    ("User+notes@pm.me", "user@pm.me", "d5080076cd5eb196ad2ed4d15dd93113fa810c17b51813d0bb5acc2b3f266ffc"),
    ("Test+spam@icloud.com", "test@icloud.com", "528dfe1c042ae276513bd1f3b662faaee6ef3ce8b9bea03181aa94ea4592683b"),
]
PHONES = [
    ("(212) 555-1234", "+12125551234", "b7532e84c87df1f9f6bc4097cea3fa27db1b990bdc8d1211e59586349e5cce82"),
    ("415.555.2368", "+14155552368", "5efe6d2b35a8b1cd9395c2f451ff4d4eb6dd9ddc6761cdefea0653d62ac24011"),
    ("3105551234", "+13105551234", "a2f7381cd9b4a70cbbbe1113afa0770eed79adfba525c33b69a11f87790850e1"),
    ("1-718-555-7890", "+17185557890", "d7c5b36eb18b782d398fd7e3eec015189c801b2c24d226c3689198bb5ef952d2"),
]


@pytest.mark.parametrize(("raw", "address", "digest"), EMAILS)
def test_email_vectors(raw: str, address: str, digest: str) -> None:
    """The provider's own vectors, to the byte; a hash is taken as it is."""
    assert normalise_email(raw) == address
    assert hashed_email(raw) == digest
    assert hashed_email(digest) == digest


@pytest.mark.parametrize(("raw", "number", "digest"), PHONES)
def test_phone_vectors(raw: str, number: str, digest: str) -> None:
    """The provider's own vectors, to the byte; a hash is taken as it is."""
    assert normalise_phone(raw) == number
    assert hashed_phone(raw) == digest
    assert hashed_phone(digest) == digest


@pytest.mark.parametrize(
    ("raw", "address"),
    [
        ("a.b+c@example.com", "a.b+c@example.com"),
        ("A.B+c@googlemail.com", "a.b+c@googlemail.com"),
        ("a.b-c+d@yahoo.com", "ab"),
        ("a.b-c@yahoo.co.uk", "a.b-c@yahoo.co.uk"),
        ("a.b+c@me.com", "a.b@me.com"),
        ("a.b+c@proton.me", "a.b+c@proton.me"),
        ("\ufeff a@example.com\u00a0\n", "a@example.com"),
        ("\x85a@example.com", "\x85a@example.com"),
        ("+x@gmail.com", None),
        ("-a@yahoo.com", None),
        ("...@gmail.com", None),
        ("a@", None),
        ("a@b@c", None),
        ("noat", None),
        ("", None),
    ],
)
def test_email_traps(raw: str, address: str | None) -> None:
    """Rules hold for exact domains; what would be everybody's address, or is none, is left out."""
    assert normalise_email(raw) == ("ab@yahoo.com" if address == "ab" else address)


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        ("(555) 123-4567", None),
        ("1112223333", None),
        ("1-800-FLOWERS", None),
        ("020 7946 0958", None),
        ("0044 20 7946 0958", None),
        ("+44 20 7946 0958", "+442079460958"),
        ("011 44 20 7946 0958", "+442079460958"),
        ("+1 212 555 1234 ext. 99", "+12125551234"),
        ("(212) 555-1234x7", "+12125551234"),
        ("", None),
        ("call me", None),
    ],
)
def test_phone_traps(raw: str, number: str | None) -> None:
    """Numbers are read as from the US; letters are refused, extensions dropped, invalid numbers left out."""
    assert normalise_phone(raw) == number


def test_shapes() -> None:
    """What is sent raw must look like what it is."""
    assert [is_email(text) for text in ("a.b+c@ex-1.example.com", "o'neil@example.org")] == [True, True]
    bad = (
        "a@b",
        "a b@example.com",
        ".a@example.com",
        "a..b@example.com",
        "a@example.com.",
        "a@-b.com",
        "@example.com",
        "é@x.de",
    )
    assert not any(is_email(text) for text in (*bad, "x" * 65 + "@example.com", "a@" + "b" * 250 + ".com"))
    assert [is_phone(text) for text in ("+1 (212) 555-1234", "020 7946 0958", "2125551234 ext 5")] == [True] * 3
    assert not any(is_phone(text) for text in ("n/a", "123", "1-800-FLOWERS", "0" * 30))
    assert [is_ip(text) for text in ("192.0.2.7", "2001:db8::1")] == [True, True]
    assert not any(is_ip(text) for text in ("192.0.2.7/32", "192.0.2.256", "localhost", "fe80::1%eth0", ""))


def test_guest_ids() -> None:
    """Opaque, stable, and the first half of the hash that the pixel would send."""
    assert guest_id(EMAILS[0][0]) == f"guest_{EMAILS[0][2][:32]}"
    assert guest_id("  ") is None
