"""`matchbox deposit`, `withdraw`, `transfer`, `account`: money, and whose it is."""

import typer

_EXCHANGE = typer.Argument(
    ..., metavar="EXCHANGE", help="An instance's name, its data folder or configuration."
)
_ACCOUNT = typer.Argument(..., metavar="ACCOUNT", help="Name or number.")
_ASSET = typer.Argument(..., metavar="ASSET", help="Name, such as USDT.")
_AMOUNT = typer.Argument(..., metavar="AMOUNT", help="Of whole assets, such as 250.00.")
_REFERENCE = typer.Option(
    ..., metavar="TEXT", help="Names the movement outside the exchange; can be used once."
)
_NOTE = typer.Option("", metavar="TEXT", help="Why; up to 24 characters, kept in the log.")
_JSON = typer.Option(False, "--json", help="One JSON object.")


def register(app: typer.Typer) -> None:
    withdraw = typer.Typer(
        help="Take money out: hold it, then settle or cancel.", no_args_is_help=True
    )
    account = typer.Typer(help="Accounts: what they have, and may do.", no_args_is_help=True)
    app.command()(deposit)
    for command in (request, settle, cancel):
        withdraw.command()(command)
    withdraw.command("list")(list_withdrawals)
    app.add_typer(withdraw, name="withdraw")
    app.command()(transfer)
    for name, action in (
        ("list", list_accounts),
        ("show", show_account),
        ("add", add_account),
        ("set", set_account),
    ):
        account.command(name)(action)
    app.add_typer(account, name="account")


def deposit(
    exchange: str = _EXCHANGE,
    account: str = _ACCOUNT,
    asset: str = _ASSET,
    amount: str = _AMOUNT,
    reference: str = _REFERENCE,
    note: str = _NOTE,
    as_json: bool = _JSON,
) -> None:
    """Credit an account with what has arrived.

    Exit status 1 if it is refused. A reference that was used before is refused and changes nothing:
    who does not know whether a deposit was done, does it again.
    """
    from matchbox.shm import commands
    from matchbox.shm.records import Kind
    from matchbox.tools import operate

    operate.show_balances(
        exchange,
        lambda known, accounts: commands.money(
            Kind.DEPOSIT, known, accounts.number(account), asset, amount, None, reference, note
        ),
        as_json=as_json,
    )


def request(
    exchange: str = _EXCHANGE,
    account: str = _ACCOUNT,
    asset: str = _ASSET,
    amount: str = _AMOUNT,
    reference: str = _REFERENCE,
    as_json: bool = _JSON,
) -> None:
    """Hold an amount for a withdrawal, on behalf of the account."""
    from matchbox.shm import commands
    from matchbox.shm.records import Kind
    from matchbox.tools import operate

    operate.show_balances(
        exchange,
        lambda known, accounts: commands.money(
            Kind.REQUEST_WITHDRAWAL,
            known,
            accounts.number(account),
            asset,
            amount,
            None,
            reference,
        ),
        as_json=as_json,
    )


def settle(
    exchange: str = _EXCHANGE,
    account: str = _ACCOUNT,
    reference: str = _REFERENCE,
    note: str = _NOTE,
    as_json: bool = _JSON,
) -> None:
    """What is held under the reference has left the exchange."""
    _end_withdrawal("SETTLE_WITHDRAWAL", exchange, account, reference, note, as_json)


def cancel(
    exchange: str = _EXCHANGE,
    account: str = _ACCOUNT,
    reference: str = _REFERENCE,
    note: str = _NOTE,
    as_json: bool = _JSON,
) -> None:
    """What is held under the reference is free again."""
    _end_withdrawal("CANCEL_WITHDRAWAL", exchange, account, reference, note, as_json)


def list_withdrawals(
    exchange: str = _EXCHANGE,
    as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
) -> None:
    """List the withdrawals that wait, oldest first, and where they are to go.

    What clients of the gateway said of it; of others' requests no address is known.
    """
    from matchbox.tools import withdrawals

    withdrawals.show(exchange, as_json=as_json)


def _end_withdrawal(
    kind: str, exchange: str, account: str, reference: str, note: str, as_json: bool
) -> None:
    from matchbox.shm import commands
    from matchbox.shm.records import Kind
    from matchbox.tools import operate

    operate.show_balances(
        exchange,
        lambda known, accounts: commands.withdrawal(
            Kind[kind], accounts.number(account), reference, note
        ),
        as_json=as_json,
    )


def transfer(
    exchange: str = _EXCHANGE,
    source: str = typer.Argument(..., metavar="FROM", help="Account: name or number."),
    to: str = typer.Argument(..., metavar="TO", help="Account: name or number."),
    asset: str = _ASSET,
    amount: str = _AMOUNT,
    reference: str = typer.Option("", metavar="TEXT", help="If given, it can be used once."),
    note: str = _NOTE,
    as_json: bool = _JSON,
) -> None:
    """Move money from one account to another."""
    from matchbox.shm import commands
    from matchbox.tools import operate

    operate.show_balances(
        exchange,
        lambda known, accounts: commands.transfer(
            known,
            accounts.number(source),
            accounts.number(to),
            asset,
            amount,
            None,
            reference,
            note,
        ),
        answers=2,
        as_json=as_json,
    )


def list_accounts(exchange: str = _EXCHANGE, as_json: bool = _JSON) -> None:
    """List the accounts."""
    from matchbox.tools import operate

    operate.show_accounts(exchange, as_json=as_json)


def show_account(exchange: str = _EXCHANGE, account: str = _ACCOUNT, as_json: bool = _JSON) -> None:
    """Show what an account has free and held of each asset."""
    from matchbox.tools import operate

    operate.show_account(exchange, account, as_json=as_json)


def add_account(
    exchange: str = _EXCHANGE,
    name: str = typer.Argument(..., metavar="NAME", help="What a bot names when it attaches."),
    number: int | None = typer.Option(
        None, "--id", metavar="NUMBER", help="Its number; left out: one that was never given."
    ),
    parent: str = typer.Option(
        "", metavar="ACCOUNT", help="Name or number of the account that it is a sub-account of."
    ),
    as_json: bool = _JSON,
) -> None:
    """Add an account to the running exchange, for the user that runs it."""
    from matchbox.tools import define

    define.add_account(exchange, name, number, parent, as_json=as_json)


def set_account(
    exchange: str = _EXCHANGE,
    account: str = _ACCOUNT,
    state: str = typer.Option("", metavar="STATE", help="active, cancel-only or frozen."),
    tier: str = typer.Option("", metavar="TIER", help="Fee tier: 0 to 9, or by-volume."),
    cancel_orders: bool = typer.Option(
        False, "--cancel-orders", help="Kill switch: cancel all of its orders."
    ),
    note: str = typer.Option("", metavar="TEXT", help="Why; up to 36 characters."),
    as_json: bool = _JSON,
) -> None:
    """Set what an account may do, and its fee tier; what is left out stays."""
    from matchbox.shm import commands
    from matchbox.tools import operate

    wanted: int | str | None = int(tier) if tier.isdecimal() else operate.choice(tier)
    operate.show_done(
        exchange,
        lambda known, accounts: commands.set_account(
            accounts.number(account), operate.choice(state), wanted, cancel_orders, note
        ),
        f"Account {account} is set.",
        as_json=as_json,
    )
