"""A mapping as loaded: sources with their relations as data, derived columns, and the rules of the document."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from daemon.mapping.expressions import Expression
from daemon.mapping.faults import near
from daemon.mapping.hooks import Hooks
from daemon.mapping.place import Place
from daemon.mapping.structure import Link, Structure
from daemon.mapping.uses import Uses

ENGINE = 2
"""Raised when the engine makes other bytes of the same rows and mapping; part of every mapping's version."""


MAX_OFFSET = 86_400
"""Seconds by which `time_of_purchase` may be moved, either way."""


class Unplaced(StrEnum):
    """What becomes of a refund that names no product: the API has no place for it."""

    SPREAD = "spread"  # over the products that the same refund names, else over all of the order, pro rata
    LARGEST_LINE = "largest_line"
    DROP = "drop"


SHIPPING_COUNTRY = "shipping_country"


@dataclass(frozen=True, slots=True)
class Policies:
    """What the engine does the same way for every order; the keys of the mapping file that are named like these."""

    refund_without_product: Unplaced = Unplaced.SPREAD
    merge_products: str = "variant"  # variant: one line for each product and variant; id: one for each product
    merge_refunds: str = "event"  # event: one row for each product and time; product: one with the latest time
    phone_default_region: str = "US"  # alpha-2, or SHIPPING_COUNTRY


class OnGone(StrEnum):
    """What becomes of a sent order that is deleted, or no longer eligible."""

    KEEP = "keep"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Match:
    """`their` column of the target equals `my` column of this row (or of the order's own row), or the constant.

    Without `their`, `my` column equals the constant: else the row has no such relation.
    """

    their: str | None
    my: str | None
    constant: str | None = None
    of_order: bool = False

    @property
    def joins(self) -> bool:
        """Whether it holds a column of this row against one of the target."""
        return self.their is not None and self.my is not None and not self.of_order


@dataclass(frozen=True, slots=True)
class One:
    """A to-one relation. `link` leads to the target's key; None: the target is found among the order's own rows."""

    name: str
    source: str
    target: str
    match: tuple[Match, ...]
    place: Place
    refresh: bool = True
    required: bool = True
    link: Link | None = None


@dataclass(frozen=True, slots=True)
class SortKey:
    """One part of a sort: nulls come last in either direction."""

    expression: Expression
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Many:
    """A to-many relation within the order's own rows; among shared rows where `below` is set.

    `below` then stands before this row's key in what its rows name as the row that they hang below.
    """

    name: str
    source: str
    target: str
    match: tuple[Match, ...]
    place: Place
    where: Expression | None = None
    sort: tuple[SortKey, ...] = ()
    below: str | None = None


@dataclass(frozen=True, slots=True)
class SourceMap:
    """What expressions see of the rows of one source."""

    name: str
    key: tuple[str, ...] | None
    shared: bool = False
    names: frozenset[str] = frozenset()  # of relations and derived columns: as attributes they hide columns
    one: Dict[str, One] = field(default_factory=dict)
    many: dict[str, Many] = field(default_factory=dict)
    let: dict[str, Expression] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListRule:
    """Items of a list attribute: nested loops (outer first), a condition, and an expression for each attribute."""

    loops: tuple[tuple[str, Expression], ...]
    when: Expression | None
    item: Dict[str, Expression]


@dataclass(frozen=True, slots=True)
class DestinationRule:
    """Which orders are for one destination of the settings; without a condition, all that are orders at all."""

    place: Place
    when: Expression | None = None


Rule: TypeAlias = Expression | dict[str, Expression] | tuple[ListRule, ...]
"""One expression, an object of expressions (the address), or the rules of a list."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """Everything the mapping file says. `version` is a digest of its content and of the engine's number."""

    path: str
    version: str
    structure: Structure
    root: str
    sources: Dict[str, SourceMap]
    document: Dict[str, Rule]
    when: Expression | None = None
    void: Expression | None = None
    void_tag: str = "Cancelled"
    on_delete: OnGone = OnGone.KEEP
    on_leave: OnGone = OnGone.VOID
    destinations: Dict[str, DestinationRule] = field(default_factory=dict)  # none: every order is for every destination
    time_of_purchase_offset_secs: Expression | None = None
    policies: Policies = Policies()
    hooks: Hooks = field(default_factory=Hooks)
    used_columns: Dict[str, Dict[str, Place]] = field(default_factory=dict)
    followed: frozenset[tuple[str, str]] = frozenset()  # (source, relation) of the relations that expressions use
    uses: Uses = field(default_factory=Uses)

    def columns_used(self) -> Dict[str, Dict[str, Place]]:
        """The columns of each source that keys, relations and expressions name, with the first place that does."""
        return self.used_columns


def check_destinations(mapping: Mapping, names: Collection[str]) -> list[str]:
    """Problems between the destinations that the mapping tells apart and `names`, those of the settings; both ways."""
    if not mapping.destinations:
        return []
    problems = [
        f"{rule.place}: destinations.{name}: the settings have no such destination; {near(name, names)}"
        for name, rule in mapping.destinations.items()
        if name not in names
    ]
    file = next(iter(mapping.destinations.values())).place.file
    problems += [
        f"{file}: destinations: {name} of the settings is not in here; write `{name}: {{}}` to send it all"
        for name in sorted(set(names) - mapping.destinations.keys())
    ]
    return problems


def check_columns(mapping: Mapping, seen: Dict[str, set[str]]) -> list[str]:
    """Problems with columns that the mapping names and the topics have not shown.

    `seen` holds the columns of each source that messages have shown; a source without an entry (nothing read yet)
    is passed over.
    """
    problems = []
    for source, columns in sorted(mapping.columns_used().items()):
        known = seen.get(source)
        if not known:
            continue
        for column, place in sorted(columns.items()):
            if column not in known and column not in mapping.sources[source].defaults:
                near = difflib.get_close_matches(column, known, n=1)
                cure = f"did you mean {near[0]}?" if near else "correct the name, or declare it under `defaults:`"
                problems.append(f"{place}: {source}.{column}: no message of this source has such a column; {cure}")
    return problems
