"""The `document:` section: one expression per attribute, an object for the address, rules for the lists."""

from __future__ import annotations

from collections.abc import Mapping as Dict

from daemon.mapping.attributes import EXCLUSIVE, ORDER, Attribute, Type
from daemon.mapping.draft import check_name
from daemon.mapping.expressions import Expression
from daemon.mapping.faults import near
from daemon.mapping.kinds import Kind, SharesKind, item_kind
from daemon.mapping.model import ListRule, Rule
from daemon.mapping.schema import SchemaBuilder
from daemon.mapping.tree import Items, Problems, Scalar, Section, Table, Tree


class DocumentReader:
    """Reads the rules of the document and compiles their expressions."""

    def __init__(self, schema: SchemaBuilder, names: Dict[str, Kind], problems: Problems) -> None:
        self._schema = schema
        self._names = names
        self._problems = problems

    def read(self, table: Table) -> dict[str, Rule]:
        """All rules by attribute."""
        rules: dict[str, Rule] = {}
        section = Section(table, "document", self._problems, tuple(attribute.name for attribute in ORDER))
        self._required(section, ORDER, "an order")
        for raw, hashed in EXCLUSIVE:
            if raw in section and hashed in section:
                section.wrong(hashed, f"may not be sent together with {raw}; keep one of them")
        for attribute in ORDER:
            tree = section.get(attribute.name)
            if tree is not None:
                rule = self._rule(attribute, tree, f"document.{attribute.name}")
                if rule is not None:
                    rules[attribute.name] = rule
        return rules

    def _required(self, section: Section, attributes: tuple[Attribute, ...], of: str) -> None:
        for attribute in attributes:
            if attribute.required and not attribute.derived and attribute.name not in section:
                self._problems.add(section.place, f"{section.path}.{attribute.name}", f"is missing; {of} needs it")

    def _rule(self, attribute: Attribute, tree: Tree, path: str) -> Rule | None:
        if attribute.type is Type.OBJECT:
            return self._object(attribute, tree, path)
        if attribute.type is Type.LIST:
            trees = tree.items if isinstance(tree, Items) else (tree,)
            rules = [self._list_rule(attribute, item, path) for item in trees]
            return tuple(rule for rule in rules if rule is not None)
        return self._leaf(tree, path, self._names)

    def _leaf(self, tree: Tree, path: str, names: Dict[str, Kind]) -> Expression | None:
        if not isinstance(tree, Scalar):
            self._problems.add(tree.place, path, "must be one expression; quote it where it starts with [ or {")
            return None
        expression = self._schema.expression(tree, path, names)
        if expression is not None and isinstance(expression.kind, SharesKind):
            self._problems.add(tree.place, path, f"{tree.text}: allocate(...) gives shares; name one: shares[row]")
        return expression

    def _object(self, attribute: Attribute, tree: Tree, path: str) -> dict[str, Expression] | None:
        if not isinstance(tree, Table):
            names = ", ".join(part.name for part in attribute.parts)
            self._problems.add(tree.place, path, f"must be a table of {names}")
            return None
        return self._parts(attribute, tree, path, self._names)

    def _parts(self, attribute: Attribute, table: Table, path: str, names: Dict[str, Kind]) -> dict[str, Expression]:
        section = Section(table, path, self._problems, tuple(part.name for part in attribute.parts))
        self._required(section, attribute.parts, attribute.name)
        parts = {}
        for part in attribute.parts:
            tree = section.get(part.name)
            expression = self._leaf(tree, f"{path}.{part.name}", names) if tree is not None else None
            if expression is not None:
                parts[part.name] = expression
        return parts

    def _list_rule(self, attribute: Attribute, tree: Tree, path: str) -> ListRule | None:
        if not isinstance(tree, Table):
            self._problems.add(
                tree.place, path, "must be a rule {for: {name: list}, when: ..., item: {...}} or a list of rules"
            )
            return None
        section = Section(tree, path, self._problems, ("for", "when", "item"))
        names = dict(self._names)
        loops = []
        for name, text in section.texts("for"):
            check_name(name, text.place, f"{path}.for.{name}", self._problems, variable=True)
            if name in names or name in self._schema.constants:
                self._problems.add(text.place, f"{path}.for.{name}", f"`{name}` is taken; choose another name")
            expression = self._schema.expression(text, f"{path}.for.{name}", names)
            if expression is not None:
                loops.append((name, expression))
                names[name] = item_kind(expression.kind)
        when = section.scalar("when")
        condition = self._schema.expression(when, f"{path}.when", names) if when is not None else None
        item = section.table("item")
        if item is None:
            if "item" not in section:
                self._problems.add(
                    section.place, f"{path}.item", f"is missing; {near('item', ('for', 'when', 'item'))}"
                )
            return None
        return ListRule(tuple(loops), condition, self._parts(attribute, item, path, names))
