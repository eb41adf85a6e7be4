"""A merchant's own Python beside the mapping: more functions, and one last step over the document.

Like the mapping it is trusted configuration: it runs in this process and may do whatever this process may. What it
gives is checked like everything else, and its errors are told by file, line and name, without their text, which may
hold a customer's data.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
import traceback
import types
from collections.abc import Callable
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from daemon.mapping.faults import Fault, Mistake, NotYet
from daemon.mapping.functions import FUNCTIONS, Function
from daemon.mapping.graph import Empty, Row
from daemon.mapping.kinds import ANY

AFTER = "after"
_VALUES = (type(None), bool, int, Decimal, str, Row, Empty)


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a hooks file holds. `digest` is that of its text: a part of the mapping's version."""

    file: str = ""
    digest: str = ""
    functions: Dict[str, Function] = field(default_factory=dict)
    after: Callable[[Any, Any], Any] | None = None

    def finished(self, document: dict[str, Any], order: Row | Empty, order_key: str) -> dict[str, Any]:
        """The document after the last step. Raises Fault, naming hook and order."""
        if self.after is None:
            return document
        given = _called(self.after, f"{AFTER}(document, order) of order {order_key}", self.file, (document, order), {})
        if not isinstance(given, dict):
            raise Fault(f"{self.file}: {AFTER} of order {order_key} gives {type(given).__name__}; return the document")
        return given


def load_hooks(path: Path) -> Hooks:
    """Run the file and take what it defines. Raises Mistake where it cannot be run or defines what it cannot."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise Mistake(
            f"{path.name} cannot be read: {error.strerror}; its place is told from the mapping file"
        ) from error
    digest = hashlib.sha256(text).hexdigest()
    module = types.ModuleType(f"order_sync_hooks_{digest[:16]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses look up what they belong to
    try:
        exec(compile(text, str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - trusted configuration
    except Exception as error:
        raise Mistake(
            f"{_where(error, path.name)}: {type(error).__name__} while it is loaded; mend it there"
        ) from error
    made = {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }
    after = made.pop(AFTER, None)
    if taken := sorted(made.keys() & FUNCTIONS.keys()):
        raise Mistake(f"{path.name} defines {taken[0]}, which is a function of the language; choose another name")
    return Hooks(path.name, digest, {name: _function(name, run, path.name) for name, run in made.items()}, after)


def _function(name: str, run: Callable[..., Any], file: str) -> Function:
    @functools.wraps(run)
    def guarded(*arguments: Any, **named: Any) -> Any:
        given = _called(run, name, file, arguments, named)
        if not _is_value(given):
            raise Fault(
                f"{name}(...) of {file} gives what is no value of the language, such as a float; make it Decimal"
            )
        return given

    usage = f"{name}({', '.join(inspect.signature(run).parameters)})"
    return Function(name, usage, (run.__doc__ or "").strip().split("\n")[0], guarded, lambda _: ANY)


def _called(run: Callable[..., Any], name: str, file: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    try:
        return run(*arguments, **named)
    except (Fault, NotYet):
        raise
    except Exception as error:
        raise Fault(f"{_where(error, file)}: {name} raises {type(error).__name__}; mend it there") from error


def _where(error: Exception, file: str) -> str:
    """File and line of the hook that an error comes from."""
    if isinstance(error, SyntaxError):
        return f"{file}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).name == file]
    return f"{file}:{lines[-1]}" if lines else file


def _is_value(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_value(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_value(item) for key, item in value.items())
    return isinstance(value, _VALUES)
