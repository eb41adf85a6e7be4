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
    sha256_hex,
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


PLUS_DOMAINS = ("outlook.com", "protonmail.com", "protonmail.ch", "pm.me", "icloud.com", "me.com", "mac.com")
OTHER_DOMAINS = ("hotmail.com", "live.com", "googlemail.com", "proton.me", "yahoo.co.uk", "gmail.co", "sub.gmail.com")


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
        ("\x1ca@example.com\x1f", "\x1ca@example.com\x1f"),
        ("\u2028a@example.com\u3000", "a@example.com"),
        *((f"A.b+c@{domain}", f"a.b@{domain}") for domain in PLUS_DOMAINS),
        *((f"A.b-c+d@{domain}", f"ab@{domain}") for domain in ("yahoo.com", "ymail.com")),
        *((f"A.b+c-d@{domain}", f"a.b+c-d@{domain}") for domain in OTHER_DOMAINS),
        ("a.b+c+d@gmail.com", "ab@gmail.com"),
        ("a.b-c@gmail.com", "ab-c@gmail.com"),
        ("a-b+c@outlook.com", "a-b@outlook.com"),
        ("+@pm.me", None),
        ("@gmail.com", None),
        ("é@gmail.com", "é@gmail.com"),
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
        ("+1 (415) 555-2368", "+14155552368"),
        ("+4915112345678", "+4915112345678"),
        ("0151 12345678", None),
        ("+1 555 123 4567", None),
        ("1-800-FLOWERS ext 5", None),
        ("2" * 101, None),
    ],
)
def test_phone_traps(raw: str, number: str | None) -> None:
    """Numbers are read as from the US; letters are refused, extensions dropped, invalid numbers left out."""
    assert normalise_phone(raw) == number


@pytest.mark.parametrize(
    ("raw", "region", "number"),
    [
        ("0151 12345678", "DE", "+4915112345678"),
        ("(212) 555-1234", "DE", "+492125551234"),
        ("+1 (212) 555-1234", "DE", "+12125551234"),
        ("020 7946 0958", "GB", "+442079460958"),
    ],
)
def test_phone_regions(raw: str, region: str, number: str | None) -> None:
    """A national number is read as from the region; one with its country code is what it is anywhere."""
    assert normalise_phone(raw, region) == number
    assert hashed_phone(raw, region) == (None if number is None else sha256_hex(number))


def test_what_the_documents_get_wrong() -> None:
    """The guide's comment and the published examples are no vectors: its own function gives null for them."""
    assert normalise_phone("(555) 123-4567") is None
    assert normalise_phone("1112223333") is None
    published = "8d969eef6ecad3c29a3a629280e686cf0c3f5d5a86aff3ca12020c923adc6c92"
    assert published == sha256_hex("123456"), "the published hash of a phone number is none of a phone number"


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
    assert guest_id(EMAILS[0][2]) == guest_id(EMAILS[0][0]), "also where the address was hashed at ingest"
