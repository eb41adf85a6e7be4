"""Sources and relations as the file writes them, before anything is concluded from them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from daemon.mapping.column_types import check_type
from daemon.mapping.functions import FUNCTIONS
from daemon.mapping.model import Match
from daemon.mapping.place import Place
from daemon.mapping.structure import FIXED, ConnectorModes
from daemon.mapping.tree import Problems, Scalar, Section, Table, Tree

MODES: dict[str, tuple[str, ...]] = {
    "decimal_handling_mode": ("precise", "double", "string"),
    "time_precision_mode": (
        "adaptive",
        "adaptive_time_microseconds",
        "connect",
        "isostring",
        "microseconds",
        "nanoseconds",
    ),
    "interval_handling_mode": ("numeric", "string"),
    "binary_handling_mode": ("bytes", "base64", "base64-url-safe", "hex"),
    "bigint_unsigned_handling_mode": ("long", "precise"),
}
_ADDED = ("add_fields", "add_headers")
MODE_KEYS = (*MODES, "unavailable_value_placeholder", "unwrapped", *_ADDED, *(f"{name}_prefix" for name in _ADDED))
_ADDED_FIELD = re.compile(r"\w+(?:\.\w+)?(?::[^,:]+)?")
SOURCE_KEYS = ("topic", "required", "key", "types", "drop", "hash", "debezium", "defaults", "one", "many", "let")
ONE_KEYS = ("source", "match", "on_change", "required")
MANY_KEYS = ("source", "match", "where", "sort")
_OF_ORDER = "order."
_SOURCE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
RESERVED = frozenset({"row", "order", "none", "true", "false", "and", "or", "not", "in", "is", "if", "else"})


@dataclass(frozen=True, slots=True)
class RelationDraft:
    """One relation as written."""

    name: str
    source: str
    target: str
    many: bool
    match: tuple[Match, ...]
    place: Place
    refresh: bool = True
    required: bool = True
    where: Scalar | None = None
    sort: tuple[Scalar, ...] = ()

    @property
    def path(self) -> str:
        """Where the relation stands, in words."""
        return f"sources.{self.source}.{'many' if self.many else 'one'}.{self.name}"


@dataclass(slots=True)
class SourceDraft:
    """One source as written; `key` is filled from relations where it is not declared."""

    name: str
    place: Place
    topic: str
    key: tuple[str, ...]
    key_place: Place
    types: dict[str, str]
    drop: dict[str, Place]
    hashed: dict[str, Scalar]
    modes: ConnectorModes
    defaults: dict[str, Scalar]
    required: bool = False
    relations: dict[str, RelationDraft] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)  # relations with a mistake: what is made of them is not told too
    lets: dict[str, Scalar] = field(default_factory=dict)


def check_name(name: str, place: Place, path: str, problems: Problems, *, variable: bool = False) -> bool:
    """Whether a name can be written in an expression; notes a problem where it cannot.

    A `variable` stands alone, so it may not have the name of a function either.
    """
    taken = name in RESERVED or (variable and name in FUNCTIONS)
    if name.isidentifier() and not taken:
        return True
    why = "has a meaning already" if taken else "is no identifier"
    problems.add(place, path, f"`{name}` cannot be a name here, it {why}; choose another")
    return False


def read_modes(section: Section, base: ConnectorModes) -> ConnectorModes:
    """The `debezium:` table of a section, over the modes that hold otherwise."""
    table = section.table("debezium")
    if table is None:
        return base
    path = f"{section.path}.debezium" if section.path else "debezium"
    modes = Section(table, path, section.problems, MODE_KEYS)
    changes: dict[str, Any] = {
        name: modes.choice(name, choices, getattr(base, name)) for name, choices in MODES.items()
    }
    changes |= {name: _added(modes, name) or getattr(base, name) for name in _ADDED}
    changes |= {f"{name}_prefix": _prefix(modes, name, base, changes[name]) for name in _ADDED}
    placeholder = modes.text("unavailable_value_placeholder") or base.unavailable_value_placeholder
    unwrapped = modes.flag("unwrapped", default=base.unwrapped)
    return replace(base, unavailable_value_placeholder=placeholder, unwrapped=unwrapped, **changes)


def _prefix(modes: Section, added: str, base: ConnectorModes, fields: tuple[str, ...]) -> str:
    """What stands before the names of added fields. It may be nothing only where the fields are named."""
    key = f"{added}_prefix"
    scalar = modes.scalar(key)
    if scalar is None:
        return str(getattr(base, key))
    if not scalar.text and not fields:
        modes.wrong(key, f"is empty; then name the fields under {added}, or they cannot be told from columns")
    return scalar.text


def _added(modes: Section, key: str) -> tuple[str, ...]:
    """The fields that ExtractNewRecordState adds, as its option says them: a list, or a text with commas."""
    added = tuple(part.strip() for text in modes.names(key) for part in text.split(","))
    for one in added:
        if not _ADDED_FIELD.fullmatch(one):
            modes.wrong(key, f"`{one}` is not what the option takes; write op, source.ts_ms or, renamed, lsn:position")
    return added


def read_source(name: str, tree: Tree, place: Place, modes: ConnectorModes, problems: Problems) -> SourceDraft | None:
    """One entry of `sources:`."""
    path = f"sources.{name}"
    if not _SOURCE_NAME.fullmatch(name):
        problems.add(place, path, f"`{name}` cannot be a source's name; use letters, digits, `_`, `-` and `.`")
    if not isinstance(tree, Table):
        problems.add(place, path, "must be a table of keys; `topic` is required")
        return None
    section = Section(tree, path, problems, SOURCE_KEYS)
    types = dict(section.texts("types"))
    for column, text in types.items():
        _check_type(column, text, path, problems)
    draft = SourceDraft(
        name=name,
        place=place,
        topic=section.text("topic", required=True) or "",
        key=section.names("key"),
        key_place=section.place_of("key"),
        types={column: text.text for column, text in types.items()},
        drop={scalar.text: scalar.place for scalar in section.scalars("drop")},
        hashed=dict(section.texts("hash")),
        modes=read_modes(section, modes),
        defaults=dict(section.texts("defaults")),
        required=section.flag("required", default=False),
    )
    _check_hashed(draft, path, problems)
    for many in (False, True):
        for relation, body, at in section.entries("many" if many else "one"):
            made = _relation(draft, relation, body, at, problems, many=many)
            if made is None:
                draft.broken.add(relation)
            else:
                _add_name(draft, relation, at, made.path, problems)
                draft.relations[relation] = made
    for derived, text in section.texts("let"):
        if check_name(derived, text.place, f"{path}.let.{derived}", problems):
            _add_name(draft, derived, text.place, f"{path}.let.{derived}", problems)
            draft.lets[derived] = text
    return draft


def _add_name(draft: SourceDraft, name: str, place: Place, path: str, problems: Problems) -> None:
    if name in draft.relations or name in draft.lets:
        problems.add(place, path, f"`{name}` names another relation of {draft.name} too; choose another name")


def _check_type(column: str, text: Scalar, path: str, problems: Problems) -> None:
    try:
        check_type(text.text)
    except ValueError as error:
        problems.add(text.place, f"{path}.types.{column}", str(error))


def _check_hashed(draft: SourceDraft, path: str, problems: Problems) -> None:
    for column, kind in draft.hashed.items():
        if kind.text not in ("email", "phone"):
            problems.add(kind.place, f"{path}.hash.{column}", "must be email or phone; other columns can be dropped")
        if column in draft.key:
            problems.add(
                kind.place, f"{path}.hash.{column}", "is a key column; rows are found by it, so it stays plain"
            )
        if column in draft.drop:
            problems.add(kind.place, f"{path}.hash.{column}", "is dropped too; take it out of `drop` or out of `hash`")


def _relation(
    draft: SourceDraft, name: str, tree: Tree, place: Place, problems: Problems, *, many: bool
) -> RelationDraft | None:
    path = f"sources.{draft.name}.{'many' if many else 'one'}.{name}"
    if not check_name(name, place, path, problems):
        return None
    if not isinstance(tree, Table):
        problems.add(place, path, "must be a table: {source: ..., match: {their column: my column}}")
        return None
    section = Section(tree, path, problems, MANY_KEYS if many else ONE_KEYS)
    target = section.text("source", required=True)
    match = tuple(_matches(section))
    if not match:
        section.wrong("match", "is missing; write {their column: my column}")
    if target is None or not match:
        return None
    return RelationDraft(
        name=name,
        source=draft.name,
        target=target,
        many=many,
        match=match,
        place=place,
        refresh=not many and section.choice("on_change", ("refresh", "ignore"), "refresh") == "refresh",
        required=many or section.flag("required", default=True),
        where=section.scalar("where") if many else None,
        sort=section.scalars("sort") if many else (),
    )


def _matches(section: Section) -> list[Match]:
    found = []
    for their, mine in section.texts("match"):
        text = mine.text.strip()
        path = f"{section.path}.match.{their}"
        if not text:
            section.problems.add(mine.place, path, "is empty; name my column or =constant")
        elif their.startswith(FIXED):
            found.append(Match(None, text, their[1:]))
        elif text.startswith(FIXED):
            found.append(Match(their, None, text[1:]))
        elif text.startswith(_OF_ORDER):
            found.append(Match(their, text.removeprefix(_OF_ORDER), of_order=True))
        else:
            found.append(Match(their, text))
        if text.startswith(FIXED) and their.startswith(FIXED):
            section.problems.add(mine.place, path, "holds two constants against each other; name a column on one side")
    return found
