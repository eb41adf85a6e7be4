"""Dashboards, alerts and runbook name only what the daemon exports, and belong together."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chart.dashboards import BOARDS, dashboards
from chart.rules import ALERTS, KNOBS, rules
from chart.values import HELM
from typer.core import TyperGroup
from typer.main import get_command

from daemon.cli.main import app
from daemon.operate.metrics import Declaration, Metrics

SCRAPED = {"job", "pod", "instance"}  # what Prometheus adds to every series
UNITS = {"s", "short", "ops", "reqps", "Bps", "bytes", "percentunit"}
SEVERITIES = {"critical", "warning"}
RUNBOOK = (HELM / "RUNBOOK.md").read_text(encoding="utf-8")
DECLARED = {one.name: one for one in Metrics.declarations()}


def _series() -> dict[str, tuple[Declaration, set[str]]]:
    """Every series that a scrape can hold, with its labels."""
    found = {}
    for one in DECLARED.values():
        labels = set(one.labels) | SCRAPED
        if one.kind == "histogram":
            found[f"{one.name}_bucket"] = (one, labels | {"le"})
            found[f"{one.name}_sum"] = found[f"{one.name}_count"] = (one, labels)
        else:
            found[one.name] = (one, labels)
    return found


SERIES = _series()


def _panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, board in dashboards().items():
        yield from ((f"{name}: {panel['title']}", panel) for panel in board["panels"] if panel["type"] != "row")


PANELS = dict(_panels())
EXPRESSIONS = {name: rule["expr"] for name, rule in ALERTS.items()} | {
    f"{name} {target['refId']}": target["expr"] for name, panel in PANELS.items() for target in panel["targets"]
}


def _values(declared: str) -> set[str] | None:
    """The closed set that a declaration gives, or None where it names one in words."""
    return set(re.split(r" \| ", declared)) if " | " in declared else None


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions_name_series_and_labels_that_exist(name: str) -> None:
    """Every selector and every grouping: a panel without data and an alert that never fires begin with a typo."""
    expression = EXPRESSIONS[name]
    selectors = re.findall(r"(order_sync_\w+)\{([^}]*)\}", expression)
    assert selectors
    assert len(selectors) == len(re.findall(r"order_sync_\w+", expression)), "a series without its job"
    known: set[str] = set()
    for series, matchers in selectors:
        assert series in SERIES, series
        declared, labels = SERIES[series]
        known |= labels
        pairs = re.findall(r'(\w+)\s*(=~|=)\s*"([^"]*)"', matchers)
        assert "job" in {label for label, _, _ in pairs}
        for label, how, wanted in pairs:
            assert label in labels, (series, label)
            closed = _values(declared.labels.get(label, ""))
            if closed is not None:
                met = {one for one in closed if re.fullmatch(wanted, one)} if how == "=~" else closed & {wanted}
                assert met, (series, label, wanted)
    for grouping in re.findall(r"by \(([^)]*)\)", expression):
        assert {label.strip() for label in grouping.split(",")} <= known, (name, grouping)


def test_every_metric_is_shown() -> None:
    """On a panel of some dashboard: what nobody sees need not be measured."""
    shown = {SERIES[series][0].name for text in EXPRESSIONS.values() for series in re.findall(r"order_sync_\w+", text)}
    assert DECLARED.keys() - shown == set()


@pytest.mark.parametrize("name", PANELS)
def test_every_panel_has_a_unit_a_sentence_and_a_runbook_entry(name: str) -> None:
    """And its legend names labels that its query keeps."""
    panel = PANELS[name]
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert re.fullmatch(r"[A-Z1].{20,}[.]", panel["description"])
    [link] = panel["links"]
    assert link["url"].removeprefix("@runbook@#") in {alert.lower() for alert in ALERTS}
    for target in panel["targets"]:
        kept = {label for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in group.split(", ")}
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept


def test_dashboards_have_stable_names_and_panels_do_not_overlap() -> None:
    """A uid that moves breaks every bookmark."""
    assert {board["uid"] for board in dashboards().values()} == {f"order-sync-{name}" for name in BOARDS}
    for board in dashboards().values():
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            assert not cells & taken
            assert at["x"] + at["w"] <= 24
            taken |= cells


def test_alerts_values_and_runbook_have_the_same_names() -> None:
    """An alert without knobs cannot be installed, one without an entry helps nobody."""
    assert list(ALERTS) == list(KNOBS)
    assert re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE) == list(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_it_means(name: str) -> None:
    """Two severities, a threshold exactly where the expression has one, and words about labels that it keeps."""
    rule, knobs = ALERTS[name], KNOBS[name]
    assert knobs["severity"] in SEVERITIES
    assert ("threshold" in knobs) == ("@threshold@" in rule["expr"])
    assert rule["of"] in {"both", "ingest", "deliver"}
    kept = {label for group in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in group.split(", ")}
    words = rule["summary"] + rule["description"]
    assert set(re.findall(r"\$labels\.(\w+)", words)) <= kept
    assert rule["description"].endswith(".")


@pytest.mark.parametrize("name", ALERTS)
def test_a_runbook_entry_has_meaning_look_and_deed(name: str) -> None:
    """In this order, each with something said."""
    entry = RUNBOOK.split(f"## {name}\n")[1].split("\n## ")[0]
    assert re.fullmatch(r"\n\*\*Means\*\* .+\n\*\*Look\*\* .+\n\*\*Do\*\* .+\n*", entry, re.DOTALL)


def test_the_runbook_names_metrics_that_exist() -> None:
    """With the full name."""
    assert set(re.findall(r"order_sync_\w+", RUNBOOK)) <= SERIES.keys() | DECLARED.keys()


PLACEHOLDERS = {"DAY": "2026-03-01", "ID": "1"}


def _commands() -> list[str]:
    """What the runbook would have somebody type."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return sorted({one for one in re.findall(r"`([^`\n]+)`", RUNBOOK) if one.split()[0] in group.commands})


@pytest.mark.parametrize("typed", _commands())
def test_the_runbook_names_commands_that_exist(typed: str) -> None:
    """With the arguments and options that they take; one that needs orders or `--all` is given one of the two."""
    words = [PLACEHOLDERS.get(word, word) for word in typed.replace("…", "").split()]
    command: Any = get_command(app)
    while isinstance(command, TyperGroup) and words:
        command = command.commands[words.pop(0)]
    if isinstance(command, TyperGroup):
        return  # it stands for a word there: `rejects` is a reason too
    command.make_context(typed, list(words))
    if any("--all" in parameter.opts for parameter in command.params):
        assert words, "neither orders nor --all"


def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    """Prometheus itself parses every expression and annotation."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; it comes with the package prometheus")
    panels = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, (name, expression) in enumerate(EXPRESSIONS.items())
        if name not in ALERTS
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"groups": [{"name": "all", "rules": rules("sync/shop") + panels}]}))
    done = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
