"""The pages of the chart: README (values) and METRICS (what is declared in `daemon/operate/metrics.py`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from chart.values import ALERT, HELM, Value, read_values
from daemon.operate.metrics import Declaration, Metrics

BELOW = "<!-- The table below is made by `make generate` from {source}. -->\n"


def readme() -> str:
    """The chart's README with the table of all values."""
    rows = [f"| `{'.'.join(value.key)}` | {_default(value)} | {_cell(value.text)} |" for value in read_values()]
    return _page("README.md", "values.yaml", ("value", "default", "meaning"), rows)


def metrics_page() -> str:
    """METRICS.md with the table of all metrics."""
    rows = [_metric(one) for one in Metrics.declarations()]
    return _page("METRICS.md", "daemon/operate/metrics.py", ("metric", "type", "unit", "labels", "meaning"), rows)


def _page(name: str, source: str, columns: Sequence[str], rows: list[str]) -> str:
    """What people wrote above the mark, and the table. Raises ValueError where the mark is gone."""
    mark = BELOW.format(source=source)
    written, found, _ = (HELM / name).read_text(encoding="utf-8").partition(mark)
    if not found:
        raise ValueError(f"{name}: lacks the line {mark!r}")
    head = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    return "\n".join([written + mark, *head, *rows, ""])


def _default(value: Value) -> str:
    if value.inner:
        return ""
    if value.schema == ALERT:
        return ", ".join(f"{name} {shown}" for name, shown in value.default.items() if name != "enabled")
    return f"`{_cell(json.dumps(value.default))}`"


def _metric(one: Declaration) -> str:
    labels = "; ".join(f"`{name}`: {_cell(values)}" for name, values in one.labels.items())
    return f"| `{one.name}` | {one.kind} | {one.unit} | {labels} | {_cell(one.meaning)} |"


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|")
