"""Expressions: Jinja2's expression syntax compiled to closures, with a small closed meaning of our own.

The sandbox is the translation itself: only the kinds of nodes listed here mean anything; names are the rule's own
variables, calls go to registered functions, attributes are read from rows and parsed JSON, and no Python attribute or
method can be reached.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeAlias

from jinja2 import nodes

from daemon.mapping import operators
from daemon.mapping.faults import Fault, Mistake, near
from daemon.mapping.functions import Function, Shares
from daemon.mapping.graph import ABSENT, Empty, Row, RowList
from daemon.mapping.kinds import (
    ANY,
    VALUE,
    GroupKind,
    Kind,
    ListKind,
    RowKind,
    SharesKind,
    ValueKind,
    item_kind,
    join_kinds,
    kind_of,
)
from daemon.mapping.place import Place
from daemon.mapping.syntax import parse_expression

Frame: TypeAlias = Dict[str, Any]
"""The values of an expression's names: `row`, `order`, loop variables."""

Run: TypeAlias = Callable[[Frame], Any]


class Schema(Protocol):
    """What is declared about sources; compiling an expression asks it and records what it touches."""

    @property
    def constants(self) -> Dict[str, Any]:
        """The values of the names under `constants:`."""

    @property
    def functions(self) -> Dict[str, Function]:
        """The functions of the language, and those of the mapping's hooks."""

    def attribute(self, source: str, name: str, place: Place) -> Kind:
        """The kind of `row.name`. Raises Mistake where a derived column or relation would need itself."""

    def declares(self, source: str, name: str) -> bool:
        """Whether `row.name` is a derived column or relation, which hides a column of that name."""

    def column(self, source: str, name: str, place: Place) -> Kind:
        """The kind of `row['name']`, always the column."""

    def anywhere(self, name: str) -> None:
        """Note that a column of that name is read of a row whose source is not known here."""

    def relations(self, source: str) -> list[str]:
        """The names that can be navigated from a row of that source."""


@dataclass(frozen=True, slots=True)
class Expression:
    """One compiled expression and where it stands in the mapping file."""

    text: str
    attribute: str
    place: Place
    kind: Kind
    run: Run = field(repr=False, compare=False)

    def evaluate(self, frame: Frame) -> Any:
        """The value. Raises Fault naming place, attribute and expression; NotYet where a needed part is not there."""
        try:
            return self.run(frame)
        except Fault as fault:
            if fault.where is None:
                fault.where = self.label
            else:
                fault.needed_by = self.attribute
            raise
        except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
            failure = Fault(f"cannot be worked out for these values ({type(error).__name__})")
            failure.where = self.label
            raise failure from error

    @property
    def label(self) -> str:
        """Place, attribute and text, as errors name the expression."""
        return f"{self.place}: {self.attribute}: {' '.join(self.text.split())}"


def compile_expression(text: str, attribute: str, place: Place, names: Dict[str, Kind], schema: Schema) -> Expression:
    """Compile one expression whose free names are `names`. Raises Mistake saying what is wrong and the cure."""
    run, kind = _Compiler(names, schema, place).compile(parse_expression(text))
    return Expression(text, attribute, place, kind, run)


Compiled: TypeAlias = tuple[Run, Kind]

_BINARY: dict[type[nodes.BinExpr], Callable[[Any, Any], Any]] = {
    nodes.Add: operators.add,
    nodes.Sub: operators.subtract,
    nodes.Mul: operators.multiply,
    nodes.Div: operators.divide,
}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operators.equal,
    "ne": operators.unequal,
    "lt": operators.less,
    "lteq": operators.less_equal,
    "gt": operators.greater,
    "gteq": operators.greater_equal,
    "in": operators.contains,
    "notin": operators.not_contains,
}
_REFUSED: dict[type[nodes.Node], str] = {
    nodes.Filter: "filters (`|`) are not part of the language; call a function, such as upper(x)",
    nodes.FloorDiv: "`//` is not part of the language",
    nodes.Mod: "`%` is not part of the language",
    nodes.Pow: "`**` is not part of the language",
    nodes.Slice: "slices are not part of the language",
}


