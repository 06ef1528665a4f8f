"""What all tests share: soak selection, seeds, unique names in /dev/shm, compiled C, plain memory.

Soak tests run only when asked for by mark (`pytest -m soak`, `make soak`). Each says in its mark
what it counts: `@pytest.mark.soak("records")`. The environment may set

    MATCHBOX_SOAK_COUNT    how many of these (default: the test's own number); tests that count
                           different things cannot be run with one count
    MATCHBOX_SOAK_SECONDS  an upper limit for tests that can end early
    MATCHBOX_TEST_SEED     the seed to replay; each test that uses one prints it
"""

import hashlib
import mmap
import os
import random
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHM = Path("/dev/shm")
# At the end: `benchmarks` and `tests` can be imported, and nothing installed is hidden.
sys.path.append(str(ROOT))

# Part of the name of everything this run makes in /dev/shm, so that runs do not see each other's.
# Processes among which a run is divided (pytest -n) have one of their own each, which begins alike.
ALL = os.environ.setdefault("MATCHBOX_TEST_RUN", f"t{os.getpid()}r")
RUN = f"{ALL}{os.environ.get('PYTEST_XDIST_WORKER', '')}x"
_numbers = count()


# Last, so that -m and -k have picked before.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave soak tests out unless -m says what to run."""
    marks = {item: item.get_closest_marker("soak") for item in items}
    soak = [item for item in items if marks[item]]
    if config.option.markexpr:
        if os.environ.get("MATCHBOX_SOAK_COUNT"):
            _check_units({mark.args[0]: item.nodeid for item, mark in marks.items() if mark})
    elif soak:
        config.hook.pytest_deselected(items=soak)
        items[:] = [item for item in items if item not in soak]


def _check_units(units: dict[str, str]) -> None:
    """One count for things as different as records and kills would be wrong for one of them."""
    if len(units) > 1:
        counted = "".join(f"\n  {unit}: {test}" for unit, test in sorted(units.items()))
        raise pytest.UsageError(
            f"the count is one number, but these tests count different things; name the one that "
            f"is meant (make soak COUNT=1e6 ARGS=tests/simulation){counted}"
        )


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """The suite leaves nothing of its own in /dev/shm: remove what is there, and fail for it."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # the others are not done
    left = _left_in_shm(ALL)
    if left:
        print(f"\nleft in /dev/shm by this run: {', '.join(left)}", file=sys.stderr)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _left_in_shm(part: str) -> list[str]:
    """Names in /dev/shm that contain `part`; the files are gone afterwards."""
    names = sorted(path.name for path in SHM.iterdir() if part in path.name)
    for name in names:
        (SHM / name).unlink(missing_ok=True)
    return names


@pytest.fixture
def unique_name() -> Iterator[Callable[[], str]]:
    """Gives names for instances and segments that no other run uses, and removes what has them.

    A name is short, lower case, without a slash; "/matchbox-NAME-..." in /dev/shm is cleaned up.
    """
    made: list[str] = []

    def name() -> str:
        made.append(f"{RUN}{next(_numbers)}e")
        return made[-1]

    yield name
    for part in made:
        _left_in_shm(part)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A random seed, printed; MATCHBOX_TEST_SEED replays one."""
    value = int(os.environ.get("MATCHBOX_TEST_SEED") or random.SystemRandom().getrandbits(48))
    print(f"replay with: MATCHBOX_TEST_SEED={value} pytest '{request.node.nodeid}'")
    return value


@pytest.fixture(scope="session")
def soak_count() -> Callable[[int], int]:
    """soak_count(default): how many of what its mark names a soak test is to do."""
    return lambda default: int(float(os.environ.get("MATCHBOX_SOAK_COUNT") or default))


@pytest.fixture(scope="session")
def soak_seconds() -> Callable[[float], float]:
    """soak_seconds(default): after how long a soak test is to end, if it has not done its count."""
    return lambda default: float(os.environ.get("MATCHBOX_SOAK_SECONDS") or default)


Compile = Callable[..., Path]


@pytest.fixture(scope="session")
def compile_c(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """compile_c(source, *flags, language="c"): the program made from a file, or from a text.

    `shm/` is on the include path. Skips the test if there is no compiler; fails it, with the
    compiler's words, if the source does not compile.
    """
    folder = tmp_path_factory.mktemp("compiled")
    done: dict[str, Path] = {}

    def compile_one(source: Path | str, *flags: str, language: str = "c") -> Path:
        variable, names = {"c": ("CC", ("cc", "gcc")), "c++": ("CXX", ("c++", "g++"))}[language]
        chosen = shlex.split(os.environ.get(variable, ""))
        compiler = chosen or [name for name in names if shutil.which(name)][:1]
        if not compiler:
            pytest.skip(f"no {language} compiler (set {variable}, or install {names[0]})")
        key = hashlib.sha256("\0".join((str(source), *flags, language)).encode()).hexdigest()[:16]
        if key in done:
            return done[key]
        if isinstance(source, str):
            text, source = source, folder / f"{key}.{'c' if language == 'c' else 'cpp'}"
            source.write_text(text)
        program = folder / f"{source.stem}-{key}"
        command = [*compiler, "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'shm'}", str(source)]
        command += [*flags, "-o", str(program)]
        if not any(flag.startswith("-O") for flag in flags):
            command.append("-O2")
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, f"{shlex.join(command)}\n{result.stderr}"
        done[key] = program
        return program

    return compile_one


@pytest.fixture
def memory() -> Iterator[Callable[[int], mmap.mmap]]:
    """memory(size): zeroed, page-aligned, writable memory, shared with child processes."""
    yield lambda size: mmap.mmap(-1, size)
