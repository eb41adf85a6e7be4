"""The orders in the body of a GET, one after the other, however large the body is. Pure.

The body is a JSON array of orders; or a JSON string that holds such an array, as it was seen in the wild.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import ijson

_BLANK = " \t\r\n"
_WHOLE = re.compile(
    r'(?:[^\\"]'
    r'|\\[^u"\\]|\\"|\\\\'
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4}"  # two halves of one character stay together
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}(?=[^\\]|\\[^u])"
    r"|\\u(?![dD][89abAB])[0-9a-fA-F]{4})*+"
)
"""The longest beginning of a string's inside that holds no half of an escape."""

_LONGEST_ESCAPE = 12


class Unreadable(Exception):  # noqa: N818 - it is an answer
    """The body is no list of orders. The message holds nothing of it."""


def orders_in(chunks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Every order, with numbers as int or Decimal. An empty body, or `null`, holds none. Raises Unreadable."""
    found: Any = ijson.sendable_list()
    parser: Any = None
    try:
        for text in filter(None, _array(chunks)):  # the parser takes an empty piece for the end
            parser = parser or ijson.items_coro(found, "item")
            parser.send(text.encode("utf-8", "surrogatepass"))
            yield from _orders(found)
            del found[:]
        if parser is not None:
            parser.close()
            yield from _orders(found)
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise Unreadable(f"the answer is no JSON: {type(error).__name__}") from error


def _orders(found: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for one in found:
        if not isinstance(one, dict):
            raise Unreadable("the answer is a list of something else than orders")
        yield one


def _array(chunks: Iterable[bytes]) -> Iterator[str]:
    """The text of the array, out of its string where it stands in one."""
    texts = _texts(chunks)
    head = _head(texts)
    if head[:1] == '"':
        texts = _unescaped(_with(head[1:], texts))
        head = _head(texts)
    if head[:1] == "[":
        yield head
        yield from texts
        return
    rest = head + "".join(piece for piece, _ in zip(texts, range(2), strict=False))
    if rest.strip() not in ("", "null"):
        raise Unreadable("the answer is no list of orders")


def _texts(chunks: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    for chunk in chunks:
        yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


def _head(texts: Iterator[str]) -> str:
    """The next piece of text that is not blank, from its first sign."""
    for text in texts:
        if begun := text.lstrip(_BLANK):
            return begun
    return ""


def _with(first: str, rest: Iterator[str]) -> Generator[str]:
    yield first
    yield from rest


def _unescaped(texts: Iterator[str]) -> Iterator[str]:
    """What a JSON string says, from its inside as it is written; ends at its closing quote."""
    left = ""
    for text in texts:
        left += text
        match = _WHOLE.match(left)
        whole = match[0] if match else ""
        left = left[len(whole) :]
        if whole:
            try:
                yield json.loads(f'"{whole}"', strict=False)
            except ValueError as error:
                raise Unreadable("the answer's string holds an escape that is none") from error
        if left[:1] == '"':
            return
        if len(left) >= _LONGEST_ESCAPE:
            raise Unreadable("the answer's string holds an escape that is none")
    raise Unreadable("the answer ends in the middle of a string")
