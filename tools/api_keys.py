"""What `matchbox key` does: keys of the gateway, made and ended by the operator.

The keys stand in the data folder, and only the user whose it is can read or change them. The
exchange need not run; then accounts are those of its configuration.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from matchbox.gateway.keys import Key, KeyKind, Keys, Permission
from matchbox.shm.connect import look
from matchbox.shm.errors import BadArgument, EngineDown
from matchbox.tools.config import load
from matchbox.tools.folder import read_status
from matchbox.tools.operate import Accounts, show_table
from matchbox.tools.recordview import format_time
from matchbox.tools.run import find_data

_DAY_MS = 86_400_000


def create(
    exchange: str,
    account: str,
    *,
    permissions: list[str],
    addresses: list[str],
    label: str,
    days: int,
    pem: str | None,
    as_json: bool,
) -> None:
    """A new key."""
    wanted = tuple(_permission(each) for each in permissions)
    with _keys(exchange) as (keys, data):
        accounts = _accounts(data)
        number = accounts.number(account)
        if number not in {int(row["number"]) for row in accounts.rows}:
            raise BadArgument(f"no such account: account={account}")
        key = keys.create(
            number,
            kind=KeyKind.HMAC if pem is None else _kind(pem),
            public_key=pem or "",
            permissions=wanted,
            addresses=tuple(addresses),
            label=label,
            expires_ms=int(time.time() * 1000) + days * _DAY_MS if days else 0,
        )
        row = _row(key, accounts)
    hmac = key.kind is KeyKind.HMAC
    if as_json:
        print(json.dumps(row | ({"secret": key.secret} if hmac else {})))
        return
    print(f"API key     {key.id}")
    if hmac:
        print(f"secret      {key.secret}   (shown this once)")
    print(f"account     {row['account']} ({row['name']}); may {', '.join(row['permissions'])}")


def show(exchange: str, account: str, *, as_json: bool) -> None:
    """All keys, or those of an account."""
    with _keys(exchange) as (keys, data):
        accounts = _accounts(data)
        found = keys.all(accounts.number(account) if account else 0)
        rows = [_row(key, accounts) for key in found]
    if as_json:
        for row in rows:
            print(json.dumps(row))
        return
    show_table(
        ("key", "account", "kind", "may", "from", "expires", "state", "label"),
        [
            [
                row["key"],
                row["name"],
                row["kind"],
                ",".join(row["permissions"]),
                ",".join(row["addresses"]) or "anywhere",
                _time(row["expires_ms"]) or "never",
                row["state"],
                row["label"],
            ]
            for row in rows
        ],
        left=8,
    )


def disable(exchange: str, key_id: str, *, disabled: bool = True) -> None:
    with _keys(exchange) as (keys, _):
        keys.disable(key_id, disabled)
    print(f"API key {key_id} is {'disabled' if disabled else 'enabled'}.")


def delete(exchange: str, key_id: str) -> None:
    with _keys(exchange) as (keys, _):
        keys.delete(key_id)
    print(f"API key {key_id} is deleted.")


@contextmanager
def _keys(exchange: str) -> Iterator[tuple[Keys, Path]]:
    data = find_data(exchange)
    keys = Keys(data)
    try:
        yield keys, data
    finally:
        keys.close()


def _accounts(data: Path) -> Accounts:
    """As the exchange has them if it runs, else as its configuration does."""
    try:
        return Accounts(look(data).accounts())
    except EngineDown:
        path = read_status(data).get("config")
        rows = load(path).accounts if path else ()
        return Accounts({"number": a.number, "name": a.name, "parent": a.parent} for a in rows)


def _row(key: Key, accounts: Accounts) -> dict[str, Any]:
    now_ms = int(time.time() * 1000)
    state = "disabled" if key.disabled else "expired" if key.expired(now_ms) else "active"
    return {
        "key": key.id,
        "account": key.account,
        "name": accounts.name(key.account),
        "kind": key.kind.value,
        "permissions": [each.value for each in key.permissions],
        "addresses": list(key.addresses),
        "label": key.label,
        "created_ms": key.created_ms,
        "expires_ms": key.expires_ms,
        "state": state,
    }


def _permission(text: str) -> Permission:
    try:
        return Permission(text)
    except ValueError:
        raise BadArgument(
            f"no such permission: permission={text}; allowed: {', '.join(Permission)}"
        ) from None


def _kind(pem: str) -> KeyKind:
    """By what is in it; keys.py checks the rest."""
    try:
        found = serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadArgument(f"not a public key as PEM: {error}") from None
    return KeyKind.ED25519 if isinstance(found, Ed25519PublicKey) else KeyKind.RSA


def _time(milliseconds: int) -> str:
    return format_time(milliseconds * 1_000_000) if milliseconds else ""
