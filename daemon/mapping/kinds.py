"""What is known of an expression's value before any order is seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class RowKind:
    """A row of `source`, possibly an empty one."""

    source: str


@dataclass(frozen=True, slots=True)
class ListKind:
    """A list whose items are of one kind."""

    item: Kind


@dataclass(frozen=True, slots=True)
class ValueKind:
    """A column's value, a literal, or arithmetic: nothing to navigate."""


@dataclass(frozen=True, slots=True)
class SharesKind:
    """What `allocate` gives: a share for each row."""


@dataclass(frozen=True, slots=True)
class GroupKind:
    """What `group` gives a list of: `.key`, and the `.rows` that share it."""

    key: Kind
    rows: Kind


@dataclass(frozen=True, slots=True)
class AnyKind:
    """Not known before an order is seen, such as parsed JSON."""


Kind: TypeAlias = RowKind | ListKind | ValueKind | SharesKind | GroupKind | AnyKind

VALUE = ValueKind()
SHARES = SharesKind()
ANY = AnyKind()


def join_kinds(*kinds: Kind) -> Kind:
    """The kind of a value that is one of these."""
    first = kinds[0]
    return first if all(kind == first for kind in kinds) else ANY


def item_kind(kind: Kind) -> Kind:
    """The kind of a list's items."""
    if isinstance(kind, ListKind):
        return kind.item
    return VALUE if isinstance(kind, ValueKind) else ANY


def kind_of(value: object) -> Kind:
    """The kind of a value that is known at load."""
    if isinstance(value, list | tuple):
        return ListKind(join_kinds(*(kind_of(item) for item in value))) if value else VALUE
    return ANY if isinstance(value, dict) else VALUE
