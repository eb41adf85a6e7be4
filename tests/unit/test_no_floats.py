"""No float in what makes documents: money is decimal from the OMS to the JSON bytes."""

from __future__ import annotations

import ast
import decimal
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

import daemon

PURE = [
    path
    for package in ("mapping", "document")
    for path in sorted((Path(daemon.__file__).parent / package).rglob("*.py"))
]


def floats(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Lines that make a float: a literal, `float(...)`, a quotient of Python's own, a module that calculates in them.

    To ask whether something is a float is no float; nor is a moment, whose name ends with `_at`.
    """
    asked = {
        id(name)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "isinstance"
        for name in ast.walk(call.args[1])
    }
    asked |= {
        id(field.annotation)
        for field in ast.walk(tree)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and field.target.id.endswith("_at")
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) in (float, complex):
            yield node.lineno, f"the literal {node.value}"
        elif isinstance(node, ast.Name) and node.id == "float" and id(node) not in asked:
            yield node.lineno, "float"
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            yield node.lineno, "/"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from ((node.lineno, f"import {name}") for name in names if name in ("math", "statistics", "random"))


@pytest.mark.parametrize("path", PURE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_nothing_here_makes_a_float(path: Path) -> None:
    """Ruff has no rule for it."""
    assert list(floats(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "text", ["x = 0.1", "x = float(y)", "x = a / b", "x /= 2", "import math", "from random import x"]
)
def test_the_ban_finds(text: str) -> None:
    """What it is there for."""
    assert len(list(floats(ast.parse(text)))) == 1
    assert list(floats(ast.parse("isinstance(x, float | int)"))) == []


def test_decimals_meet_no_float_in_the_whole_suite() -> None:
    """conftest.py sets the trap for this thread and for those that start later."""
    assert decimal.DefaultContext.traps[decimal.FloatOperation]
    with pytest.raises(decimal.FloatOperation):
        Decimal(float("0.1"))
    with pytest.raises(decimal.FloatOperation):
        assert Decimal(1) < float("0.1")
