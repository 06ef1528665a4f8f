"""Plant each bug of bugs.toml in a copy of the tree, build it, and see which test finds it.

    python -m tests.planted                 all bugs
    python -m tests.planted NAME...         these
    python -m tests.planted -k fee          those whose name has "fee" in it

Exit status 1 if a bug survives, does not fit its file any more, or does not compile.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.planted import tree
from tests.planted.bugs import Bug, DoesNotFit, read

RESULTS = tree.PLACE / "results.json"
LIMIT_SECONDS = 600.0  # a test that hangs has found something


def run(arguments: Sequence[str] | None = None) -> int:
    """Plant what is asked for; the exit status."""
    given = _parser().parse_args(arguments)
    bugs = [bug for bug in read() if _wanted(bug, given)]
    unknown = set(given.names) - {bug.name for bug in bugs}
    if unknown or not bugs:
        print(f"no such bug: {', '.join(sorted(unknown)) or given.k}", file=sys.stderr)
        return 2
    if given.list:
        for bug in bugs:
            print(f"{bug.name:36}{bug.does}")
        return 0
    print(f"seed {given.seed}; the suite without any bug:", flush=True)
    clean = tree.prepare()
    before = _earlier(tree.digest(clean)) if given.resume else {}
    failed = _suite(tree.plant(None), sorted({t for b in bugs for t in b.caught_by}), given.seed)
    if failed:
        print(f"FAILS: {failed}")
        return 1
    results = dict(before)
    for bug in bugs:
        if bug.name not in results:
            results[bug.name] = _try(bug, given.seed)
            _keep(tree.digest(clean), results)
    return _sum_up({bug.name: results[bug.name] for bug in bugs})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.planted",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="which bugs (default: all)")
    parser.add_argument("-k", default="", help="those whose name contains this")
    parser.add_argument("--list", action="store_true", help="say what there is, and plant nothing")
    parser.add_argument(
        "--resume", action="store_true", help="leave out what was caught before in these sources"
    )
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().getrandbits(32), help="of all tests"
    )
    return parser


def _wanted(bug: Bug, given: argparse.Namespace) -> bool:
    return (not given.names or bug.name in given.names) and given.k in bug.name


def _try(bug: Bug, seed: int) -> str:
    """Plant one; what came of it, as text, "caught by ..." if all is well. Printed, too."""
    began = time.monotonic()
    try:
        found = _suite(tree.plant(bug), list(bug.caught_by), seed)
        result = f"caught by {found}" if found else "SURVIVED"
    except DoesNotFit as error:
        result = f"DOES NOT FIT: {error}"
    except tree.DoesNotBuild as error:
        result = f"DOES NOT COMPILE: {error}"
    print(f"{time.monotonic() - began:6.1f} s  {bug.name:36}{result}", flush=True)
    return result


def _suite(place: Path, tests: list[str], seed: int) -> str:
    """Run tests in a tree until one fails; which one, or ""."""
    environment = {**os.environ, "MATCHBOX_TEST_SEED": str(seed), "PYTHONUNBUFFERED": "1"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-m", "pytest", "-x", "-v", "--tb=line", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, *tests],
            cwd=place,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_SECONDS,
        )
        output, end = done.stdout.decode(errors="replace"), done.returncode
    except subprocess.TimeoutExpired as error:
        output, end = (error.stdout or b"").decode(errors="replace"), None
    if end == 0:
        return ""
    started = re.findall(r"^(tests/\S+::\S+)", output, re.MULTILINE)
    if end not in (None, 1) and (end > 0 or not started):
        raise SystemExit(f"pytest did not run: exit status {end}\n{output[-4000:]}")
    how = "" if end == 1 else ", which hangs" if end is None else f", which dies of signal {-end}"
    return started[-1] + how if started else "collection"


# ---- results -------------------------------------------------------------------------------------


def _earlier(digest: str) -> dict[str, str]:
    """What was caught in an earlier run in the same sources."""
    if not RESULTS.exists():
        return {}
    kept = json.loads(RESULTS.read_text())
    caught = {name: r for name, r in kept["results"].items() if r.startswith("caught by ")}
    return caught if kept["sources"] == digest else {}


def _keep(digest: str, results: dict[str, str]) -> None:
    RESULTS.write_text(json.dumps({"sources": digest, "results": results}, indent=1) + "\n")


def _sum_up(results: dict[str, str]) -> int:
    failed = [name for name, result in results.items() if not result.startswith("caught by ")]
    print(f"{len(results) - len(failed)} of {len(results)} bugs caught")
    for name in failed:
        print(f"  {name}: {results[name].splitlines()[0]}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(run())
