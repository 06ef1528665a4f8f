"""Deposits and withdrawals over REST, under /sapi/v1/capital.

A withdrawal is asked for here: its amount is held, under a reference that is made of the account
and what the client calls it, so that the same one is not taken twice. An operator sends it on and
settles it, or cancels it (docs/operations.md). Deposits are an operator's, too.

History comes from the views, as that of orders; newest first, as at the venue.
"""

import hashlib
import secrets
from datetime import UTC, datetime
from typing import Any

import numpy as np

from matchbox.gateway.decimals import parse
from matchbox.gateway.desk import Desk
from matchbox.gateway.destinations import Destination, Destinations
from matchbox.gateway.endpoints import Call, Endpoint, Security
from matchbox.gateway.errors import invalid, refused
from matchbox.gateway.history import History
from matchbox.gateway.keys import Permission
from matchbox.gateway.markets import Markets
from matchbox.gateway.parameters import (
    AMOUNT,
    TIME,
    Choice,
    Form,
    Limit,
    Parameter,
    Text,
    Whole,
)
from matchbox.gateway.spot import answered
from matchbox.shm.market import Asset
from matchbox.shm.records import MAX_ASSET_UNITS, MONEY_RECORD, EventKind, Kind

_COIN = Text(r"^[A-Za-z0-9._-]{1,36}$")
_WORDS = Text(r"^[!-~]{1,256}$")
_CANCELED, _PROCESSING, _COMPLETED = "1", "4", "6"
_DEPOSITED = "1"
_HISTORY = (
    Parameter("coin", _COIN),
    Parameter("startTime", TIME),
    Parameter("endTime", TIME),
    Parameter("offset", Whole(0, 100_000)),
    Parameter("limit", Limit(1000, 1000)),
)
_DEPOSITS = Form(*_HISTORY, Parameter("status", Choice(*"01234567")))
_WITHDRAWALS = Form(
    *_HISTORY,
    Parameter("status", Choice(*"0123456")),
    Parameter("withdrawOrderId", _WORDS, about="what the client called it"),
)
_APPLY = Form(
    Parameter("coin", _COIN, required=True),
    Parameter("address", _WORDS, required=True),
    Parameter("amount", AMOUNT, required=True),
    Parameter("network", _COIN, about="none but the coin's name"),
    Parameter("addressTag", _WORDS),
    Parameter("withdrawOrderId", Text(r"^[!-~]{1,64}$"), about="the same is not taken twice"),
)


