"""Which files of `helm/` are made, and what has to stand in them."""

from __future__ import annotations

import json
from pathlib import Path

from chart.dashboards import dashboards
from chart.pages import metrics_page, readme
from chart.schema import values_schema
from chart.values import HELM

REFERENCE = HELM.parent / "config" / "reference.yaml"


def made() -> dict[Path, str]:
    """Path and text of every made file."""
    files = {
        HELM / "values.schema.json": json.dumps(values_schema(), indent=1) + "\n",
        HELM / "README.md": readme(),
        HELM / "METRICS.md": metrics_page(),
        HELM / "files" / "reference.yaml": REFERENCE.read_text(encoding="utf-8"),
    }
    for name, board in dashboards().items():
        files[HELM / "dashboards" / f"{name}.json"] = json.dumps(board, indent=1, ensure_ascii=False) + "\n"
    return files
