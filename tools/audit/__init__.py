"""The exchange once more, from docs/trading-rules.md: obviously right rather than fast.

Nothing here knows the engine. It reads log records in their order, decides, matches and books them
by the rules alone, and says where the log says something else.

    exchange.py     Auditor: records in; events and differences out
    decide.py       what is accepted, and what the sequencer stamps
    together.py     records that stand together: terms, replacements, lists
    definitions.py  assets, accounts, markets, sessions, and the rules of operators
    books.py        matching;  triggers.py: orders that wait
    money.py        balances, live orders and what they hold;  volume.py: fee tiers
    line.py         what the exchange does itself, and when it is due
    reports.py      who is told what
    invariants.py   what must hold whatever happened
    records.py      the bytes
"""
