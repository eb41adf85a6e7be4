"""Loads the named statements of the `.sql` files beside this module.

A statement begins at a line `-- name: some_name` and ends at the next one; the comment lines below the name say what
it is for and stay in the text that the server logs.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from types import MappingProxyType

_NAME = re.compile(r"^-- name: *(\w+) *$", re.MULTILINE)


@cache
def queries(file: str) -> MappingProxyType[str, str]:
    """All statements of one file, by name. Raises ValueError for a name that stands twice."""
    parts = _NAME.split(files("daemon.state").joinpath(file).read_text(encoding="utf-8"))
    named: dict[str, str] = {}
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        if name in named:
            raise ValueError(f"{file}: two statements are named {name}")
        named[name] = text.strip().rstrip(";")
    return MappingProxyType(named)
