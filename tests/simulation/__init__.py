"""Delivery under one virtual clock and one seeded scheduler: the real core, loop and store, and the sandbox's vendor.

A world is made from a seed alone. Processes deliver, a shop changes orders, faults happen; then everything is mended,
and an oracle holds what the vendor has against what the rows say. `python -m simulation` runs seeds, see `runner.py`.

    clockwork.py   an event loop that is stepped, one for each process
    climate.py     what a seed asks for: settings, faults, how often
    shop.py        the orders, how they change, and what is true of them
    store.py       the store that processes see: slow, away, in doubt; and where they die
    network.py     the line to the vendor, and what becomes of each request
    postgres.py    the same store on real Postgres, whose clock is the world's
    process.py     one process: the real delivery loop in an event loop of its own
    episodes.py    faults that last for a while
    world.py       one run: storms and calms in turns
    oracle.py      what must hold while it runs, and in each calm
    mutants.py     ways to get delivery wrong, which the oracle must find
    runner.py      many seeds, and the verdict
"""
