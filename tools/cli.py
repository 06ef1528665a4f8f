"""The command line: `matchbox COMMAND`.

Each group of commands is a module of its own, listed in GROUPS, with a function `register(app)`
that adds its commands. Such a module holds signatures and help texts and imports nothing large;
what a command needs is imported inside it, so that `matchbox --help` is quick.

Exit status: 0 done, 1 it went wrong or a check failed, 2 the command line is not valid.
"""

import importlib
import os
import sys

import typer

from matchbox.shm.errors import MatchboxError

GROUPS = (
    "commands_instance",  # up, down, status, ring
    "commands_money",  # deposit, withdraw, transfer, account
    "commands_asset",  # asset
    "commands_market",  # market, fees
    "commands_order",  # order, book
    "commands_key",  # key
    "commands_flow",  # replay
    "commands_journal",  # log
    "commands_backup",  # verify, backup, restore
    "commands_past",  # at, replay-log, capture, reproduce
    "commands_snapshot",  # snapshot
    "commands_archive",  # archive, pull
    "commands_reconcile",  # reconcile
    "commands_drill",  # drill
    "commands_bench",  # bench
)


def make_app() -> typer.Typer:
    """The application with the commands of all groups."""
    app = typer.Typer(
        name="matchbox",
        help="Matchbox: a crypto exchange in one box.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )

    @app.callback()
    def options(
        version: bool = typer.Option(
            False, "--version", callback=_show_version, is_eager=True, help="Show the version."
        ),
    ) -> None:
        pass

    for group in GROUPS:
        importlib.import_module(f"matchbox.tools.{group}").register(app)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        import matchbox

        print(f"matchbox {matchbox.__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command of sys.argv; the entry point of the console script."""
    try:
        try:
            make_app()()
        finally:
            sys.stdout.flush()
    except MatchboxError as error:
        print(f"matchbox: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has left, such as `head`; say nothing, now or at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    main()