_NULLS = frozenset({"null", "nil", "undefined", "nothing"})


class _Compiler:
    """Turns one syntax tree into closures over a frame, and finds out the kind of each value on the way."""

    def __init__(self, names: Dict[str, Kind], schema: Schema, place: Place) -> None:
        self._names = names
        self._schema = schema
        self._place = place

    def compile(self, node: nodes.Node) -> Compiled:
        """Closure and kind of one node. Raises Mistake for what the language does not have."""
        if isinstance(node, nodes.Const):
            return self._constant(node.value)
        if isinstance(node, nodes.TemplateData):
            return self._constant(node.data)
        if isinstance(node, nodes.BinExpr) and type(node) in _BINARY:
            return self._binary(node)
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if type(node) in _REFUSED or method is None:
            raise Mistake(_REFUSED.get(type(node), f"{type(node).__name__} is not part of the language"))
        result: Compiled = method(node)
        return result

    def _constant(self, value: Any) -> Compiled:
        return (lambda _: value), VALUE

    def _name(self, node: nodes.Name) -> Compiled:
        name = node.name
        if name not in self._names:
            if name in self._schema.functions:
                raise Mistake(f"`{name}` is a function; call it: {name}(...)")
            if name in self._schema.constants:
                constant = self._schema.constants[name]
                return (lambda _: constant), kind_of(constant)
            if name.lower() in _NULLS:
                raise Mistake(f"unknown name `{name}`; null is written `none`")
            known = [*self._names, *self._schema.constants, "none", "true", "false"]
            raise Mistake(f"unknown name `{name}`; {near(name, known)}")
        return (lambda frame: frame[name]), self._names[name]

    def _binary(self, node: nodes.BinExpr) -> Compiled:
        left, left_kind = self.compile(node.left)
        right, right_kind = self.compile(node.right)
        operate = _BINARY[type(node)]
        kind: Kind = VALUE
        if not (isinstance(left_kind, ValueKind) and isinstance(right_kind, ValueKind)):
            kind = join_kinds(left_kind, right_kind) if isinstance(node, nodes.Add) else VALUE
        return (lambda frame: operate(left(frame), right(frame))), kind

    def _neg(self, node: nodes.Neg) -> Compiled:
        value, _ = self.compile(node.node)
        return (lambda frame: operators.negate(value(frame))), VALUE

    def _pos(self, node: nodes.Pos) -> Compiled:
        return self.compile(node.node)

    def _not(self, node: nodes.Not) -> Compiled:
        value, _ = self.compile(node.node)
        return (lambda frame: not value(frame)), VALUE

    def _and(self, node: nodes.And) -> Compiled:
        left, left_kind = self.compile(node.left)
        right, right_kind = self.compile(node.right)
        return (lambda frame: left(frame) and right(frame)), join_kinds(left_kind, right_kind)

    def _or(self, node: nodes.Or) -> Compiled:
        left, left_kind = self.compile(node.left)
        right, right_kind = self.compile(node.right)
        return (lambda frame: left(frame) or right(frame)), join_kinds(left_kind, right_kind)

    def _condexpr(self, node: nodes.CondExpr) -> Compiled:
        if node.expr2 is None:
            raise Mistake("`a if c` needs `else`; write `a if c else none`")
        test, _ = self.compile(node.test)
        yes, yes_kind = self.compile(node.expr1)
        no, no_kind = self.compile(node.expr2)
        return (lambda frame: yes(frame) if test(frame) else no(frame)), join_kinds(yes_kind, no_kind)

    def _concat(self, node: nodes.Concat) -> Compiled:
        parts = [self.compile(part)[0] for part in node.nodes]
        return (lambda frame: operators.concat([part(frame) for part in parts])), VALUE

    def _compare(self, node: nodes.Compare) -> Compiled:
        left, _ = self.compile(node.expr)
        steps = [(_COMPARE[operand.op], self.compile(operand.expr)[0]) for operand in node.ops]
        if len(steps) == 1:
            compare, right = steps[0]
            return (lambda frame: compare(left(frame), right(frame))), VALUE

        def chain(frame: Frame) -> bool:
            value = left(frame)
            for compare, right in steps:
                other = right(frame)
                if not compare(value, other):
                    return False
                value = other
            return True

        return chain, VALUE

    def _test(self, node: nodes.Test) -> Compiled:
        if node.name != "none" or node.args or node.kwargs:
            raise Mistake(f"`is {node.name}` is not part of the language; only `is none` and `is not none` are")
        value, _ = self.compile(node.node)
        return (lambda frame: operators.is_missing(value(frame))), VALUE

    def _list(self, node: nodes.List | nodes.Tuple) -> Compiled:
        compiled = [self.compile(item) for item in node.items]
        parts = [run for run, _ in compiled]
        kind: Kind = ListKind(join_kinds(*(kind for _, kind in compiled))) if compiled else VALUE
        if all(isinstance(item, nodes.Const) for item in node.items):
            constant = tuple(run({}) for run in parts)
            return (lambda _: constant), kind
        return (lambda frame: [part(frame) for part in parts]), kind

    _tuple = _list

    def _dict(self, node: nodes.Dict) -> Compiled:
        pairs = []
        for pair in node.items:
            if not isinstance(pair.key, nodes.Const) or not isinstance(pair.key.value, str):
                raise Mistake("the names in `{...}` must be texts, such as {'a': 1}")
            pairs.append((pair.key.value, self.compile(pair.value)[0]))
        return (lambda frame: {name: run(frame) for name, run in pairs}), ANY

    def _getattr(self, node: nodes.Getattr) -> Compiled:
        base, kind = self.compile(node.node)
        name = node.attr
        if isinstance(kind, RowKind):
            found = self._schema.attribute(kind.source, name, self._place)
            reading = _declared if self._schema.declares(kind.source, name) else _column
            return reading(base, name, node.node.name if isinstance(node.node, nodes.Name) else None), found
        if isinstance(kind, ListKind):
            raise Mistake(f"`.{name}` after a list; write first(...).{name}, col(..., '{name}') or a `for`")
        if isinstance(kind, ValueKind):
            raise Mistake(f"`.{name}` after a column or a value, which has no parts; {self._navigable(node.node)}")
        if isinstance(kind, GroupKind):
            if name not in ("key", "rows"):
                raise Mistake(f"`.{name}` of a group; a group has `.key` and `.rows`")
            return (lambda frame: base(frame)[name]), kind.key if name == "key" else kind.rows
        self._schema.anywhere(name)
        return (lambda frame: _member(base(frame), name)), ANY

    def _navigable(self, node: nodes.Node) -> str:
        if isinstance(node, nodes.Getattr):
            _, kind = self.compile(node.node)
            if isinstance(kind, RowKind):
                relations = self._schema.relations(kind.source)
                told = near(node.attr, relations).removesuffix("?")
                return (
                    f"no relation `{node.attr}` is declared for {kind.source}; {told}, or is it JSON text? then write"
                    f" parse(....{node.attr})"
                )
        return "for JSON text write parse(x)"

    def _getitem(self, node: nodes.Getitem) -> Compiled:
        base, kind = self.compile(node.node)
        constant = node.arg.value if isinstance(node.arg, nodes.Const) else None
        if isinstance(kind, RowKind):
            if not isinstance(constant, str):
                raise Mistake("a row's column is named by a text, such as row['name']")
            column = constant
            found = self._schema.column(kind.source, column, self._place)
            return (lambda frame: base(frame).column(column)), found
        argument, _ = self.compile(node.arg)
        if isinstance(constant, str):
            self._schema.anywhere(constant)
        return (lambda frame: _item(base(frame), argument(frame))), VALUE if isinstance(
            kind, SharesKind
        ) else _item_kind(kind)

    def _call(self, node: nodes.Call) -> Compiled:
        if not isinstance(node.node, nodes.Name):
            raise Mistake("only functions can be called, such as upper(x); values have no methods")
        name = node.node.name
        function = self._schema.functions.get(name)
        if function is None:
            raise Mistake(f"unknown function `{name}`; {near(name, self._schema.functions)}")
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            raise Mistake("`*` and `**` in calls are not part of the language")
        kinds: list[Kind] = []
        positional = []
        for index, argument in enumerate(node.args):
            run, kind = self.compile(argument)
            if index in function.paths:
                kind = self._path_kind(function, argument, kinds)
            positional.append(run)
            kinds.append(kind)
        named = {keyword.key: self.compile(keyword.value)[0] for keyword in node.kwargs}
        try:
            inspect.signature(function.run).bind(*positional, **named)
        except TypeError as error:
            raise Mistake(f"{function.usage} is called wrongly: {error}") from None
        return _calling(function, positional, named), function.kind(kinds)

    def _path_kind(self, function: Function, argument: nodes.Expr, kinds: list[Kind]) -> Kind:
        """The kind at a path such as 'line.gross', starting from the rows before it."""
        if not isinstance(argument, nodes.Const) or not isinstance(argument.value, str):
            raise Mistake(f"{function.usage}: the column is named by a text, such as 'amount'")
        kind = next((item_kind(kind) for kind in kinds if isinstance(kind, ListKind)), ANY)
        for name in argument.value.split("."):
            if not name.strip():
                raise Mistake(f"{function.usage}: `{argument.value}` is not a path such as 'line.amount'")
            if isinstance(kind, ValueKind | ListKind):
                raise Mistake(f"{function.usage}: `{name}` in '{argument.value}' comes after something that is no row")
            if isinstance(kind, RowKind):
                kind = self._schema.attribute(kind.source, name, self._place)
            else:
                self._schema.anywhere(name)
                kind = ANY
        return kind


