"""The chart's alerts as Prometheus reads them: what `templates/prometheusrule.yaml` makes, without Helm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML

from chart.values import HELM, read_values

Rule = dict[str, Any]

# By name: `enabled`, `severity`, `for` and, where it compares, `threshold`.
KNOBS: dict[str, dict[str, Any]] = {
    value.key[-1]: value.default
    for value in read_values()
    if value.key[:-1] == ("monitoring", "prometheusRule", "alerts")
}
# By name: `of`, `expr`, `summary` and `description`, with @marks@ in the expression.
ALERTS: dict[str, Rule] = {
    rule["alert"]: rule
    for rule in YAML(typ="safe", pure=True).load((HELM / "files" / "alerts.yaml").read_text(encoding="utf-8"))["alerts"]
}


def rules(
    job: str, *, within: float = 900, objective: float = 0.99, changes: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Rule]:
    """All alerts over the series of a scrape job. `changes` are knobs by alert that differ from values.yaml."""
    made = []
    for name, alert in ALERTS.items():
        knobs = KNOBS[name] | dict((changes or {}).get(name, {}))
        expression = marked(alert["expr"], job=job, within=within, objective=objective)
        made.append(
            {
                "alert": name,
                "expr": expression.replace("@threshold@", str(knobs.get("threshold"))),
                "for": knobs["for"],
                "labels": {"severity": knobs["severity"]},
                "annotations": {"summary": alert["summary"], "description": alert["description"]},
            }
        )
    return made


def marked(text: str, **marks: object) -> str:
    """The text with these @marks@ filled in."""
    for mark, value in marks.items():
        text = text.replace(f"@{mark}@", str(value))
    return text
