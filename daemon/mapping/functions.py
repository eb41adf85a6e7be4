"""The functions of the mapping language, in one registry: `FUNCTIONS` holds usage, meaning and code of each.

Texts, numbers, null: a function of one text or number gives null for null. A missing row counts as null. A value of
the wrong kind is a `Fault`, never a guess. The first line of each docstring is its entry in the reference.
"""

from __future__ import annotations

from daemon.mapping import number_functions, row_functions, text_functions
from daemon.mapping.number_functions import Shares
from daemon.mapping.registry import FUNCTIONS, Function

__all__ = ["FUNCTIONS", "Function", "Shares", "number_functions", "row_functions", "text_functions"]