class Funds:
    """What the endpoints do. On one event loop."""

    def __init__(
        self, desk: Desk, markets: Markets, history: History, destinations: Destinations
    ) -> None:
        self._desk, self._markets, self._history = desk, markets, history
        self._destinations = destinations

    def endpoints(self) -> list[Endpoint]:
        """All of them."""
        signed, capital = Security.SIGNED, "/sapi/v1/capital"
        return [
            Endpoint(
                "GET",
                f"{capital}/deposit/hisrec",
                self.deposits,
                _DEPOSITS,
                signed,
                about="What was paid in, newest first.",
            ),
            Endpoint(
                "GET",
                f"{capital}/withdraw/history",
                self.withdrawals,
                _WITHDRAWALS,
                signed,
                weight=18,
                about="What was asked to be paid out, newest first.",
            ),
            Endpoint(
                "POST",
                f"{capital}/withdraw/apply",
                self.withdraw,
                _APPLY,
                signed,
                Permission.WITHDRAW,
                changes=True,
                about="Ask for a withdrawal; the amount is held.",
            ),
        ]

    async def _coin(self, name: str) -> Asset:
        """Raises ApiError."""
        symbols = await self._markets.symbols(fresh=True)
        for asset in symbols.assets.values():
            if asset.name == name:
                return asset
        raise invalid("coin")

    # -- asking

    async def deposits(self, call: Call) -> list[dict[str, Any]]:
        found = await self._movements(call, (Kind.DEPOSIT,))
        return _chosen(call, [(_ms(row), _deposit(row, asset)) for row, asset in found])

    async def withdrawals(self, call: Call) -> list[dict[str, Any]]:
        kinds = (Kind.REQUEST_WITHDRAWAL, Kind.SETTLE_WITHDRAWAL, Kind.CANCEL_WITHDRAWAL)
        ends: dict[bytes, Any] = {}
        rows: list[tuple[int, dict[str, Any]]] = []
        for row, asset in await self._movements(call, kinds):
            # Newest first: the end of one comes before its request.
            if row["kind"] != Kind.REQUEST_WITHDRAWAL:
                ends[row["reference"]] = row
                continue
            end = ends.get(row["reference"])
            rows.append((_ms(row), self._withdrawal(call.account, row, asset, end)))
        wanted = call.values["withdrawOrderId"]
        if wanted is not None:
            rows = [row for row in rows if row[1]["withdrawOrderId"] == wanted]
        return _chosen(call, rows)

    def _withdrawal(self, account: int, row: Any, asset: Asset, end: Any) -> dict[str, Any]:
        found = self._destinations.get(account, row["note"].decode())
        found = found or Destination("", network=asset.name)
        status = _PROCESSING
        if end is not None:
            status = _COMPLETED if end["kind"] == Kind.SETTLE_WITHDRAWAL else _CANCELED
        return {
            "id": row["reference"].decode(),
            "amount": f"{asset.amount(int(row['amount'])):f}",
            "transactionFee": "0",
            "coin": asset.name,
            "status": int(status),
            "address": found.address,
            "addressTag": found.tag,
            "txId": "" if end is None else end["note"].decode(),
            "applyTime": _text(row),
            "network": found.network,
            "transferType": 0,
            "withdrawOrderId": found.order_id,
            "info": "",
            "confirmNo": 0,
            "walletType": 0,
            "txKey": "",
            **({} if end is None else {"completeTime": _text(end)}),
        }

    async def _movements(self, call: Call, kinds: tuple[Kind, ...]) -> list[tuple[Any, Asset]]:
        """The account's movements of some kinds with their assets, newest first."""
        values = call.values
        symbols = await self._markets.symbols(fresh=True)
        if values["coin"] is not None:
            await self._coin(values["coin"])
        rows = await self._history.movements(call.account, kinds, values["startTime"])
        found = ((row, symbols.assets.get(int(row["asset"]))) for row in rows)
        return [
            (row, asset)
            for row, asset in found
            if asset is not None and values["coin"] in (None, asset.name)
        ]

    # -- withdrawing

    async def withdraw(self, call: Call) -> dict[str, Any]:
        values = call.values
        asset = await self._coin(values["coin"])
        if values["network"] not in (None, asset.name):
            raise invalid("network")
        units = parse(values["amount"], asset.scale, "amount")
        if not 0 < units <= MAX_ASSET_UNITS:
            raise invalid("amount")
        name = values["withdrawOrderId"] or ""
        reference = _reference(call.account, name)
        destination = Destination(
            values["address"], values["addressTag"] or "", asset.name, order_id=name
        )
        digest = self._destinations.put(call.account, destination)
        record = np.zeros(1, MONEY_RECORD)
        record["kind"], record["account"] = Kind.REQUEST_WITHDRAWAL, call.account
        record["asset"], record["amount"] = asset.number, units
        record["reference"], record["note"] = reference.encode(), digest.encode()
        answer = await answered(self._desk.command(record))
        if answer.first.kind == EventKind.REJECTED:
            raise refused(answer.first.reason)
        return {"id": reference}


def _reference(account: int, name: str) -> str:
    """References are of all accounts: nobody is to take another's."""
    if not name:
        return secrets.token_hex(16)
    return hashlib.sha256(f"{account}:{name}".encode()).hexdigest()[:32]


def _deposit(row: Any, asset: Asset) -> dict[str, Any]:
    return {
        "id": str(int(row["sequence"])),
        "amount": f"{asset.amount(int(row['amount'])):f}",
        "coin": asset.name,
        "network": asset.name,
        "status": int(_DEPOSITED),
        "address": "",
        "addressTag": "",
        "txId": row["reference"].decode(),
        "insertTime": _ms(row),
        "completeTime": _ms(row),
        "transferType": 0,
        "confirmTimes": "1/1",
        "unlockConfirm": 1,
        "walletType": 0,
    }


def _chosen(call: Call, rows: list[tuple[int, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Those of a status and between two times; so many of them."""
    values = call.values
    start, end, status = (values[name] for name in ("startTime", "endTime", "status"))
    found = [
        row
        for at_ms, row in rows
        if (start is None or at_ms >= start)
        and (end is None or at_ms <= end)
        and (status is None or row["status"] == int(status))
    ]
    first = values["offset"] or 0
    return found[first : first + (values["limit"] or 1000)]


def _ms(row: Any) -> int:
    return int(row["timestamp_ns"]) // 1_000_000


def _text(row: Any) -> str:
    moment = datetime.fromtimestamp(int(row["timestamp_ns"]) // 1_000_000_000, UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S")
