"""Drills: break a running exchange, under load, and prove that nothing was lost.

    load.py       a client in a process of its own; writes down what it sent and what it was told
    instance.py   an exchange to be broken, and the processes of it
    faults.py     what can be done to it
    check.py      what the clients wrote down, against the journal
    receipt.py    what came of it
    drill.py      all of it, in order

The clients' own records are the truth: what was told to them must be in the journal, once, and
nothing that concerned them may be missing between.
"""
