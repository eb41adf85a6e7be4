"""order-sync keeps Northbeam's orders equal to the orders of an OMS. What happens to one change, in order:

1. `ingest.kafka` consumes a message that Debezium wrote; `ingest.debezium` decodes it to a change, a skip or a reject.
2. `ingest.fold` coalesces the changes of a batch; `ingest.loop` carries it to Postgres, again and again if need be.
3. `state.ingest_store` folds it in one transaction: rows, the orders they belong to, due marks, rejects, positions.
4. `state.schedule` says when an order is due: quiet for a while, but never later than a maximum wait.
5. `delivery.loop` claims due orders, reads their rows, and `document.assemble` makes of them what `mapping` says.
6. `delivery.core` decides what is sent together, within the byte budget, never two requests naming one order.
7. `delivery.orders_api` posts; `delivery.verdict` says what the answer means; `state.delivery_store` settles it.

This package is called `daemon`; so is the import package of the distribution `python-daemon`. Do not install both.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("northbeam-order-sync")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
