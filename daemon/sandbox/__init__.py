"""A stand-in of Northbeam's Orders API on a local port, for tests, for the demo and for users' own CI.

    options.py     every switch, with its default
    scenario.py    the same from a file, with faults
    contract.py    bytes of a POST -> orders and problems, by our transcription of the published contract
    vendor.py      what becomes of one request: access, budget, faults, verdict, store (no I/O, no clock)
    app.py         the same over HTTP; admin.py the `/_sandbox/` endpoints; server.py runs both; client.py talks to them

Nothing here imports the daemon's own document or delivery code: a mistake there must not be repeated by its judge.
"""
