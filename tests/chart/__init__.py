"""Makes what is generated in `helm/` from where it is declared once, and renders the chart with the real Helm."""
