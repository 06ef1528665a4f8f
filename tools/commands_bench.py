"""`matchbox bench`: run the benchmarks of a checkout."""

import runpy
import sys
from pathlib import Path

import typer

from matchbox.shm.errors import BadArgument

CHECKOUT = Path(__file__).resolve().parent.parent


def register(app: typer.Typer) -> None:
    @app.command(
        context_settings={"allow_extra_args": True, "allow_interspersed_args": False},
        epilog="Options after NAME go to the benchmark: matchbox bench NAME --help lists them.",
    )
    def bench(
        context: typer.Context,
        name: str = typer.Argument("", metavar="[NAME]", help="Which one; none: each in turn."),
        names: bool = typer.Option(False, "--list", help="List the benchmarks."),
    ) -> None:
        """Run a benchmark: prints a table, writes JSON and a PNG to benchmarks/results/."""
        known = benchmarks()
        if names:
            print("\n".join(known))
            return
        if name and name not in known:
            raise BadArgument(f"no such benchmark: name={name}, allowed={', '.join(known)}")
        failed = [each for each in ([name] if name else known) if not run(each, context.args)]
        if failed:
            raise typer.Exit(1)


def benchmarks(checkout: Path = CHECKOUT) -> list[str]:
    """Names of the benchmarks. Raises BadArgument where there is no checkout."""
    folder = checkout / "benchmarks"
    if not (folder / "report.py").exists():
        raise BadArgument(f"benchmarks run from a checkout of the sources: none at {checkout}")
    return sorted(p.stem for p in folder.glob("*.py") if '__name__ == "__main__"' in p.read_text())


def run(name: str, arguments: list[str]) -> bool:
    """Run one as `python -m benchmarks.NAME ARGUMENTS` would; whether it went well."""
    if str(CHECKOUT) not in sys.path:
        sys.path.append(str(CHECKOUT))
    before, sys.argv = sys.argv, [f"matchbox bench {name}", *arguments]
    try:
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    except SystemExit as end:
        if end.code:
            print(end.code if isinstance(end.code, str) else "", file=sys.stderr)
        return not end.code
    finally:
        sys.argv = before
    return True
