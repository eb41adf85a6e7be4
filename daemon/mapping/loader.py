"""Reads the mapping file. Every mistake is collected, each with its place, the attribute, the text and the cure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping as Dict
from pathlib import Path
from typing import Any

import orjson

from daemon.errors import MappingError
from daemon.mapping.countries import ALPHA3_BY_ALPHA2
from daemon.mapping.derive import (
    Drafts,
    Owners,
    build_structure,
    find_owners,
    find_shared_owners,
    infer_keys,
    known_targets,
    look_up_link,
    many_relation,
    one_relation,
    unreached,
)
from daemon.mapping.document_section import DocumentReader
from daemon.mapping.draft import check_name, read_modes, read_source
from daemon.mapping.expressions import Expression
from daemon.mapping.faults import Fault, Mistake, near
from daemon.mapping.functions import FUNCTIONS
from daemon.mapping.hooks import Hooks, load_hooks
from daemon.mapping.kinds import Kind
from daemon.mapping.model import (
    ENGINE,
    MAX_OFFSET,
    SHIPPING_COUNTRY,
    DestinationRule,
    Mapping,
    One,
    OnGone,
    Policies,
    SourceMap,
    Unplaced,
)
from daemon.mapping.schema import SchemaBuilder
from daemon.mapping.structure import ConnectorModes
from daemon.mapping.tree import Problems, Scalar, Section, Table, plain, read_tree
from daemon.mapping.uses import uses_of

TOP_KEYS = (
    "version",
    "debezium",
    "root",
    "constants",
    "sources",
    "when",
    "void",
    "void_tag",
    "on_delete",
    "on_leave",
    "destinations",
    "time_of_purchase_offset_secs",
    "refund_without_product",
    "merge_products",
    "merge_refunds",
    "phone_default_region",
    "hooks",
    "document",
)
_FAILED = object()


def load_mapping(path: Path) -> Mapping:
    """Load and check the mapping file. Raises MappingError with every problem found."""
    problems = Problems()
    table = read_tree(path, problems)
    mapping = _Loader(table, path, problems).load()
    if mapping is None or len(problems):
        raise MappingError(problems.texts())
    return mapping


class _Loader:
    """Takes the file's tree apart, in the order in which one part needs the other."""

    def __init__(self, table: Table, path: Path, problems: Problems) -> None:
        self._table = table
        self._path = path
        self._problems = problems
        self._top = Section(table, "", problems, TOP_KEYS)

    def load(self) -> Mapping | None:
        """The mapping; None where a mistake leaves nothing to go on with. Problems are noted on the way."""
        top = self._top
        if top.text("version", required=True) not in ("1", None):
            top.wrong("version", "must be 1, the version of the grammar")
        drafts = self._sources()
        root = top.text("root", required=True)
        document = top.table("document")
        if document is None:
            top.wrong("document", "is missing; it says what each attribute of an order is")
        if root is None or not drafts:
            return None
        if root not in drafts:
            top.wrong("root", f"unknown source `{root}`; {near(root, drafts)}")
            return None
        owners, shared, ones = self._relations(drafts, root)
        sources = {
            name: SourceMap(
                name=name,
                key=draft.key or None,
                shared=name != root and name not in owners,
                names=frozenset([*draft.relations, *draft.lets]),
                one={one.name: one for one in ones[name]},
                many={
                    relation.name: many_relation(relation, shared)
                    for relation in draft.relations.values()
                    if relation.many
                },
            )
            for name, draft in drafts.items()
        }
        schema = SchemaBuilder(drafts, sources, root, self._problems)
        self._note_columns(drafts, schema)
        structural = {name: frozenset(columns) for name, columns in schema.columns.items()}
        hooks = self._hooks()
        schema.functions.update(hooks.functions)
        self._constants(schema)
        schema.compile_all()
        self._defaults(drafts, sources, schema)
        names = schema.row_names(root)
        when = self._condition("when", schema)
        void = self._condition("void", schema)
        destinations = self._destinations(schema, names)
        offset = self._offset(schema)
        policies = self._policies()
        rules = DocumentReader(schema, names, self._problems).read(document) if document is not None else {}
        self._dropped(drafts, schema)
        self._hashed_phones(drafts, policies)
        if len(self._problems):
            return None
        return Mapping(
            path=str(self._path),
            version=self._version(hooks),
            structure=build_structure(drafts, root, owners, shared, ones, policies.phone_default_region),
            root=root,
            sources=sources,
            document=rules,
            when=when,
            void=void,
            void_tag=top.text("void_tag") or "Cancelled",
            on_delete=OnGone(top.choice("on_delete", ("keep", "void"), "keep")),
            on_leave=OnGone(top.choice("on_leave", ("keep", "void"), "void")),
            destinations=destinations,
            time_of_purchase_offset_secs=offset,
            policies=policies,
            hooks=hooks,
            used_columns=schema.columns,
            followed=frozenset(schema.followed),
            uses=uses_of(schema.reads, structural),
        )

    def _sources(self) -> Drafts:
        modes = read_modes(self._top, ConnectorModes())
        drafts: Drafts = {}
        topics: dict[str, str] = {}
        if "sources" not in self._top:
            self._top.wrong("sources", "is missing; it names the topics and how their rows hang together")
        for name, tree, place in self._top.entries("sources"):
            draft = read_source(name, tree, place, modes, self._problems)
            if draft is None:
                continue
            drafts[name] = draft
            if draft.topic and topics.setdefault(draft.topic, name) != name:
                self._problems.add(
                    place, f"sources.{name}.topic", f"is the topic of {topics[draft.topic]} too; a topic is one source"
                )
        return drafts

    def _relations(self, drafts: Drafts, root: str) -> tuple[Owners, Owners, dict[str, list[One]]]:
        known_targets(drafts, self._problems)
        infer_keys(drafts, self._problems)
        owners = find_owners(drafts, root, self._problems)
        own = {root, *owners}
        shared = find_shared_owners(drafts, own, self._problems)
        ones: dict[str, list[One]] = {name: [] for name in drafts}
        for name, draft in drafts.items():
            for relation in draft.relations.values():
                if not relation.many:
                    ones[name].append(one_relation(relation, look_up_link(relation, drafts, own, self._problems)))
        broken = any(draft.broken for draft in drafts.values())
        for draft in () if broken else unreached(drafts, root):
            self._problems.add(
                draft.place,
                f"sources.{draft.name}",
                f"no relation leads here from {root}; relate it to another source or remove it",
            )
        return owners, shared, ones

    def _note_columns(self, drafts: Drafts, schema: SchemaBuilder) -> None:
        for name, draft in drafts.items():
            for column in draft.key:
                schema.use_column(name, column, draft.key_place)
            for relation in draft.relations.values():
                for match in relation.match:
                    if match.their is not None:
                        schema.use_column(relation.target, match.their, relation.place)
                    if match.my is not None:
                        mine = self._top.text("root") or "" if match.of_order else name
                        schema.use_column(mine, match.my, relation.place)

    def _constants(self, schema: SchemaBuilder) -> None:
        for name, text in self._top.texts("constants"):
            path = f"constants.{name}"
            if name in FUNCTIONS or name in schema.row_names(self._top.text("root") or ""):
                self._problems.add(text.place, path, f"`{name}` has a meaning already; choose another name")
            elif check_name(name, text.place, path, self._problems):
                value = self._evaluated(text, path, schema)
                if value is not _FAILED:
                    schema.constants[name] = value

    def _evaluated(self, text: Scalar, path: str, schema: SchemaBuilder) -> Any:
        """The value of an expression that reads no row; _FAILED where it has none, which is noted."""
        expression = schema.expression(text, path, {})
        if expression is None:
            return _FAILED
        try:
            return expression.evaluate({})
        except Fault as fault:
            self._problems.add(text.place, path, f"{text.text}: {fault.what}")
            return _FAILED

    def _defaults(self, drafts: Drafts, sources: dict[str, SourceMap], schema: SchemaBuilder) -> None:
        for name, draft in drafts.items():
            for column, text in draft.defaults.items():
                value = self._evaluated(text, f"sources.{name}.defaults.{column}", schema)
                if value is not _FAILED:
                    sources[name].defaults[column] = value

    def _condition(self, key: str, schema: SchemaBuilder) -> Expression | None:
        scalar = self._top.scalar(key)
        return (
            None if scalar is None else schema.expression(scalar, key, schema.row_names(self._top.text("root") or ""))
        )

    def _destinations(self, schema: SchemaBuilder, names: Dict[str, Kind]) -> dict[str, DestinationRule]:
        rules = {}
        for name, tree, place in self._top.entries("destinations"):
            path = f"destinations.{name}"
            if not isinstance(tree, Table):
                self._problems.add(place, path, "must be a table: {when: expression}, or {} for all orders")
                continue
            scalar = Section(tree, path, self._problems, ("when",)).scalar("when")
            when = None if scalar is None else schema.expression(scalar, f"{path}.when", names)
            rules[name] = DestinationRule(place, when)
        return rules

    def _dropped(self, drafts: Drafts, schema: SchemaBuilder) -> None:
        for name, draft in drafts.items():
            for column, place in draft.drop.items():
                used = schema.columns[name].get(column)
                if used is not None:
                    self._problems.add(
                        place,
                        f"sources.{name}.drop",
                        f"`{column}` is used in line {used.line}; do not drop it, or do not use it",
                    )

    def _hashed_phones(self, drafts: Drafts, policies: Policies) -> None:
        if policies.phone_default_region != SHIPPING_COUNTRY:
            return
        for name, draft in drafts.items():
            for column, kind in draft.hashed.items():
                if kind.text == "phone":
                    self._problems.add(
                        kind.place,
                        f"sources.{name}.hash.{column}",
                        "cannot be hashed by the order's country, which its row does not tell; name one country in"
                        " phone_default_region",
                    )

    def _offset(self, schema: SchemaBuilder) -> Expression | None:
        """Seconds as an expression over the order. A bare number is checked here, a value when an order is seen."""
        key = "time_of_purchase_offset_secs"
        expression = self._condition(key, schema)
        text = expression.text.strip() if expression else ""
        if text.lstrip("-").replace(".", "").isdigit() and (
            not text.lstrip("-").isdigit() or abs(int(text)) > MAX_OFFSET
        ):
            self._top.wrong(key, f"must be whole seconds, at most {MAX_OFFSET} either way")
        return expression

    def _policies(self) -> Policies:
        top, default = self._top, Policies()
        region = top.text("phone_default_region") or default.phone_default_region
        if region != SHIPPING_COUNTRY and region not in ALPHA3_BY_ALPHA2:
            top.wrong("phone_default_region", f"must be {SHIPPING_COUNTRY}, or an alpha-2 country code such as US")
        return Policies(
            Unplaced(top.choice("refund_without_product", tuple(Unplaced), default.refund_without_product)),
            top.choice("merge_products", ("variant", "id"), default.merge_products),
            top.choice("merge_refunds", ("event", "product"), default.merge_refunds),
            region,
        )

    def _hooks(self) -> Hooks:
        name = self._top.text("hooks")
        if name is None:
            return Hooks()
        try:
            return load_hooks(self._path.parent.joinpath(name))
        except Mistake as mistake:
            self._top.wrong("hooks", str(mistake))
            return Hooks()

    def _version(self, hooks: Hooks) -> str:
        content = orjson.dumps([ENGINE, plain(self._table), *filter(None, [hooks.digest])])
        return hashlib.sha256(content).hexdigest()[:16]
