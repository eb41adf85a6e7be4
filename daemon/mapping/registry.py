"""How a function of the mapping language is registered, and how it reads its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from daemon.mapping.faults import Fault
from daemon.mapping.kinds import ANY, VALUE, Kind, ListKind
from daemon.mapping.operators import is_missing, is_number, name_of


@dataclass(frozen=True, slots=True)
class Function:
    """One function: `usage` is its signature, `summary` its meaning; `paths` are the arguments that name columns."""

    name: str
    usage: str
    summary: str
    run: Callable[..., Any]
    kind: Callable[[list[Kind]], Kind]
    paths: tuple[int, ...] = ()
    lazy: bool = False


FUNCTIONS: dict[str, Function] = {}


def value_kind(_: list[Kind]) -> Kind:
    """The function gives a plain value."""
    return VALUE


def values_kind(_: list[Kind]) -> Kind:
    """The function gives a list of plain values."""
    return ListKind(VALUE)


def any_kind(_: list[Kind]) -> Kind:
    """What the function gives is only known when an order is seen."""
    return ANY


def register(
    name: str, kind: Callable[[list[Kind]], Kind] = value_kind, paths: tuple[int, ...] = (), *, lazy: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function of the language. `paths` are the positions of arguments that name a column or path of rows;
    a `lazy` function is handed callables and reads only the arguments it needs."""

    def add(run: Callable[..., Any]) -> Callable[..., Any]:
        parts = [str(part).split(":")[0] for part in inspect.signature(run).parameters.values()]
        summary = (run.__doc__ or "").strip().split("\n")[0]
        FUNCTIONS[name] = Function(name, f"{name}({', '.join(parts)})", summary, run, kind, paths, lazy)
        return run

    return add


def number_of(value: Any, what: str) -> Any:
    """The argument as a number. Raises Fault; `what` is the call as it is written."""
    if is_number(value):
        return value
    hint = "; declare `types: {column: numeric}` or write dec(x)" if isinstance(value, str) else ""
    raise Fault(f"{what} needs a number, not {name_of(value)}{hint}")


def items_of(value: Any, what: str) -> Sequence[Any]:
    """The argument as a list. Raises Fault."""
    if isinstance(value, list | tuple):
        return value
    raise Fault(f"{what} needs a list, not {name_of(value)}")


def text_of(value: Any, what: str) -> str:
    """The argument as a text. Raises Fault."""
    if isinstance(value, str):
        return value
    raise Fault(f"{what} needs a text, not {name_of(value)}; write text(x)")


def is_blank(value: Any) -> bool:
    """Whether the argument is null, a missing row, or text of nothing but blanks."""
    return is_missing(value) or (isinstance(value, str) and not value.strip())
