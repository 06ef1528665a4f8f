"""`matchbox key`: the API keys of the gateway."""

from pathlib import Path

import typer

_EXCHANGE = typer.Argument(
    ..., metavar="EXCHANGE", help="An instance's name, its data folder or configuration."
)
_KEY = typer.Argument(..., metavar="KEY", help="Its id.")
_JSON = typer.Option(False, "--json", help="One JSON object a line.")


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="API keys: who may do what through the gateway.", no_args_is_help=True)
    for name, action in (
        ("create", create),
        ("list", list_keys),
        ("disable", disable),
        ("enable", enable),
        ("delete", delete),
    ):
        group.command(name)(action)
    app.add_typer(group, name="key")


def create(
    exchange: str = _EXCHANGE,
    account: str = typer.Argument(..., metavar="ACCOUNT", help="Name or number."),
    permission: list[str] = typer.Option(
        ["read", "trade"],
        "--permission",
        metavar="WHAT",
        help="read, trade or withdraw; once for each.",
    ),
    address: list[str] = typer.Option(
        [],
        "--address",
        metavar="NETWORK",
        show_default=False,
        help="Where it may be used from, such as 192.0.2.0/24; once for each; none: anywhere.",
    ),
    label: str = typer.Option("", metavar="TEXT", help="What it is for."),
    days: int = typer.Option(
        0, "--days", min=0, max=36500, help="It expires after so many days; 0: never."
    ),
    public_key: Path | None = typer.Option(
        None,
        "--public-key",
        metavar="FILE",
        show_default=False,
        help="An Ed25519 or RSA public key as PEM; without: an HMAC key with a secret.",
    ),
    as_json: bool = _JSON,
) -> None:
    """Make a key for an account; the secret of an HMAC key is shown this once.

    For the user that runs the exchange, whether that runs or not.
    """
    from matchbox.tools import api_keys

    pem = None if public_key is None else public_key.read_text()
    api_keys.create(
        exchange,
        account,
        permissions=permission,
        addresses=address,
        label=label,
        days=days,
        pem=pem,
        as_json=as_json,
    )


def list_keys(
    exchange: str = _EXCHANGE,
    account: str = typer.Option("", metavar="ACCOUNT", help="Of this account alone."),
    as_json: bool = _JSON,
) -> None:
    """List the keys, without their secrets."""
    from matchbox.tools import api_keys

    api_keys.show(exchange, account, as_json=as_json)


def disable(exchange: str = _EXCHANGE, key: str = _KEY) -> None:
    """Have a key accepted no more, from the next request on."""
    from matchbox.tools import api_keys

    api_keys.disable(exchange, key)


def enable(exchange: str = _EXCHANGE, key: str = _KEY) -> None:
    """Have a key accepted again that was disabled."""
    from matchbox.tools import api_keys

    api_keys.disable(exchange, key, disabled=False)


def delete(exchange: str = _EXCHANGE, key: str = _KEY) -> None:
    """Remove a key for good."""
    from matchbox.tools import api_keys

    api_keys.delete(exchange, key)
