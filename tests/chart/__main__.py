"""`python -m chart`: write everything in `helm/` that is made from elsewhere."""

from __future__ import annotations

from chart.made import made

for path, text in made().items():
    path.write_text(text, encoding="utf-8")
