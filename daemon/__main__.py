"""`python -m daemon` is `order-sync`."""

from daemon.cli.main import main

main()
