"""The pipeline with many accounts: one session, each order for an account picked at random.

Question   what do a million accounts with four balances each cost, beside ten?
Set-up     as in pipeline.py, saturated, one market; a trusted session names the account of each
           command. The accounts are added and funded before, by records, through the same session.
Baseline   the same with ten accounts, in turn.
Left out   adding and funding them; the first second of each run.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import matchbox
from matchbox.shm.records import COMMAND, MONEY_RECORD, NAMED_RECORD

ASSETS = ("USD", "BTC", "ETH", "EUR")
FIRST = 2  # the first of them; 1 is where their money comes from
# Of the first account's 4 * 10^18 units of each asset.
_ALL_UNITS = 4 * 10**18
_BATCH = 16_384


def configuration(accounts: int) -> str:
    """What the configuration needs besides: limits, two assets more, money in all four."""
    deposits = "".join(
        f'[[deposit]]\naccount = "bot"\nasset = "{asset}"\namount = "40000000000"\n'
        for asset in ASSETS[2:]
    )
    assets = "".join(f'[[asset]]\nname = "{asset}"\nscale = 8\n' for asset in ASSETS[2:])
    return f"[limits]\nmax_accounts = {accounts + FIRST}\n{assets}{deposits}"


def connect(data: Path, accounts: int) -> tuple[matchbox.Session, int]:
    """A session that may name accounts, all of which have money; and the last log sequence."""
    session = matchbox.connect(data, account="bot", name="many", operator=True)
    numbers = np.arange(FIRST, FIRST + accounts)
    added = np.zeros(accounts, NAMED_RECORD)
    added["kind"], added["account"] = matchbox.Kind.ADD_ACCOUNT, numbers
    added["name"] = np.char.add(b"a", numbers.astype("S11"))
    sequence = _send(session, added.view(COMMAND))
    for asset in range(1, len(ASSETS) + 1):
        funded = np.zeros(accounts, MONEY_RECORD)
        funded["kind"], funded["asset"] = matchbox.Kind.TRANSFER, asset
        funded["account"], funded["counter_account"] = 1, numbers
        # The first account keeps a half.
        funded["amount"] = _ALL_UNITS // (2 * accounts)
        sequence = _send(session, funded.view(COMMAND))
    return session, sequence


def _send(session: matchbox.Session, records: NDArray[Any]) -> int:
    """Send them all; the sequence of the last one's answer. SystemExit if one is refused."""
    done, last, sequence = 0, session.sent, 0
    while done < len(records) or last < session.sent:
        if done < len(records) and session.sent - last < 2 * _BATCH:
            session.submit(records[done : done + _BATCH])
            done += _BATCH
        found = session.reports(1 << 18, timeout=1.0)
        if (found["kind"] == matchbox.EventKind.REJECTED).any():
            raise SystemExit(f"refused: {found[found['kind'] == matchbox.EventKind.REJECTED][0]}")
        if len(found):
            last = int(found["command_position"].max())
            sequence = int(found["sequence"].max())
    return sequence


def name_accounts(commands: NDArray[Any], accounts: int, seed: int) -> None:
    """Give each new order an account, and each other command that of its order."""
    chosen = np.random.default_rng(seed).integers(
        FIRST, FIRST + accounts, len(commands), dtype=np.uint32
    )
    named = commands["order_id"] > 0
    commands["account"] = chosen
    commands["account"][named] = chosen[commands["order_id"][named].astype(np.int64) - 1]
