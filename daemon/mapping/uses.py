"""What a mapping reads of the stored columns, and what for: what of a row may go when its customer is erased. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from collections.abc import Mapping as Dict
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TypeAlias

from daemon.mapping.attributes import PERSONAL

Column: TypeAlias = "tuple[str, str]"
"""(source, column)"""


@dataclass(frozen=True, slots=True)
class Lead:
    """A column by which an expression follows a relation, without a look at its value."""

    source: str
    column: str


Read: TypeAlias = "str | Column | Lead"
"""A column that an expression reads or follows, or the path of another expression that it needs."""

ANYWHERE = ""
"""The source of a column that is read of a row whose source is not known."""

_SHARED_PARTS = tuple(f"document.customer_shipping_address.{part}" for part in ("city", "state", "country_code"))
"""What many customers have in common: the tables behind it (countries, regions) are nobody's own."""


@dataclass(frozen=True, slots=True)
class Uses:
    """`kept`: the columns of each source that keys, relations and all but the customer's attributes read.

    `contact`: those that the customer's attributes read, `customer_id` among them; `telling`: of these, those that tell
    one customer from another. `identity`: those that `customer_id` reads or follows; `order_id`: those that it reads.
    `people`: the sources that say who somebody is, or lie on the way there.
    """

    kept: Dict[str, frozenset[str]] = field(default_factory=dict)
    contact: frozenset[Column] = frozenset()
    telling: frozenset[Column] = frozenset()
    identity: frozenset[Column] = frozenset()
    order_id: frozenset[Column] = frozenset()
    people: frozenset[str] = frozenset()


def uses_of(reads: Dict[str, AbstractSet[Read]], structural: Dict[str, Collection[str]]) -> Uses:
    """`reads` by the path of the expression that reads; `structural`: the columns of keys and relations."""
    who = {path for path in reads if _is_of(path, PERSONAL)}
    identity = {path for path in reads if _is_of(path, {"customer_id"})}
    others = {path for path in reads if not path.startswith("sources.")} - who - identity
    needed = _closure(reads, others)
    anywhere = {column for source, column in needed if source == ANYWHERE}
    kept = {
        source: frozenset({column for at, column in needed if at == source} | anywhere | set(columns))
        for source, columns in structural.items()
    }
    return Uses(
        kept,
        contact=frozenset(_closure(reads, who | identity)),
        telling=frozenset(_closure(reads, who - set(_SHARED_PARTS))),
        identity=frozenset(_closure(reads, identity, leads=True)),
        order_id=frozenset(_closure(reads, {path for path in reads if _is_of(path, {"order_id"})})),
        people=frozenset(source for source, _ in _closure(reads, who - set(_SHARED_PARTS), leads=True)),
    )


def _is_of(path: str, attributes: Collection[str]) -> bool:
    parts = path.split(".")
    return parts[0] == "document" and parts[1] in attributes


def _closure(reads: Dict[str, AbstractSet[Read]], paths: Iterable[str], *, leads: bool = False) -> set[Column]:
    found: set[Column] = set()
    seen: set[str] = set()
    left = list(paths)
    while left:
        path = left.pop()
        if path in seen:
            continue
        seen.add(path)
        for read in reads.get(path, ()):
            if isinstance(read, str):
                left.append(read)
            elif not isinstance(read, Lead):
                found.add(read)
            elif leads:
                found.add((read.source, read.column))
    return found