def _calling(function: Function, positional: list[Run], named: dict[str, Run]) -> Run:
    call = function.run
    if function.lazy:
        return lambda frame: call(*[partial(run, frame) for run in positional])
    if not named and len(positional) == 1:
        (only,) = positional
        return lambda frame: call(only(frame))
    if not named:
        return lambda frame: call(*[run(frame) for run in positional])
    return lambda frame: call(*[run(frame) for run in positional], **{name: run(frame) for name, run in named.items()})


# Both spare themselves a call where the row is a variable.
def _column(base: Run, name: str, variable: str | None) -> Run:
    def read(frame: Frame) -> Any:
        row = base(frame) if variable is None else frame[variable]
        try:
            return row.known[name]
        except KeyError:
            return row.column(name)

    return read


def _declared(base: Run, name: str, variable: str | None) -> Run:
    def read(frame: Frame) -> Any:
        row = base(frame) if variable is None else frame[variable]
        value = row.worked_out.get(name, ABSENT)
        return row.work_out(name) if value is ABSENT else value

    return read


def _item_kind(kind: Kind) -> Kind:
    return kind.item if isinstance(kind, ListKind) else ANY


def _member(value: Any, name: str) -> Any:
    """`.name` of something whose kind was not known at load."""
    if isinstance(value, Row | Empty):
        return value.attribute(name)
    if isinstance(value, dict):
        return value.get(name)
    if value is None:
        return None
    raise Fault(f"`.{name}` after {operators.name_of(value)}")


def _item(value: Any, key: Any) -> Any:
    """`[key]`: a member of an object, an item of a list (null past its end), or a row's share."""
    if isinstance(value, Shares):
        return value.of(key)
    if isinstance(value, dict):
        return value.get(key)
    if isinstance(value, list | tuple):
        if type(key) is not int:
            raise Fault("a list's item is named by a whole number")
        if -len(value) <= key < len(value):
            return value[key]
        return value.empty if isinstance(value, RowList) else None
    if isinstance(value, Row | Empty) and isinstance(key, str):
        return value.column(key)
    if value is None:
        return None
    raise Fault(f"`[...]` after {operators.name_of(value)}")
